"""Problems with their place: the caret stands under what it is about."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import ManifestError, PermissionDenied, UsageError
from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.render.diagnostics import render_diagnostics, render_error
from reconciler.render.terminal import LINE_WIDTH, Style, clean, width
from tests.support import examples


def excerpt(line: str, column: int) -> tuple[str, int]:
    """The line that is shown, and the column of the caret in it."""
    problem = Diagnostic(Severity.ERROR, "it is wrong", origin=Origin("imgctl.yaml", 7, column), excerpt=line)
    head, shown, caret = render_diagnostics([problem], Style()).rstrip("\n").split("\n")
    assert head == f"imgctl.yaml:7:{column}: error: it is wrong"
    assert shown.startswith("    7 | ") or shown == "    7 |"
    assert caret.startswith("      | ")
    assert caret.endswith("^")
    return shown[8:], width(caret) - 9


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("  name: office!", "!"),
        ("name: x", "n"),
        ("  办公: {name: 办公!}", "!"),
        ("  财务-办公: x", "x"),
        ("\tname: !", "!"),
        ("a:\t\t!", "!"),
        ("a: \x1b[31m!", "!"),
        ("a: \u202e!", "!"),
        ("e\u0301e\u0301: !", "!"),
    ],
)
def test_the_caret_is_below_the_place(line: str, at: str) -> None:
    shown, caret = excerpt(line, line.index(at) + 1)
    place = shown.index(at)
    assert width(shown[:place]) == caret


def test_a_place_behind_the_line() -> None:
    assert excerpt("name:", 6) == ("name:", 5)
    assert excerpt("name:", 99) == ("name:", 5)
    assert excerpt("", 1) == ("", 0)


@pytest.mark.parametrize("letter", ["a", "办"])
@pytest.mark.parametrize("before", [0, 3, 80, 500])
@pytest.mark.parametrize("after", [0, 3, 80, 500])
def test_a_long_line_is_cut_around_the_place(letter: str, before: int, after: int) -> None:
    shown, caret = excerpt(letter * before + "!" + letter * after, before + 1)
    assert width(shown) <= LINE_WIDTH - 8
    assert width(shown[: shown.index("!")]) == caret
    assert ("…" in shown) == ((before + after) * width(letter) + 1 > LINE_WIDTH - 8)
    assert shown.startswith("…") == (before * width(letter) > caret)


def test_all_that_is_said() -> None:
    problem = Diagnostic(
        Severity.CAUTION,
        "a \x1b[31mname",
        hint="Did you mean office?\nOr \u202ecad?",
        origin=Origin("fleet/a\nb.yaml", 3, 5),
    )
    assert render_diagnostics([problem], Style()) == (
        "fleet/a\\x0ab.yaml:3:5: caution: a \\x1b[31mname\n  Did you mean office?\n  Or \\u202ecad?\n"
    )
    assert render_diagnostics([problem], Style(colour=True)).count("\x1b") == 2


def test_an_error_says_what_and_what_next() -> None:
    error = UsageError("--target x matches nothing", hint="The image servers are: office.")
    assert render_error(error, Style()) == ("error: --target x matches nothing\n  The image servers are: office.\n")


def test_an_error_of_the_cloud_gives_its_request_id_once() -> None:
    said = render_error(PermissionDenied("403 from the cloud", request_id="r-1", hint="Grant it."), Style())
    assert said == "error: 403 from the cloud\n  request id: r-1\n  Grant it.\n"
    assert "request id" not in render_error(PermissionDenied("403 (request r-1)", request_id="r-1"), Style())


def test_a_manifests_error_shows_every_problem_first() -> None:
    problems = [Diagnostic(Severity.ERROR, "one"), Diagnostic(Severity.ERROR, "two")]
    assert render_error(ManifestError("2 problems", problems), Style()) == (
        "error: one\nerror: two\nerror: 2 problems\n"
    )


anything = st.text(st.characters(), max_size=300)


@settings(max_examples=examples(60), deadline=None)
@given(anything, anything, anything, st.integers(1, 400))
def test_nothing_hostile_is_shown(summary: str, hint: str, line: str, column: int) -> None:
    problem = Diagnostic(Severity.ERROR, summary, hint, Origin(summary[:9], 1, column), line)
    text = render_diagnostics([problem], Style())
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
    assert f"error: {clean(summary)}" in text
    assert render_error(UsageError(summary, hint=hint), Style()).endswith("\n")
