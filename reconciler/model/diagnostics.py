"""Problems and remarks as data, with the place they are about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a diagnostic matters: an error stops, a caution wants a reviewer's eye, a note informs."""

    ERROR = "error"
    CAUTION = "caution"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a manifest file. `file` is as the user would type it; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem or remark.

    `summary` is one sentence; `hint` says what is allowed, or what to do; `excerpt` is the line of the file that
    `origin` points at. `name` is the image server it is about, if one.
    """

    severity: Severity
    summary: str
    hint: str = ""
    origin: Origin | None = None
    excerpt: str | None = None
    name: str | None = None
