"""Text for a terminal: colours, widths, and nothing that could steer the terminal itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# A line that people read should not be wider than this.
LINE_WIDTH = 100
# One long cell must not push a whole column to the right.
_WIDEST_COLUMN = 40
# The blank of Chinese text, as harmless as the narrow one.
_WIDE_BLANK = "\u3000"
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def clean(text: str) -> str:
    """The text with everything that moves, colours, hides or reorders written out as an escape such as `\\x1b`.

    That is whatever Unicode calls unprintable: controls, formatting (bidirectional and invisible characters among
    them), separators other than blanks, surrogates, private and unassigned characters.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == _WIDE_BLANK else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(document: object) -> str:
    """A document as JSON, ending in a newline. Terminals show it too: what is unprintable is escaped in it as well."""
    lines = json.dumps(document, ensure_ascii=False, indent=2).split("\n")
    return "".join(f"{line if line.isprintable() else _json_escaped(line)}\n" for line in lines)


def _json_escaped(line: str) -> str:
    # Unprintable characters stand in strings only, where JSON takes them escaped.
    return "".join(char if char.isprintable() or char == _WIDE_BLANK else json.dumps(char)[1:-1] for char in line)


@dataclass(frozen=True, slots=True)
class Style:
    """How to mark text up: with ANSI colours, or not at all."""

    colour: bool = False

    def __call__(self, text: str, *names: str) -> str:
        """The text in the named colours; it must be clean already."""
        if not self.colour or not text or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def width(text: str) -> int:
    """How many columns a clean text takes; Chinese characters take two."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(0, wcswidth(text))


def pad(text: str, columns: int) -> str:
    """The text filled up with blanks to so many columns."""
    return text + " " * max(0, columns - width(text))


def table(rows: Iterable[Sequence[str]], *, indent: str = "", gap: str = "  ") -> list[str]:
    """Rows of clean cells as aligned lines; the last column is not padded.

    Cells beyond 40 columns do not make their column wider: only what follows them in their own row moves.
    """
    rows = list(rows)
    columns = max((len(row) for row in rows), default=0)
    widths = [_column_width([row[column] for row in rows if column < len(row)]) for column in range(columns - 1)]
    return [
        (indent + gap.join([*(pad(cell, widths[i]) for i, cell in enumerate(row[:-1])), row[-1]])).rstrip()
        for row in rows
    ]


def _column_width(cells: Iterable[str]) -> int:
    return max((columns for cell in cells if (columns := width(cell)) <= _WIDEST_COLUMN), default=0)


def plural(count: int, noun: str) -> str:
    """`1 build`, `2 builds`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A span of time as people say it: `9 s`, `24 min`, `3 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
