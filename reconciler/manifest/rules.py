"""The API's rules for what a build is given, applied to the text that is sent: variables filled in, defaults merged.

Source: the recreate-image page. Its patterns are Java's, where `\\w` is ASCII and a match covers the whole text; hence
fullmatch and re.ASCII. With `match` alone Python would let "a\\n", "имя" or "１" through.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from reconciler.manifest.patterns import Pattern
from reconciler.manifest.problems import shown

IMAGE_NAME = Pattern(r"(?! +)[ .\-\w\u4e00-\u9fa5]{0,127}[.\-\w\u4e00-\u9fa5]", re.ASCII)
DESCRIPTION = re.compile(r"(?! +)[^\r\n<>]{0,1024}")
LABEL = re.compile(r"(?:[^\s=!,](?:[^\r\n=!,]*[^\s=!,])?)?")

NAME_LIMIT = 128
# UTF-16 units: what a Java backend counts. An emoji is two.
DESCRIPTION_LIMIT = 1024
TEXT_LIMIT = 1024

_NOT_IN_NAMES = r"[^ .\-\w\u4e00-\u9fa5]"
_NAME_HINT = (
    "1 to 128 characters: A-Z, a-z, 0-9, - . _ and Chinese characters (U+4E00 to U+9FA5); spaces, but not at an end."
)
_DESCRIPTION_HINT = "Up to 1024 characters on one line, without < and >, not beginning with a space."
_LABEL_HINT = (
    "Up to 1024 characters on one line, without = ! and comma, so that -l can select by it; no space at either end."
)


class Complaint(NamedTuple):
    """What is wrong with a text, and what is allowed."""

    summary: str
    hint: str


def image_name(text: str) -> Complaint | None:
    """What the API would have against an image's name; None where nothing."""
    if IMAGE_NAME.fullmatch(text):
        return None
    if not text:
        return Complaint("the image name is empty", _NAME_HINT)
    offending = re.search(_NOT_IN_NAMES, text, re.ASCII)
    if offending:
        why = f"has {character(offending[0])} as character {offending.start() + 1}"
    elif len(text) > NAME_LIMIT:
        why = f"has {len(text)} characters, {len(text) - NAME_LIMIT} too many"
    else:
        why = "begins with a space" if text[0] == " " else "ends with a space"
    return Complaint(f"the image name {shown(text)} {why}", _NAME_HINT)


def description(text: str) -> Complaint | None:
    """What the API would have against an image's description; None where nothing."""
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if units <= DESCRIPTION_LIMIT and DESCRIPTION.fullmatch(text):
        return None
    hint = _DESCRIPTION_HINT
    offending = re.search(r"[\r\n<>]", text)
    if offending:
        why = f"has {character(offending[0])} as character {offending.start() + 1}"
        if offending[0] in "\r\n":
            hint += " A text over several lines begins with >- (with > or | it ends in a line break)."
    elif text.startswith(" "):
        why = "begins with a space"
    else:
        why = f"has {units} characters (UTF-16 units), {units - DESCRIPTION_LIMIT} too many"
    return Complaint(f"the description {shown(text)} {why}", hint)


def label(text: str) -> Complaint | None:
    """What makes a label's value impossible to select; None where nothing."""
    if LABEL.fullmatch(text) and len(text) <= TEXT_LIMIT:
        return None
    return Complaint(f"the label {shown(text)} could not be selected", _LABEL_HINT)


def trigger(text: str) -> Complaint | None:
    """What is wrong with a trigger's value; None where nothing."""
    if len(text) <= TEXT_LIMIT:
        return None
    return Complaint(f"the trigger has {len(text)} characters", f"A trigger has at most {TEXT_LIMIT} characters.")


def character(char: str) -> str:
    """One character for a message: itself where it can be seen, its code and name where it is not plain ASCII."""
    code = f"U+{ord(char):04X}"
    if char.isascii() and char.isprintable():
        return "a space" if char == " " else f'"{char}"' if char != '"' else "a double quote"
    name = {"\n": "line break", "\r": "carriage return", "\t": "tab"}.get(char) or unicodedata.name(char, "")
    seen = f'"{char}" ' if char.isprintable() else ""
    return f"{seen}{code}" + (f" ({name.lower()})" if name else "")
