"""YAML and JSON text to nodes. The only module that knows PyYAML.

Nodes are built from the parser's events, never by a constructor: no tag is looked at, no object made, and every limit
is checked before it costs anything. libyaml reads where it is there; the pure Python parser gives the same, slower.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, StreamEndEvent

from reconciler.manifest.nodes import (
    Kind,
    ListNode,
    MapNode,
    Node,
    Scalar,
    Source,
    data_of,
    maybe_not_text,
    origin_of,
    quoted,
)
from reconciler.manifest.problems import Problems, shown, shown_name

# A manifest has six levels. This bounds our own recursion.
MAX_DEPTH = 50
# Keys and values in one file. 10,000 servers have about 200,000; a file of 10 MiB could have five million.
MAX_NODES = 1_000_000
# Values that aliases may stand for in one file, all together. Without a bound ten lines can stand for 10^10 values.
MAX_ALIASED = 100_000

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_JSON_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")

# The parser's words, and what helps.
_HINTS = (
    ("cannot start any token", "Indent with spaces, not tabs; put text that begins with @, ` or % in quotes."),
    ("could not find expected ':'", "A key is followed by a colon and a space; check the quotes above."),
    ("mapping values are not allowed", "Text with a colon and a space belongs in quotes; check the indentation."),
    ("did not find expected key", "Check the indentation, and that quotes and braces are closed."),
    ("did not find expected ',' or", "Close the brackets, and put a comma between the entries."),
    ("expected ',' or", "Close the brackets, and put a comma between the entries."),
    ("unexpected end of stream", "Close the quotes."),
    # libyaml has a limit of its own, and reads ahead of ours.
    ("maximum nesting depth", "Close the brackets; a manifest needs six levels."),
    ("escape", "In double quotes a backslash begins an escape: write \\\\ for one, or use single quotes."),
)


class _UnusableFileError(Exception):
    """Reading this file ended here; the problem is reported."""


def read_nodes(source: Source, text: str, problems: Problems) -> Node | None:
    """The one document of a file, None where nothing usable is there and `problems` says why."""
    if source.file.endswith(".json"):
        text = _json_as_yaml(text)
    try:
        return _Composer(source, text, problems).document()
    except _UnusableFileError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What is missing at the end of the file was opened somewhere: that is the place to look at.
        if mark and error.context_mark and mark.index >= len(text):
            mark = error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        # At the end of the file the parser points behind the last line.
        line = min(line, len(source.lines))
        said = error.problem or error.context or "it cannot be understood"
        hint = next((hint for words, hint in _HINTS if words in said), "Check the line and the one above it.")
        if "${" in source.lines[line - 1]:
            hint += ' Between { and } text with ${...} belongs in quotes: {name: "${server.name}"}.'
        problems.at_position(source, line, column, f"this is not valid YAML: {said}", hint)
    except yaml.YAMLError as error:
        problems.at_position(source, 1, 1, f"this is not valid YAML: {' '.join(str(error).split())}")
    return None


class _Composer:
    def __init__(self, source: Source, text: str, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._next = _PARSER(text).get_event
        self._anchors: dict[str, Node] = {}
        # Anchors whose node is not complete yet; an alias to one would contain itself.
        self._open: set[str] = set()
        self._aliased = 0
        self._nodes = 0

    def document(self) -> Node:
        self._next()  # the start of the stream
        start = self._next()
        if isinstance(start, StreamEndEvent):
            self._fail(
                start, "the file is empty", "`imgctl init` writes a first manifest; it begins with `version: 1`."
            )
        node = self._node(self._next(), 1)
        self._next()  # the end of the document
        end = self._next()
        if not isinstance(end, StreamEndEvent):
            self._fail(
                end, "a second document begins here", "A file holds one manifest: remove the --- or split the file."
            )
        return node

    # An event has other fields by its kind, and types would have to be tested for the checker alone.
    def _node(self, event: Any, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(
                event, f"the file has more than {MAX_NODES} keys and values", "Split it: one file per ring or team."
            )
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event)
        if event.tag is not None:
            self._report(event, "tags are not supported", "Remove it; put text that begins with ! in quotes.")
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        anchor = event.anchor
        if anchor is not None and (anchor in self._anchors or anchor in self._open):
            self._report(
                event, f"the anchor &{shown_name(anchor)} is defined twice", "Give each anchor a name of its own."
            )
            anchor = None
        if kind is ScalarEvent:
            raw, plain = event.value, not event.style
            data = data_of(raw) if plain and maybe_not_text(raw) else raw
            node: Node = Scalar(self._source, line, column, raw, plain, data)
            # Only the pure Python parser lets the escape of one through.
            if not raw.isascii() and _SURROGATE.search(raw):
                self._report(event, "half a character (a surrogate) cannot stand in text", "Write the whole character.")
        else:
            if depth > MAX_DEPTH:
                self._fail(event, f"this is nested more than {MAX_DEPTH} levels deep", "A manifest needs six levels.")
            if anchor is not None:
                self._open.add(anchor)
            if kind is MappingStartEvent:
                node = self._map(MapNode(self._source, line, column), depth)
            else:
                node = self._list(ListNode(self._source, line, column), depth)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = node
        return node

    def _map(self, node: MapNode, depth: int) -> MapNode:
        entries = node.entries
        while type(event := self._next()) is not MappingEndEvent:
            if self._problems.full:
                raise _UnusableFileError
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if not isinstance(key, Scalar):
                self._report(event, "a key must be text", "Write `name: value`.")
            elif key.plain and key.raw == "<<":
                self._problems.at(
                    key,
                    "merge keys (<<) are not supported: YAML 1.2 has none, and editors and tools disagree about them",
                    "Put what servers share under `defaults`, or use an alias for a whole map.",
                )
            elif key.raw in entries:
                first = origin_of(entries[key.raw][0])
                self._problems.at(
                    key, f"{shown(key.raw)} stands here twice", f"It stands first at {first}; remove one."
                )
            else:
                if key.data is not key.raw and (kind := key.kind) is not Kind.TEXT:
                    what = kind.value if key.raw else "no key"
                    self._problems.at(key, f"the key {key.raw} is {what}, not text", f"Write {quoted(key)}.")
                entries[key.raw] = (key, value)
        return node

    def _list(self, node: ListNode, depth: int) -> ListNode:
        while type(event := self._next()) is not SequenceEndEvent:
            node.items.append(self._node(event, depth + 1))
        return node

    def _alias(self, event: AliasEvent) -> Node:
        name = event.anchor or ""
        if name in self._open:
            self._fail(
                event, f"*{shown_name(name)} stands for something that contains it", "An alias must not contain itself."
            )
        if name not in self._anchors:
            self._fail(
                event,
                f"*{shown_name(name)} stands for nothing",
                f"Define it above with &{shown_name(name)}; put text in quotes.",
            )
        node = self._anchors[name]
        self._count(node, event)
        return node

    def _count(self, node: Node, event: yaml.Event) -> None:
        waiting = [node]
        while waiting:
            self._aliased += 1
            if self._aliased > MAX_ALIASED:
                self._fail(
                    event,
                    f"the aliases of this file stand for more than {MAX_ALIASED} values",
                    "Put what servers share under `defaults`.",
                )
            node = waiting.pop()
            if isinstance(node, MapNode):
                waiting += [value for _, value in node.entries.values()]
            elif isinstance(node, ListNode):
                waiting += node.items

    def _report(self, event: yaml.Event, summary: str, hint: str) -> None:
        line, column = _place(event)
        # At the end of the file the parser points behind the last line.
        self._problems.at_position(self._source, min(line, len(self._source.lines)), column, summary, hint)

    def _fail(self, event: yaml.Event, summary: str, hint: str) -> NoReturn:
        self._report(event, summary, hint)
        raise _UnusableFileError


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _json_as_yaml(text: str) -> str:
    """JSON that YAML parsers do not take, made such that they do, in place.

    Tabs are white space in JSON and cannot stand in its strings. A character outside the first plane is two escapes in
    JSON and one in YAML; columns behind one are off by two.
    """

    def joined(match: re.Match[str]) -> str:
        code = 0x10000 + ((int(match[2], 16) & 0x3FF) << 10) + (int(match[3], 16) & 0x3FF)
        return f"{match[1]}\\U{code:08x}"

    return _JSON_PAIR.sub(joined, text.replace("\t", " "))
