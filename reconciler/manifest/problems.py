"""Collects what is wrong, so that one report says it all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches

from reconciler.errors import ManifestError
from reconciler.manifest.nodes import Node, Source, origin_of
from reconciler.model.diagnostics import Diagnostic, Origin, Severity

# Problems in one report; one wrong default can hit thousands of servers, and nobody reads further than this.
REPORT_LIMIT = 100
# Beyond this many, looking for more only takes long.
_ENOUGH = 2000
# A longer line (JSON on one line) is no help as an excerpt.
_EXCERPT_LIMIT = 500


class Problems:
    """Every problem found so far. The same words about the same place count once.

    `incomplete` is set where a file could not be read at all: what the files say together is then unknown, and a
    "missing" variable or name is no problem of its own. `full` is set where there are more problems than anybody wants:
    the search may stop.
    """

    def __init__(self) -> None:
        self.incomplete = False
        self.full = False
        self.notes: list[Diagnostic] = []
        self._spoiled: set[tuple[str, int, int]] = set()
        self._found: dict[tuple[str, int, int, str], Diagnostic] = {}

    def __len__(self) -> int:
        return len(self._found)

    def at(self, node: Node, summary: str, hint: str = "", *, name: str | None = None) -> None:
        """A problem with the place of a key or value. `name` is the image server it is about."""
        if (node.source.file, node.line, node.column) in self._spoiled:
            return
        self._add(_diagnostic(node.source, origin_of(node), summary, hint, name))

    def at_position(self, source: Source, line: int, column: int, summary: str, hint: str = "") -> None:
        """A problem with the text itself; what else its place is then taken for is not the user's doing."""
        self._spoiled.add((source.file, line, column))
        self._add(_diagnostic(source, Origin(source.file, line, column), summary, hint, None))

    def without_place(self, summary: str, hint: str = "") -> None:
        """A problem of a flag, or of a file that is not there."""
        self._add(Diagnostic(Severity.ERROR, summary, hint))

    def note(self, summary: str, hint: str = "") -> None:
        """Something worth knowing that stops nothing."""
        self.notes.append(Diagnostic(Severity.NOTE, summary, hint))

    def raise_if_any(self) -> None:
        """Raises ManifestError with the report, ordered by place; beyond REPORT_LIMIT it only says how many more."""
        if not self._found:
            return
        report = sorted(self._found.values(), key=self._order)
        count = len(report)
        files = len({problem.origin.file for problem in report if problem.origin})
        summary = f"the manifest has {'at least ' if self.full else ''}{_count(count, 'problem')}" + (
            f" in {files} files" if files > 1 else ""
        )
        if count > REPORT_LIMIT:
            report = report[:REPORT_LIMIT]
            at_least = "at least " if self.full else ""
            more = f"{at_least}{count - REPORT_LIMIT} more problems are not shown"
            report.append(Diagnostic(Severity.ERROR, more, "Mend these first; many often have one cause."))
        if count == 1 and report[0].origin is None:
            raise ManifestError(report[0].summary, report, hint=report[0].hint)
        raise ManifestError(summary, report)

    def _add(self, problem: Diagnostic) -> None:
        origin = problem.origin
        place = (origin.file, origin.line, origin.column) if origin else ("", 0, 0)
        self._found.setdefault((*place, problem.summary), problem)
        self.full = len(self._found) >= _ENOUGH

    def _order(self, problem: Diagnostic) -> tuple[str, int, int]:
        origin = problem.origin
        return (origin.file, origin.line, origin.column) if origin else ("", 0, 0)


def shown(text: str, limit: int = 60) -> str:
    """Text in quotes for a message: on one line, invisible characters as escapes, cut where it is long."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        char
        if char.isprintable()
        else json.dumps(char)[1:-1]
        if char > "\x9f" or char < "\x80"
        else f"\\u{ord(char):04x}"
        for char in json.dumps(cut, ensure_ascii=False)
    )


def shown_name(text: str) -> str:
    """A name as it is where it is harmless, quoted and escaped where it is not."""
    return text if 0 < len(text) <= 64 and text.isprintable() and not set(text) & set(' "') else shown(text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant, None where nothing is near."""
    # Names are short; a pasted page has no near name, and comparing it takes long.
    near = get_close_matches(word, list(known), n=1, cutoff=0.7) if len(word) <= 200 else []
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint: the nearest name, or `otherwise` where nothing is near."""
    near = nearest(word, known)
    return f"Did you mean {shown_name(near)}?" if near else otherwise


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _diagnostic(source: Source, origin: Origin, summary: str, hint: str, name: str | None) -> Diagnostic:
    line = source.lines[origin.line - 1] if 0 < origin.line <= len(source.lines) else None
    excerpt = line if line is not None and len(line) <= _EXCERPT_LIMIT else None
    return Diagnostic(Severity.ERROR, summary, hint, origin, excerpt, name)
