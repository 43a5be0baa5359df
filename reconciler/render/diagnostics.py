"""Problems and remarks as lines: what, where, the line with a caret, what to do."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.errors import CloudError, ImgctlError, ManifestError
from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.render.terminal import Style, clean, width

_COLOURS = {Severity.ERROR: "red", Severity.CAUTION: "yellow", Severity.NOTE: "cyan"}
_LONGEST_EXCERPT = 160


def render_diagnostics(diagnostics: Iterable[Diagnostic], style: Style) -> str:
    """The diagnostics one below the other, each ending in a newline."""
    return "".join(line + "\n" for diagnostic in diagnostics for line in _lines(diagnostic, style))


def render_error(error: ImgctlError, style: Style) -> str:
    """An error as the user sees it; a manifest's error shows each of its problems."""
    shown = ""
    if isinstance(error, ManifestError):
        shown = render_diagnostics(error.diagnostics, style)
    shown += f"{style('error:', 'red', 'bold')} {clean(error.summary)}\n"
    if isinstance(error, CloudError) and error.request_id and error.request_id not in error.summary:
        shown += f"  request id: {clean(error.request_id)}\n"
    if error.hint:
        shown += "".join(f"  {clean(line)}\n" for line in error.hint.splitlines())
    return shown


def _lines(diagnostic: Diagnostic, style: Style) -> Iterable[str]:
    word = style(f"{diagnostic.severity}:", _COLOURS[diagnostic.severity], "bold")
    place = f"{clean(str(diagnostic.origin))}: " if diagnostic.origin is not None else ""
    yield f"{place}{word} {clean(diagnostic.summary)}"
    if diagnostic.origin is not None and diagnostic.excerpt is not None:
        yield from _excerpt(diagnostic.excerpt, diagnostic.origin.line, diagnostic.origin.column, style)
    if diagnostic.hint:
        yield from (f"  {clean(line)}" for line in diagnostic.hint.splitlines())


def _excerpt(excerpt: str, line: int, column: int, style: Style) -> Iterable[str]:
    """The line and a caret below the place; of a long line, what is around the place."""
    start = max(0, column - 1 - _LONGEST_EXCERPT // 2) if len(excerpt) > _LONGEST_EXCERPT else 0
    shown = excerpt[start : start + _LONGEST_EXCERPT]
    before = clean(shown[: column - 1 - start].expandtabs(2))
    gutter = f"{line:>5} | "
    yield style(gutter, "dim") + before + clean(shown[column - 1 - start :].expandtabs(2))
    yield style(" " * (len(gutter) - 2) + "| ", "dim") + " " * width(before) + style("^", "bold")
