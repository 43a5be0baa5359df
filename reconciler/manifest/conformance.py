"""Says quickly whether data satisfies a schema, where jsonschema also says why not.

A schema becomes nested functions, once. Most manifests are right, and nothing has to be explained: jsonschema, which
takes longer to import than a manifest takes to check, stays unused. Only the keywords that our schema uses are known
here; any other is refused, so that none is overlooked. A test holds both to the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from reconciler.manifest.patterns import Pattern

Check = Callable[[object], bool]

_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "examples"})


def compile_schema(schema: Mapping[str, Any]) -> Check:
    """A function that says whether data satisfies the schema. Raises ValueError for a keyword it does not know."""
    return _Compiler(schema).check(schema)


def _is_integer(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


_TYPES: Mapping[str, Check] = {
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def _anything(_: object) -> bool:
    return True


def _both(one: Check, other: Check) -> Check:
    return lambda value: one(value) and other(value)


class _Compiler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def check(self, schema: Mapping[str, Any]) -> Check:
        checks = [self._keyword(keyword, schema) for keyword in schema if keyword not in _ANNOTATIONS]
        return reduce(_both, [check for check in checks if check is not None] or [_anything])

    def _keyword(self, keyword: str, schema: Mapping[str, Any]) -> Check | None:
        argument: Any = schema[keyword]
        match keyword:
            case "$ref":
                return self.check(self._root["$defs"][argument.removeprefix("#/$defs/")])
            case "type":
                return _TYPES[argument]
            case "const":
                return lambda value: value == argument and isinstance(value, bool) is isinstance(argument, bool)
            case "enum":
                # Texts only, in our schema: nothing else equals one.
                return lambda value: isinstance(value, str) and value in argument
            case "pattern":
                search = Pattern(argument).search
                return lambda value: not isinstance(value, str) or search(value)
            case "maxLength":
                return lambda value: not isinstance(value, str) or len(value) <= argument
            case "maxProperties":
                return lambda value: not isinstance(value, dict) or len(value) <= argument
            case "minimum":
                return lambda value: not _TYPES["number"](value) or value >= argument
            case "maximum":
                return lambda value: not _TYPES["number"](value) or value <= argument
            case "required":
                needed = frozenset(argument)
                return lambda value: not isinstance(value, dict) or value.keys() >= needed
            case "propertyNames":
                names = self.check(argument)
                return lambda value: not isinstance(value, dict) or all(map(names, value))
            case "properties":
                # Together with what is not among them.
                return self._properties(argument, schema.get("additionalProperties", {}))
            case "additionalProperties":
                return None if "properties" in schema else self._properties({}, argument)
            case _:
                raise ValueError(f"the schema uses {keyword}, which is not known here")

    def _properties(self, properties: Mapping[str, Any], others: Mapping[str, Any] | bool) -> Check:
        checks = {name: self.check(schema) for name, schema in properties.items()}
        other: Check = (lambda _: others) if isinstance(others, bool) else self.check(others)

        def check(value: object) -> bool:
            if isinstance(value, dict):
                for key, item in value.items():
                    if not checks.get(key, other)(item):
                        return False
            return True

        return check
