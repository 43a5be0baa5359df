"""Texts that want to be more than text, and what two parsers of Markdown make of a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import cmarkgfm
from cmarkgfm.cmark import Options
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.observed import Quota
from reconciler.model.plan import Action, Change, FieldDiff, Plan
from reconciler.model.record import Binding
from reconciler.model.spec import ImageSpec, Override

SIGNS = [
    *("```", "~~~", "````diff", "`", "``", "`" * 90, "\\`", "|", "\\|", "\\\\|", "||", "\\", "x\\"),
    *(
        "# No changes",
        "\n# No changes\n",
        "\r\n\r\n## x",
        "===",
        "\n===",
        "---",
        "- x",
        "* x",
        "1. x",
        "2) x",
        "> x",
        "+ x",
    ),
    *(
        "[x](http://e.vil)",
        "![x](http://e.vil/x.png)",
        "[x]: http://e.vil",
        "[^1]",
        "- [x] done",
        "](",
        "<http://e.vil>",
    ),
    *("https://e.vil/x", "www.e.vil", "me@e.vil", "mailto:me@e.vil", "xmpp:me@e.vil/x"),
    *(
        "<img src=x>",
        "</code></summary></details><h1>x",
        "<!--",
        "-->",
        "--!>",
        "<script>",
        "<details>",
        "&lt;b&gt;",
        "&#35;",
    ),
    *(
        "@octocat",
        "#123",
        "octo/repo#1",
        "GH-1",
        "!1",
        "~bug",
        "%1",
        "%0A",
        "%253A",
        "deadbeefcafe",
        "a" * 40,
        ":+1:",
        "/close",
        "::error::x",
    ),
    *("**b**", "__b__", "_e_", "*", "~~s~~", "$x$", "{+x+}", "    code", "\tcode", " ", "  ", "\u3000"),
    *(
        "\x1b[2J",
        "\u202ex\u202c",
        "\u2066x",
        "\u200b",
        "\u2028",
        "\x00",
        "\ud800",
        "\U0001f600",
        "Ａ",
        "财务",
        "e\u0301",
    ),
    *("Plan: 0 to add, 0 to change, 0 to destroy.", "No changes.", "nothing", "(x)", "x.", "x:", "it's", "so-called"),
]
words = st.sampled_from(SIGNS) | st.text(st.characters(), max_size=5)
texts = st.lists(words, max_size=4).map("".join) | st.lists(words, max_size=4).map(" ".join)
# The planner joins gates by this.
gates = texts.map(lambda text: text.replace(";", ","))
images = st.builds(ImageSpec, texts, texts, st.none() | st.booleans())
origins = st.none() | st.builds(Origin, texts, st.integers(1, 9), st.integers(1, 9))
diffs = st.lists(st.builds(FieldDiff, texts, st.none() | texts, st.none() | texts | st.booleans()), max_size=2)
changes = st.builds(
    Change,
    name=texts,
    server_id=texts,
    action=st.sampled_from(Action),
    reasons=st.lists(texts, max_size=2).map(tuple),
    before=st.none() | images,
    after=st.none() | images,
    diff=diffs.map(tuple),
    unavailable=st.just("") | texts,
    gated=st.just("") | gates,
    old_name=texts,
    job_id=texts,
    image_id=texts,
    origin=origins,
)
diagnostics = st.builds(
    Diagnostic, st.sampled_from(Severity), texts, texts, origins, st.none() | texts, st.none() | texts
)


def plans_of(count: st.SearchStrategy[int]) -> st.SearchStrategy[Plan]:
    """Plans of so many changes, some of them alike."""
    few = st.lists(changes, min_size=1, max_size=3)
    many = st.tuples(few, count).map(lambda both: tuple(both[0][i % len(both[0])] for i in range(both[1])))
    return st.builds(
        Plan,
        plan_id=st.just("0" * 64),
        lineage=texts,
        serial=st.integers(0, 99),
        bound_to=st.builds(Binding, st.sampled_from(["huaweicloud", "simulator"]), texts, texts),
        changes=many,
        unchanged=st.integers(0, 3),
        refreshed=st.booleans(),
        expected_seconds=st.floats(0, 1e6),
        quota=st.none() | st.builds(Quota, st.integers(0, 9), st.integers(0, 9)),
        queued=st.integers(0, 2),
        refresh_only=st.booleans(),
        overrides=st.lists(st.builds(Override, texts, texts, texts), max_size=2).map(tuple),
        diagnostics=st.lists(diagnostics, max_size=3).map(tuple),
    )


def harmless(value: Any, known: dict[str, str] | None = None) -> Any:
    """The same plan or text with a plain word in the place of each text: equal ones stay equal, empty ones empty."""
    known = {} if known is None else known
    if type(value) is str:
        return known.setdefault(value, f"x{len(known)}") if value else value
    if isinstance(value, tuple):
        return tuple(harmless(one, known) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        kept = ("plan_id", "bound_to") if isinstance(value, Plan) else ()
        return replace(
            value,
            **{one.name: harmless(getattr(value, one.name), known) for one in fields(value) if one.name not in kept},
        )
    return value


class _Page(HTMLParser):
    """The tags of a page but those of code, and all of its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, Any]] = []
        self.text = ""
        # What no code protects.
        self.loose = ""
        self._in_code = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "code":
            self._in_code += 1
        else:
            self.tags.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self._in_code -= 1
        else:
            self.tags.append(("/" + tag, None))

    def handle_data(self, data: str) -> None:
        self.text += data
        if not self._in_code:
            self.loose += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", None))

    def handle_decl(self, decl: str) -> None:
        self.tags.append(("declaration", None))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("instruction", None))


def by_github(markdown: str) -> _Page:
    """A page as GitHub's own parser makes it, with its tables, its strikethrough and its links of mere addresses."""
    page = _Page()
    page.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))
    page.close()
    return page


_COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def by_commonmark(markdown: str) -> _Page:
    """A page as another parser makes it."""
    page = _Page()
    page.feed(_COMMONMARK.render(markdown))
    page.close()
    return page


PARSERS: list[Callable[[str], _Page]] = [by_github, by_commonmark]
