"""Reading the JSON of an answer field by field, so that whatever is wrong with it is named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reconciler.cloud.operations import Operation, is_id
from reconciler.errors import BadAnswer

_UNPRINTABLE = re.compile(r"[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer.

    `title` is the call's; header names are in lower case. Tokens travel in them: never shown.
    """

    operation: Operation
    title: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str:
        """What the cloud's support asks for, empty where the answer has none."""
        names = ("x-request-id", "x-iam-trace-id")
        return printable(next((self.headers[name] for name in names if name in self.headers), ""))

    def unusable(self, why: str) -> BadAnswer:
        """The error for an answer that cannot be used."""
        return BadAnswer(
            f"{self.title}: unusable answer ({self.status}): {why}",
            operation=self.operation.name,
            status=self.status,
            request_id=self.request_id,
            hint="a proxy or a wrong endpoint may have answered in the cloud's place",
        )

    def fields(self) -> Fields:
        """The body as a JSON object. Raises BadAnswer."""
        if not self.body.strip():
            raise self.unusable("the body is empty")
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            kind = "HTML" if self.body.lstrip()[:1] == b"<" else "no JSON"
            raise self.unusable(f"the body is {kind}") from None
        return Fields(self, value, "")


class Fields:
    """A JSON object of an answer. `path` says where in it we are, for messages."""

    def __init__(self, answer: Answer, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise answer.unusable(f"{path or 'the body'} is {_kind(value)}, not an object")
        self._answer = answer
        self._values: dict[str, object] = value
        self._path = path

    def unusable(self, name: str, why: str) -> BadAnswer:
        """The error for a field that cannot be used."""
        return self._answer.unusable(f"{self._where(name)} {why}")

    def text(self, name: str) -> str:
        """A text, empty where the field is absent or null."""
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.unusable(name, f"is {_kind(value)}, not a string")
        # JSON can bring half a character, which no state and no request can hold: a question mark everywhere.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()

    def known_text(self, name: str) -> str:
        """A text whose field must be there, though it may be null."""
        if name not in self._values:
            raise self.unusable(name, "is missing")
        return self.text(name)

    def id(self, name: str) -> str:
        """An id that must be there. It will stand in paths, so it is checked here."""
        value = self.optional_id(name)
        if not value:
            raise self.unusable(name, "is missing")
        return value

    def optional_id(self, name: str) -> str:
        """An id, empty where there is none. Never a number: 18 digits are more than a float can hold."""
        value = self.text(name)
        if value and not is_id(value):
            raise self.unusable(name, "is not an id")
        return value

    def number(self, name: str) -> int:
        """A whole number that must be there."""
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.unusable(name, f"is {_kind(value)}, not a whole number")
        return value

    def count(self, name: str) -> int:
        """A count that is only a hint: 0 where it is absent or strange, as the documented examples have it."""
        value = self._values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def flag(self, name: str) -> bool:
        """A boolean, which IMS may write as a string; absent is False."""
        value = self._values.get(name)
        if isinstance(value, bool):
            return value
        if value is None or value in ("", "true", "false"):
            return value == "true"
        raise self.unusable(name, f"is {_kind(value)}, not true or false")

    def time(self, name: str) -> datetime | None:
        """A time in UTC, None where it is absent or unreadable: times inform, nothing breaks without one."""
        return parse_time(self._values.get(name))

    def objects(self, name: str, *, required: bool = True) -> list[Fields]:
        """A list of objects; where it is not `required`, absent and null are empty."""
        value = self._values.get(name)
        if value is None and not required:
            return []
        if not isinstance(value, list):
            raise self.unusable(name, "is missing" if value is None else f"is {_kind(value)}, not a list")
        return [Fields(self._answer, item, f"{self._where(name)}[{index}]") for index, item in enumerate(value)]

    def object(self, name: str, *, required: bool = True) -> Fields:
        """An object; where it is not `required`, absent and null are one without fields."""
        value = self._values.get(name)
        if value is None:
            if required:
                raise self.unusable(name, "is missing")
            value = {}
        return Fields(self._answer, value, self._where(name))

    def _where(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def printable(text: str) -> str:
    """The beginning of a text, as far as it can be printed anywhere."""
    return _UNPRINTABLE.split(text, maxsplit=1)[0][:128]


def parse_time(value: object) -> datetime | None:
    """An ISO 8601 time in UTC, with however many digits of a second (facts 2.3); None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _kind(value: object) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
