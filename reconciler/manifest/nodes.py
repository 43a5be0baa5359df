"""What a manifest file says, with the place of every key and value."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from reconciler.model.diagnostics import Origin

# A plain scalar that some YAML reader in use takes for something else than text. YAML 1.1 (PyYAML, Ansible) and YAML
# 1.2 (editors, Go) disagree about yes, 0o17, 1e3 and 12:30; what only one of them reads as text is not text here.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_OLD_BOOLEAN = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])*)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}[0-9.:+\-Zz \t]*)?")
# Says quickly of most text that it is text.
maybe_not_text = re.compile(
    r"[-+.~0-9]|(?:[nN]ull|NULL|[tT]rue|TRUE|[fF]alse|FALSE|[yY]es|YES|[nN]o|NO|[oO]n|ON|[oO]ff|OFF)$|$"
).match
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_SIMPLE_FLOAT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3})?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?")


class Opaque:
    """Stands for a scalar that is neither text nor a value that JSON has: no schema accepts it."""


OPAQUE = Opaque()


class Kind(StrEnum):
    """What a scalar is; the value is how a message calls it."""

    TEXT = "text"
    NULL = "nothing"
    BOOLEAN = "a boolean"
    NUMBER = "a number"
    DATE = "a date"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its name as the user would type it, and its lines."""

    file: str
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class Scalar:
    """One value, or one key. `plain` means without quotes; `line` and `column` count from 1.

    `data` is the value as JSON has it, OPAQUE where JSON has no such value or YAML readers disagree about it.
    """

    source: Source
    line: int
    column: int
    raw: str
    plain: bool
    data: object

    @property
    def kind(self) -> Kind:
        """What any YAML reader could take it for; text only if all of them agree."""
        return classify(self.raw) if self.plain else Kind.TEXT


@dataclass(slots=True)
class MapNode:
    """A map. An entry holds the node of its key and that of its value."""

    source: Source
    line: int
    column: int
    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)


@dataclass(slots=True)
class ListNode:
    """A list; no field of a manifest is one, so it only ever appears in an error."""

    source: Source
    line: int
    column: int
    items: list[Node] = field(default_factory=list)


Node: TypeAlias = Scalar | MapNode | ListNode


def classify(raw: str) -> Kind:
    """What an unquoted scalar is to any YAML reader in use."""
    # Text of this length is no number that anybody means, and patterns need not be tried on megabytes.
    if len(raw) > 256 or not maybe_not_text(raw):
        return Kind.TEXT
    if _NULL.fullmatch(raw):
        return Kind.NULL
    if _BOOLEAN.fullmatch(raw) or _OLD_BOOLEAN.fullmatch(raw):
        return Kind.BOOLEAN
    if _INTEGER.fullmatch(raw) or _FLOAT.fullmatch(raw):
        return Kind.NUMBER
    return Kind.DATE if _DATE.fullmatch(raw) else Kind.TEXT


def data_of(raw: str) -> object:
    """The value of an unquoted scalar, see Scalar."""
    match classify(raw):
        case Kind.TEXT:
            return raw
        case Kind.NULL:
            return None
        case Kind.BOOLEAN:
            return raw.lower() == "true" if _BOOLEAN.fullmatch(raw) else OPAQUE
        case Kind.NUMBER if _DECIMAL.fullmatch(raw):
            return int(raw)
        case Kind.NUMBER if _SIMPLE_FLOAT.fullmatch(raw) and not re.match(r"[-+]?0[0-9]", raw):
            value = float(raw)
            return value if abs(value) < 1e300 else OPAQUE
        case _:
            return OPAQUE


def origin_of(node: Node) -> Origin:
    """The node's place for messages."""
    return Origin(node.source.file, node.line, node.column)


def quoted(scalar: Scalar) -> str:
    """The scalar as it would stand in quotes, character for character as it was written."""
    return json.dumps(scalar.raw, ensure_ascii=False)


def text_of(node: Node | None) -> str | None:
    """The text of a node, None where it is absent or not text."""
    return node.data if isinstance(node, Scalar) and isinstance(node.data, str) else None


def integer_of(node: Node | None) -> int | None:
    """The whole number of a node, None where it is absent or no number; the schema has said that it is a whole one."""
    data = node.data if isinstance(node, Scalar) else None
    return int(data) if isinstance(data, int | float) and not isinstance(data, bool) else None


def value_of(parent: Node | None, key: str) -> Node | None:
    """The value under a key, None where the parent is no map or has no such key."""
    if isinstance(parent, MapNode) and key in parent.entries:
        return parent.entries[key][1]
    return None


def to_data(node: Node) -> object:
    """The node as plain data, as a schema validator wants it; what an alias shares stays shared."""
    return _to_data(node, {})


def _to_data(node: Node, known: dict[int, object]) -> object:
    if isinstance(node, Scalar):
        return node.data
    if id(node) not in known:
        if isinstance(node, MapNode):
            known[id(node)] = {
                key: value.data if isinstance(value, Scalar) else _to_data(value, known)
                for key, (_, value) in node.entries.items()
            }
        else:
            known[id(node)] = [_to_data(item, known) for item in node.items]
    return known[id(node)]
