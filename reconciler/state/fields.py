"""JSON read with care: every field checked, every error with the field's path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import StateError

RESTORE = (
    "Restore the file from a backup. Do not delete it: "
    "without it imgctl does not know which images and jobs are its own."
)
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Fields:
    """A JSON object that knows its path: every method raises StateError, naming the field, where it cannot be."""

    __slots__ = ("raw", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise StateError(f"{where}: must be an object", hint=RESTORE)
        self.raw: Mapping[str, Any] = value
        self.where = where

    def problem(self, key: str, what: str) -> StateError:
        """The error to raise about a field."""
        return StateError(f"{self.where}{'/' + key if key else ''}: {what}", hint=RESTORE)

    def member(self, key: str) -> Fields:
        """The object in a field that is there."""
        return type(self)(self.raw[key], f"{self.where}/{key}")

    def object(self, key: str) -> Fields | None:
        """The object in a field, None where it is absent or null."""
        return self.member(key) if self.raw.get(key) is not None else None

    def required(self, key: str) -> Fields:
        """The object in a field that must be there."""
        if key not in self.raw:
            raise self.problem(key, "is missing")
        return self.member(key)

    def objects(self, key: str) -> list[Fields]:
        """The objects of a list, empty where it is absent."""
        items = self.raw.get(key, [])
        if not isinstance(items, list):
            raise self.problem(key, "must be a list")
        return [type(self)(item, f"{self.where}/{key}/{index}") for index, item in enumerate(items)]

    def text(self, key: str, default: str | None = None) -> str:
        """Text; without a default it must be there."""
        value = self.raw.get(key, default)
        if not isinstance(value, str):
            raise self.problem(key, "is missing" if value is None else "must be text")
        if not value.isascii():
            self.check_whole(key, value)
        return value

    def check_whole(self, key: str, value: str) -> None:
        """Raise StateError for half a character, which JSON can spell and nobody could write down again."""
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.problem(key, "must be text, and has half a character in it") from None

    def identifier(self, key: str, default: str | None = None) -> str:
        """An id of the cloud or of ours; without a default it must be there."""
        value = self.text(key, default)
        if value != default and not ID.fullmatch(value):
            raise self.problem(key, "is no id: letters, digits, - and _ only, 1 to 128 of them")
        return value

    def number(self, key: str) -> int:
        """A whole number that must be there, 0 or more."""
        value = self.raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.problem(key, "must be a whole number, 0 or more")
        return value

    def count(self, key: str) -> int | None:
        """The same, None where it is absent."""
        return None if self.raw.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool | None:
        """A boolean, None where it is absent."""
        value = self.raw.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.problem(key, "must be true or false")
        return value

    def time(self, key: str) -> datetime | None:
        """A time with its zone, None where it is absent."""
        if self.raw.get(key) is None:
            return None
        try:
            moment = datetime.fromisoformat(self.text(key))
            if moment.tzinfo is None:
                raise self.problem(key, "must name its time zone, as in 2026-11-23T10:00:00.000Z")
            # At the ends of the calendar there is no such moment elsewhere.
            moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.problem(key, "must be a time such as 2026-11-23T10:00:00.000Z") from None
        return moment
