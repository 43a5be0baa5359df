"""The journal's format: what happened since the document was last written, one checksummed line per write.

    {"journal": 1, "lineage": "…", "after": 41} 5d1c…      the header: which document it continues
    42 {"serial": 107, "servers": {…}} 9f3a…                frame 42: the records as they are from then on
    43 …

A frame holds whole records, so reading it twice changes nothing. Only what follows the last whole frame may be damaged:
that is a write which nobody was told to be durable. Anything else is an error, never a guess.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from reconciler.errors import StateError

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """Which document a journal continues: its lineage, and the number of the last frame that it holds."""

    lineage: str
    after: int


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal as it was read: the frames in order, and whether a torn write follows the last one."""

    header: Header
    frames: tuple[tuple[int, dict[str, Any]], ...]
    torn: bool = False

    @property
    def last(self) -> int:
        """The number of the last frame that is known, whether it is here or in the document."""
        return self.frames[-1][0] if self.frames else self.header.after


def encode_header(header: Header) -> bytes:
    """The first line of a journal."""
    text = json.dumps({"journal": _VERSION, "lineage": header.lineage, "after": header.after}, ensure_ascii=False)
    return _sealed(text.encode(), header.lineage)


def encode_frame(lineage: str, number: int, patch: dict[str, Any]) -> bytes:
    """One frame as a line."""
    text = json.dumps(patch, ensure_ascii=False, separators=(",", ":"))
    return _sealed(f"{number} {text}".encode(), lineage)


def decode_header(content: bytes, source: str) -> Header:
    """The header of a journal. Raises StateError: a header is whole from the moment its file has a name."""
    line = content.partition(b"\n")[0]
    try:
        fields = json.loads(line[: line.rindex(b" ")])
        header = Header(fields["lineage"], fields["after"])
        version = fields["journal"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(source, "its first line is no header") from None
    if version != _VERSION:
        raise StateError(f"{source} is of version {version!r}; this imgctl reads version {_VERSION}")
    if not isinstance(header.lineage, str) or not isinstance(header.after, int) or _open(line, header.lineage) is None:
        raise _damaged(source, "its first line is damaged")
    return header


def decode(content: bytes, source: str) -> Journal:
    """A whole journal. Raises StateError where anything but its end is damaged."""
    header = decode_header(content, source)
    lines = content.split(b"\n")[1:]
    frames: list[tuple[int, dict[str, Any]]] = []
    expected = header.after + 1
    for position, line in enumerate(lines):
        frame = _frame(line, header)
        if frame is None:
            if any(_frame(later, header) is not None for later in lines[position + 1 :]):
                raise _damaged(source, f"frame {expected} is damaged, and others follow it")
            return Journal(header, tuple(frames), torn=lines[position:] != [b""])
        if frame[0] != expected:
            raise _damaged(source, f"frame {expected} is missing; {frame[0]} stands in its place")
        frames.append(frame)
        expected += 1
    # The last write lacks its line end only: torn all the same, since the next frame would continue its line.
    return Journal(header, tuple(frames), torn=True)


def _frame(line: bytes, header: Header) -> tuple[int, dict[str, Any]] | None:
    """The number and patch of a line; None where it is no whole frame of this journal."""
    text = _open(line, header.lineage)
    if text is None:
        return None
    number, _, patch = text.partition(b" ")
    try:
        fields = json.loads(patch)
        return (int(number), fields) if isinstance(fields, dict) else None
    except (ValueError, RecursionError):
        return None


def _sealed(text: bytes, lineage: str) -> bytes:
    return text + b" " + _checksum(text, lineage) + b"\n"


def _open(line: bytes, lineage: str) -> bytes | None:
    """The text of a sealed line; None where the seal does not fit."""
    text, _, seal = line.rpartition(b" ")
    return text if text and seal == _checksum(text, lineage) else None


def _checksum(text: bytes, lineage: str) -> bytes:
    # The lineage goes in, so that a frame of another state never fits.
    return hashlib.blake2b(text, digest_size=12, key=hashlib.sha256(lineage.encode()).digest()).hexdigest().encode()


def _damaged(source: str, what: str) -> StateError:
    return StateError(
        f"{source} is damaged: {what}",
        hint="Restore the state and its journal together from a backup. Without its journal it lacks builds.",
    )
