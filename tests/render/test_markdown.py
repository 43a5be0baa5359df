"""Text put into Markdown: it stays text, whatever it says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given

from reconciler.render.markdown import code, code_html, comment, cut, details, diff_fence, prose, row, size, table
from reconciler.render.terminal import clean
from tests.render.hostile import PARSERS, texts

parsers = pytest.mark.parametrize("parse", PARSERS, ids=["cmark-gfm", "markdown-it"])


def shown(text: str) -> str:
    """What a table shows of a text: a bar behind a backslash is written out."""
    return (clean(text) or "(none)").replace("\\|", "\\\\x7c")


def sentence(text: str) -> str:
    """What a sentence shows of a text."""
    return re.sub(" +", " ", text).strip(" ") or "(none)"


@parsers
@given(text=texts)
@example(text="`" * 200)
@example(text=" ` `` ")
def test_a_code_span_shows_the_text_and_nothing_else(parse: Callable[[str], Any], text: str) -> None:
    page = parse(f"before {code(text)} after")
    assert [tag for tag, _ in page.tags] == ["p", "/p"]
    assert page.text.strip("\n") == f"before {clean(text) or '(none)'} after"


@parsers
@given(text=texts)
@example(text="\\|")
@example(text="\\\\|\\")
def test_a_cell_shows_the_text_and_ends_where_it_should(parse: Callable[[str], Any], text: str) -> None:
    page = parse(table(["a", "b"], [row([code(text, cell=True), prose(text, cell=True)])]))
    assert [tag for tag, _ in page.tags if tag in ("th", "td")] == ["th", "th", "td", "td"]
    assert {tag.strip("/") for tag, _ in page.tags} == {"table", "thead", "tbody", "tr", "th", "td"}
    assert shown(text) in page.text
    assert f"\n{sentence(shown(text))}\n" in page.text


@parsers
@given(text=texts)
def test_a_sentence_is_one_paragraph_without_markup(parse: Callable[[str], Any], text: str) -> None:
    page = parse(f"- **x:** {prose(text)}")
    assert [tag for tag, _ in page.tags] == ["ul", "li", "strong", "/strong", "/li", "/ul"]
    assert page.text.strip("\n") == f"x: {sentence(clean(text))}"


@parsers
@given(text=texts)
def test_a_fold_with_differences_is_closed_by_itself_alone(parse: Callable[[str], Any], text: str) -> None:
    page = parse(details(code_html(text), diff_fence([f"- {clean(text)}", f"+ {clean(text)}"])) + "\n\nafter")
    tags = [tag for tag, _ in page.tags]
    assert tags == ["details", "summary", "/summary", "pre", "/pre", "/details", "p", "/p"]
    assert f"- {clean(text)}\n+ {clean(text)}\n" in page.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("first build", "first build"),
        ("triggers.gpu_driver differs", "`triggers.gpu_driver` differs"),
        ("protected (protect: true).", "protected (protect: true)."),
        ("changed (image.name, image.description): follows", "changed (`image.name`, `image.description`): follows"),
        ("20 at the last apply, now none", "20 at the last apply, now none"),
        ("office is no longer protected", "`office` is no longer protected"),
        ("by @octocat and www.e.vil.", "by `@octocat` and `www.e.vil`."),
        ("commit deadbeefcafe and defaced", "commit `deadbeefcafe` and `defaced`"),
        ("job 697354185083105280", "job `697354185083105280`"),
        ("1. x", "`1`. x"),
        ("", "`(none)`"),
    ],
)
def test_prose(text: str, expected: str) -> None:
    assert prose(text, name="office") == expected


@given(texts, texts)
def test_a_comment_hides_all_and_a_program_reads_it(key: str, text: str) -> None:
    made = comment("plan", {"key": key, "text": text, "v": 1})
    found = re.fullmatch(r"<!-- imgctl:plan (\{.*\}) -->", made)
    assert found is not None
    assert json.loads(found[1]) == {"key": key, "text": text, "v": 1}
    assert "\n" not in made
    for sign in ("<", ">", "--"):
        assert sign not in found[1]
    for parse in PARSERS:
        page = parse(made + "\n# after")
        assert [tag for tag, _ in page.tags] == ["comment", "h1", "/h1"]
        assert page.text.strip() == "after"


@given(texts)
def test_a_text_that_is_cut_says_so(text: str) -> None:
    said = cut(text, 5)
    assert len(said) <= 5
    assert said == clean(text) or (said.endswith("…") and clean(text).startswith(said[:-1]))


def test_size_counts_what_the_strictest_counter_counts() -> None:
    assert [size(text) for text in ("", "abc", "财务", "\U0001f600", "\ud800")] == [0, 3, 2, 2, 1]
