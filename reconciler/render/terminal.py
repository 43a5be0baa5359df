"""Text for a terminal: colours, widths, and nothing that could steer the terminal itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# C0 and C1 controls, bidirectional and invisible formatting, line and paragraph separators, surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
    "|[\U000e0000-\U000e007f]"
)
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def clean(text: str) -> str:
    """The text with every character that moves, colours or reorders written out as an escape such as `\\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


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
    """Rows of clean cells as aligned lines; the last column is not padded."""
    rows = list(rows)
    if not rows:
        return []
    columns = max(len(row) for row in rows)
    widths = [
        max((width(row[column]) for row in rows if column < len(row)), default=0) for column in range(columns - 1)
    ]
    return [
        (indent + gap.join([*(pad(cell, widths[i]) for i, cell in enumerate(row[:-1])), row[-1]])).rstrip()
        for row in rows
    ]


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
