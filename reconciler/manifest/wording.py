"""What the schema does not allow, said for people: where it stands, what is wrong, what is allowed, what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.manifest import rules
from reconciler.manifest.nodes import Kind, ListNode, MapNode, Node, Scalar, quoted, value_of
from reconciler.manifest.problems import Problems, did_you_mean, nearest, shown, shown_name

_EXPECTED = {
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a map",
}

# These say which character is wrong; the same words come up once variables are filled in, and count once.
_RULES = {"image.name": rules.image_name, "image.description": rules.description, "labels": rules.label}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that the schema does not allow.

    `keyword` of `schema`, with its `argument`, does not hold; `path` leads to the value. `key` is set where it is
    not the value that is wrong but this key of it.
    """

    keyword: str
    argument: Any
    schema: Mapping[str, Any]
    path: tuple[str | int, ...]
    key: str | None = None


def report(document: MapNode, violation: Violation, problems: Problems) -> None:
    """Adds the problem, or problems, that a violation comes to."""
    key, node = _find(document, violation.path)
    path = violation.path
    server = shown_name(str(path[1])) if len(path) > 1 and path[0] == "image_servers" else None
    hint = str(violation.schema.get("description", ""))
    field = ".".join(shown_name(str(part)) for part in path[2 if server else 0 :])
    match violation.keyword:
        case _ if violation.key is not None:
            if isinstance(node, MapNode) and violation.key in node.entries:
                problems.at(node.entries[violation.key][0], f"the name {shown(violation.key)} is not allowed", hint)
        case "additionalProperties":
            _unknown_fields(node, violation, server, problems)
        case "required":
            for name in violation.argument:
                if value_of(node, name) is None and not _misspelt(node, name, violation):
                    _missing(key or document, name, field, server, violation, problems)
        case "type":
            _wrong_type(node, field or server or "", violation, server, problems)
        case "const":
            version = _described(node) if isinstance(node, Scalar) else "a map or list"
            problems.at(node, f"version {version} is not known", "This imgctl reads version 1: write `version: 1`.")
        case "enum":
            if isinstance(node, Scalar) and isinstance(node.data, str):
                _unknown_choice(node, field, violation.argument, problems)
        case "maxProperties":
            problems.at(key or node, f"{field} has more than {violation.argument} entries", hint, name=server)
        case "minimum" | "maximum":
            raw = node.raw if isinstance(node, Scalar) else ""
            problems.at(node, f"{field} cannot be {raw}", hint, name=server)
        case _:
            _wrong_text(node, field, hint, server, problems)


def wrong_scalar(scalar: Scalar) -> tuple[str, str]:
    """What to say where text is expected and this stands there without quotes: summary and hint."""
    if scalar.kind is Kind.NULL:
        what = f"{scalar.raw} is nothing to YAML" if scalar.raw else "there is no value"
        return f"{what}; text is expected", f"Write {quoted(scalar)}." if scalar.raw else 'Write "" for empty text.'
    becomes = ""
    if isinstance(scalar.data, float) and str(scalar.data) != scalar.raw:
        becomes = f" Without quotes it becomes {scalar.data}."
    elif scalar.kind is Kind.NUMBER and len(scalar.raw) > 15:
        becomes = " Without quotes it becomes a number, and many tools round one of this length."
    return f"{scalar.raw} is {scalar.kind.value} to YAML; text is expected", f"Write {quoted(scalar)}.{becomes}"


def _find(document: MapNode, path: tuple[str | int, ...]) -> tuple[Scalar | None, Node]:
    key: Scalar | None = None
    node: Node = document
    for part in path:
        if isinstance(node, MapNode):
            key, node = node.entries[str(part)]
        elif isinstance(node, ListNode):
            node = node.items[int(part)]
    return key, node


def _unknown_fields(node: Node, violation: Violation, server: str | None, problems: Problems) -> None:
    known = list(violation.schema.get("properties", {}))
    if not isinstance(node, MapNode):
        return
    for name, (key, _) in node.entries.items():
        if name not in known:
            if problems.full:
                return
            near = nearest(name, known)
            hint = (f"Did you mean {near}? " if near else "") + f"Allowed here: {', '.join(known)}."
            problems.at(key, f"there is no field {shown(name)} here", hint, name=server)


def _misspelt(node: Node, name: str, violation: Violation) -> bool:
    """True where an unknown field is near: that one is reported, and is one problem, not two."""
    unknown = set(node.entries) - set(violation.schema.get("properties", {})) if isinstance(node, MapNode) else set()
    return any(nearest(field, [name]) for field in sorted(unknown)[:100])


def _missing(place: Node, name: str, field: str, server: str | None, violation: Violation, problems: Problems) -> None:
    about = violation.schema.get("properties", {}).get(name, {}).get("description", "")
    who = (server or "") + ("." if server and field else "") + field or "the file"
    hint = "It begins with `version: 1`." if name == "version" else f"Add {name}. {about}"
    problems.at(place, f"{who} has no {name}", hint, name=server)


def _wrong_type(node: Node, field: str, violation: Violation, server: str | None, problems: Problems) -> None:
    expected, hint = violation.argument, str(violation.schema.get("description", ""))
    if expected == "string" and isinstance(node, Scalar):
        summary, hint = wrong_scalar(node)
        problems.at(node, f"{field}: {summary}", hint, name=server)
        return
    found = "a map" if isinstance(node, MapNode) else "a list" if isinstance(node, ListNode) else _described(node)
    field = f"{field}: " if field else ""
    if expected == "object" and isinstance(node, Scalar) and node.kind is Kind.NULL:
        needed = violation.schema.get("required")
        hint = f"It needs {', '.join(needed)}." if needed else f"Write {{}} for an empty map. {hint}"
    problems.at(node, f"{field}{_EXPECTED[expected]} is expected, not {found}", hint, name=server)


def _described(scalar: Scalar) -> str:
    if scalar.kind is Kind.NULL:
        return "nothing"
    if scalar.kind is Kind.TEXT:
        return f"the text {shown(scalar.raw)}"
    return scalar.raw


def _unknown_choice(node: Scalar, field: str, choices: list[str], problems: Problems) -> None:
    otherwise = f"There are: {', '.join(choices)}."
    hint = did_you_mean(node.raw, choices, "")
    problems.at(node, f"{field} {shown(node.raw)} offers no image servers", f"{hint} {otherwise}".strip())


def _wrong_text(node: Node, field: str, hint: str, server: str | None, problems: Problems) -> None:
    text = node.raw if isinstance(node, Scalar) else ""
    field_of_server = field.removeprefix("defaults.")
    check = _RULES.get(field_of_server) or _RULES.get(field_of_server.partition(".")[0])
    complaint = check(text) if check and "${" not in text else None
    summary, hint = complaint or (f"{field} {shown(text)} is not allowed", hint)
    problems.at(node, summary, hint, name=server)
