"""Regular expressions in which Chinese characters are allowed, at the price of those in which they are not.

Python takes two milliseconds to compile a class with the 20,000 Chinese characters in it, and a plan of ten servers
needs four of them: a twelfth of all its work. In a text of ASCII they make no difference, so it is looked at without.
"""

from __future__ import annotations

import re

# As the API page, and so every pattern here, writes their range.
_CHINESE = r"\u4e00-\u9fa5"


class Pattern:
    """A regular expression, with the two methods of a compiled one that are needed here."""

    __slots__ = ("_ascii", "_flags", "_pattern")

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern = pattern
        self._flags = flags
        # Every class has other characters too, and stays one.
        self._ascii = re.compile(pattern.replace(_CHINESE, ""), flags)

    def search(self, text: str) -> bool:
        """True where the pattern is found anywhere."""
        return self._for(text).search(text) is not None

    def fullmatch(self, text: str) -> bool:
        """True where it covers the whole text."""
        return self._for(text).fullmatch(text) is not None

    def _for(self, text: str) -> re.Pattern[str]:
        # The whole one is compiled when a text first needs it, and kept by `re`.
        return self._ascii if text.isascii() else re.compile(self._pattern, self._flags)
