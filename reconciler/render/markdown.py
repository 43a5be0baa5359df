"""Text that comes from outside, put into Markdown so that it stays text.

Names, descriptions, errors and paths come from manifests, states and the cloud: whoever wrote them may want a heading,
a link, a mention or a fake summary to appear in a comment. Backslashes do not prevent that: GitHub and GitLab look for
mentions, references and addresses in the finished page. They leave code alone, so code is what such text becomes.
Source of the rules: CommonMark 0.31, the GFM specification, and cmark-gfm where it is stricter.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

from reconciler.render.terminal import clean

ABSENT = "(none)"
_CUT = "…"
_TICKS = re.compile("`+")
# cmark-gfm counts a fence up to 255 and takes no longer one.
_LONGEST_FENCE = 250
# Words that are nothing but words to every renderer: no mention, reference, address, emoji, list marker or commit.
_WORD = re.compile(r"\(?(?:[A-Za-z]+(?:[-'][A-Za-z]+)*\)?\.?|[0-9]{1,6})[,;:]?")
_COMMIT = re.compile(r"[^a-z]*[a-f]{7,}[^a-z]*", re.IGNORECASE)
# What stands around a word and is harmless beside code.
_AROUND = re.compile(r"(\(?)(.+?)(\)?\.?[,;:]?)", re.DOTALL)


def size(text: str) -> int:
    """How many characters a text has, those beyond U+FFFF as two: what the strictest counter of a comment counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, longest: int) -> str:
    """The text, clean, and of a longer one its beginning."""
    # What is cut away need not be cleaned; a character never becomes shorter by that.
    text = clean(text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + _CUT


def code(text: str, *, cell: bool = False) -> str:
    """A code span that shows the text, clean. `cell`: in a table, where a bar would end the cell even in code."""
    text = clean(text) or ABSENT
    if cell and "|" in text:
        # A backslash before the bar would be the escape's escape to one parser, and not to another.
        text = text.replace("\\|", "\\\\x7c").replace("|", "\\|")
    runs = {len(run) for run in _TICKS.findall(text)}
    # The shortest that does not occur: cmark takes no run of more than 80 for the beginning of code.
    ticks = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    # A blank on either side is taken off again; without it a tick at the edge would lengthen the run.
    edges = text[0] + text[-1]
    pad = " " if "`" in edges or (edges == "  " and text.strip(" ")) else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def code_html(text: str) -> str:
    """The same where HTML stands: in a line that begins with a tag Markdown looks at nothing."""
    return f"<code>{html.escape(clean(text) or ABSENT)}</code>"


def prose(text: str, *, name: str | None = None, cell: bool = False) -> str:
    """A sentence of ours with values from outside in it: plain words as they are, everything else as code.

    `name` is one of those values, and code even where it looks like a word. Several blanks become one.
    """
    shown: list[str] = []
    odd: list[str] = []

    def end_code() -> None:
        if odd:
            around = _AROUND.fullmatch(" ".join(odd))
            before, words, after = around.groups() if around is not None else ("", " ".join(odd), "")
            shown.append(before + code(words, cell=cell) + after)
            odd.clear()

    for word in filter(None, clean(text).split(" ")):
        if _WORD.fullmatch(word) and not _COMMIT.fullmatch(word) and word != name:
            end_code()
            shown.append(word)
        else:
            odd.append(word)
            if word.endswith((",", ";", ":")):
                end_code()
    end_code()
    return " ".join(shown) or code(ABSENT)


def diff_fence(lines: Iterable[str]) -> str:
    """A block of differences. No line may begin with a tick; each is clean already."""
    text = "\n".join(lines)
    longest = max(map(len, _TICKS.findall(text)), default=0)
    ticks = "`" * min(max(3, longest + 1), _LONGEST_FENCE)
    return f"{ticks}diff\n{text}\n{ticks}"


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """A table; each row comes from `row`."""
    return "\n".join([row(head), "|" + "-|" * len(head), *rows])


def row(cells: Sequence[str]) -> str:
    """One row of a table, of cells in which every bar is escaped."""
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def alert(kind: str, items: Iterable[str]) -> str:
    """A block that GitHub and GitLab colour (`CAUTION`, `WARNING`, `IMPORTANT`); several items are a list in it."""
    items = list(items)
    bullet = "- " if len(items) > 1 else ""
    return "\n".join([f"> [!{kind}]", *(f"> {bullet}{item}" for item in items)])


def details(summary: str, body: str, *, shown: bool = False) -> str:
    """A fold; `summary` is HTML."""
    return f"<details{' open' if shown else ''}><summary>{summary}</summary>\n\n{body}\n</details>"


def comment(kind: str, facts: dict[str, object]) -> str:
    """A comment that a page hides and a program finds: `<!-- imgctl:KIND {"v":1} -->`. No fact ends it early."""
    text = json.dumps(facts, separators=(",", ":"))
    for sign, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("--", "-\\u002d")):
        text = text.replace(sign, escaped)
    return f"<!-- imgctl:{kind} {text} -->"
