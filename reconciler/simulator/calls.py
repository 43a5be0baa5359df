"""One request on its way to the operation that answers it, and the table of operations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from reconciler.simulator.answers import Answer, BadValue, Service
from reconciler.simulator.signing import query_pairs

if TYPE_CHECKING:
    from reconciler.simulator.faults import Faults
    from reconciler.simulator.world import World

MOST_OFFSET = 2_147_483_647


@dataclass(frozen=True)
class Call:
    """A request that the gateway let through. `operation` is `METHOD /path-template`; `now` the time it came."""

    world: World
    faults: Faults
    now: datetime
    operation: str
    path: Mapping[str, str]
    raw_query: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query's parameters; of one that is given twice the first counts."""
        return dict(reversed(query_pairs(self.raw_query)))

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the query. Raises BadValue outside the documented limits."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise BadValue(f"{name} must be a number from {least} to {most}")
        return int(text)

    def text(self, name: str, pattern: str = r"(?s).*", most: int = 1024) -> str:
        """A text of the query, empty where it is absent. Raises BadValue where it is not as documented."""
        value = self.query.get(name, "")
        if len(value) > most or not re.fullmatch(pattern, value):
            raise BadValue(f"{name} is invalid")
        return value

    def json(self) -> object:
        """The body. Raises BadValue where it is no JSON, or where a text in it is no text."""
        try:
            document: object = json.loads(self.body)
            # Half of a surrogate pair can be written in JSON, but nothing can be done with it.
            json.dumps(document, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise BadValue("the request body is no JSON") from None
        return document

    def json_object(self) -> dict[str, object]:
        """The body, an object. Raises BadValue where it is none."""
        document = self.json()
        if not isinstance(document, dict):
            raise BadValue("the request body is no JSON object")
        return document


@dataclass(frozen=True)
class Operation:
    """One operation of an API.

    `access`: `any` credential, a `token` only, or `none`. `regional`: it belongs to a project, which must be ours.
    """

    method: str
    template: str
    service: Service
    handler: Callable[[Call], Answer]
    access: Literal["any", "token", "none"] = "any"
    regional: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.template}"
