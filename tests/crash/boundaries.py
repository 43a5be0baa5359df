"""Names for the instants at which a run can be cut off, and what each of them does to the disk.

    when:operation:kind:server:ordinal        before:write:journal:s2:1

`when` is before, after, or failed where the disk was full; `kind` is document, journal, lock, temporary, emergency or
folder; `server` the name of the server whose record a journal frame holds, or a dash. `ordinal` counts what is
otherwise named alike, so that the same run gives the same names whatever its timing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_KINDS = {".lock": "lock", ".journal": "journal", ".tmp": "temporary", ".emergency": "emergency"}


def kind_of(path: Path) -> str:
    """What a file of a state is, by its name."""
    return _KINDS.get(path.suffix, "document")


def servers_in(content: bytes) -> str:
    """The names of the servers that a journal frame is about, or a dash."""
    _, _, rest = content.partition(b" ")
    try:
        patch = json.loads(rest.rpartition(b" ")[0])
        records = [*patch.get("servers", {}).values(), *patch.get("retired", {}).values()]
        names = sorted({record["name"] for record in records if record is not None})
    except (ValueError, AttributeError, KeyError, TypeError):
        return "-"
    return "+".join(names) or "-"


@dataclass(frozen=True)
class Effect:
    """What an operation does to the disk once it has happened; `path` is a file's name inside the state's folder."""

    operation: str
    path: str
    target: str = ""
    content: bytes = b""
