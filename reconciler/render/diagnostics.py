"""Problems and remarks as lines: what, where, the line with a caret, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.errors import CloudError, ImgctlError, ManifestError
from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.render.terminal import LINE_WIDTH, Style, clean, width

_COLOURS = {Severity.ERROR: "red", Severity.CAUTION: "yellow", Severity.NOTE: "cyan"}
_CUT = "…"


def render_diagnostics(diagnostics: Iterable[Diagnostic], style: Style) -> str:
    """The diagnostics one below the other, each ending in a newline."""
    return "".join(line + "\n" for diagnostic in diagnostics for line in _lines(diagnostic, style))


def render_error(error: ImgctlError, style: Style) -> str:
    """An error as the user sees it; a manifest's error shows each of its problems."""
    shown = ""
    if isinstance(error, ManifestError) and any(one.summary != error.summary for one in error.diagnostics):
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
    cells = [clean(char.expandtabs(2)) for char in excerpt]
    place = min(max(column - 1, 0), len(cells))
    gutter = f"{line:>5} | "
    room = LINE_WIDTH - len(gutter)
    begin, end = _window(cells, place, room)
    before = (_CUT if begin else "") + "".join(cells[begin:place])
    after = "".join(cells[place:end]) + (_CUT if end < len(cells) else "")
    yield (style(gutter, "dim") + before + after).rstrip()
    yield style(" " * (len(gutter) - 2) + "| ", "dim") + " " * width(before) + style("^", "bold")


def _window(cells: Sequence[str], place: int, room: int) -> tuple[int, int]:
    """From where to where cells are shown: all of them, or as many around the place as there is room for."""
    if sum(map(width, cells)) <= room:
        return 0, len(cells)
    begin = end = place
    left = room - 2 * len(_CUT)
    # Both sides in turn, so that the place stands in the middle, or where the line begins or ends.
    while True:
        grown = False
        if end < len(cells) and width(cells[end]) <= left:
            left -= width(cells[end])
            end += 1
            grown = True
        if begin > 0 and width(cells[begin - 1]) <= left:
            begin -= 1
            left -= width(cells[begin])
            grown = True
        if not grown:
            return begin, end
