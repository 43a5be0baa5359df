"""Broken answers: what a proxy, a bug or an attacker puts in an answer's place once the request has taken effect."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from reconciler.simulator.answers import Answer

# What each variant does to an answer, for help texts. An id is a field named `id` or `…_id`.
VARIANTS = {
    "html": "a page of HTML with status 200, as a captive proxy sends",
    "empty": "status 200 and no body",
    "list": "the object stands in a list",
    "bare": "an object without fields",
    "sparse": "of every object only the ids are left, and what holds other objects",
    "wrong-types": "every text but the ids is a number, every number a text",
    "truncated": "the first half of the body",
    "deep": "a hundred thousand lists in one another",
    "no-id": "the ids are missing",
    "null-id": "the ids are null",
    "number-id": "the ids are numbers",
    "path-id": "the ids are the path ../x",
    "endless": "a body that goes on until the client hangs up",
    "gzip-bomb": "a small body that unpacks to gigabytes",
}
_PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to use this network.</body></html>"
)
_PIECE = b" " * 65536
_BOMB = 4 * 1024**3


@dataclass(frozen=True)
class Flood:
    """A body too large to be made beforehand. `packed`: with gzip, and with an end."""

    packed: bool = False

    async def parts(self, most: int | None) -> AsyncIterator[bytes]:
        """The body in pieces; the plain one ends after `most` bytes, the packed one once it unpacks to that much."""
        size = 0
        packer = zlib.compressobj(1, wbits=31)
        most = _BOMB if most is None and self.packed else most
        while most is None or size < most:
            size += len(_PIECE)
            piece = packer.compress(_PIECE) if self.packed else _PIECE
            if piece:
                yield piece
            # A server that is never idle does not notice that the client has gone.
            await asyncio.sleep(0)
        if self.packed:
            yield packer.flush()


def broken(variant: str, answer: Answer) -> Answer:
    """An answer as this variant breaks it. Answers without a body stay as they are where there is nothing to break."""
    match variant:
        case "html":
            return Answer(200, _PAGE, answer.headers, "text/html")
        case "empty":
            return Answer(200, None, answer.headers)
        case "list":
            return Answer(answer.status, [answer.body], answer.headers)
        case "bare":
            return Answer(answer.status, {}, answer.headers)
        case "truncated":
            content = answer.content()
            return Answer(answer.status, content[: len(content) // 2], answer.headers)
        case "deep":
            return Answer(answer.status, b"[" * 100_000 + b"]" * 100_000, answer.headers)
        case "endless":
            return Answer(answer.status, Flood(), answer.headers)
        case "gzip-bomb":
            return Answer(answer.status, Flood(packed=True), {**answer.headers, "Content-Encoding": "gzip"})
        case _:
            # A copy, since an answer may hold what the world holds.
            body = json.loads(answer.content() or b"null")
            return Answer(answer.status, _altered(body, _ALTERATIONS[variant]), answer.headers)


def _altered(value: object, alter: Callable[[str, object], object]) -> object:
    """The value with every field of every object put through `alter`; `_GONE` leaves the field out."""
    if isinstance(value, list):
        return [_altered(each, alter) for each in value]
    if not isinstance(value, dict):
        return value
    fields = {
        name: _altered(field, alter) if isinstance(field, dict | list) else alter(name, field)
        for name, field in value.items()
    }
    return {name: field for name, field in fields.items() if field is not _GONE}


_GONE = object()


def _is_id(name: str) -> bool:
    return name == "id" or name.endswith("_id")


def _wrong_type(name: str, value: object) -> object:
    if _is_id(name) or value is None:
        return value
    return 7 if isinstance(value, str) else str(value)


_ALTERATIONS: dict[str, Callable[[str, object], object]] = {
    "sparse": lambda name, value: value if _is_id(name) else _GONE,
    "wrong-types": _wrong_type,
    "no-id": lambda name, value: _GONE if _is_id(name) else value,
    "null-id": lambda name, value: None if _is_id(name) else value,
    "number-id": lambda name, value: 702364883651395584 if _is_id(name) else value,
    "path-id": lambda name, value: "../x" if _is_id(name) else value,
}
