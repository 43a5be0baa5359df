"""Reading the body of an answer: never more than we are ready to hold, whatever the peer sends."""

from __future__ import annotations

import zlib

import httpx

LARGEST_BODY = 16 * 1024 * 1024


async def read_body(response: httpx.Response) -> bytes:
    """The body, decoded; one byte more than the largest allowed where it is larger, and then read no further.

    httpx unpacks whatever came at once, however much that gives, and in as many layers as the answer says; here one
    layer of gzip is all that is asked for and taken, and never unpacked beyond the limit.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    packed = encoding in ("gzip", "x-gzip")
    if not packed and encoding not in ("", "identity"):
        raise httpx.DecodingError(f"{encoding} was not asked for")
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if packed else None
    body, limit = bytearray(), LARGEST_BODY + 1
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("the answer comes from a synchronous transport")
    try:
        async for part in stream:
            room = limit - len(body)
            body += part[:room] if unpacker is None else unpacker.decompress(part, room)
            if len(body) >= limit:
                return bytes(body)
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    if unpacker is not None and body and not unpacker.eof:
        raise httpx.DecodingError("the end is missing")
    return bytes(body)
