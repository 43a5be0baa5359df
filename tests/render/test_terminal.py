"""Widths, escapes and words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.render.terminal import Style, clean, duration, json_text, pad, plural, table, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("office-1", "office-1"),
        ("财务 办公", "财务 办公"),
        ("全\u3000角", "全\u3000角"),
        ("émile 🚀", "émile 🚀"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f", "\\x7f"),
        ("\u202eabc", "\\u202eabc"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\xa0", "\\xa0"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters()))
def test_nothing_that_steers_is_left(text: str) -> None:
    shown = clean(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(shown) == shown
    shown.encode()


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("abc", 3), ("办公", 4), ("a办", 3), ("e\u0301", 1), ("🚀", 2)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(pad(text, 6)) == 6


def test_a_table_aligns_by_columns_shown() -> None:
    assert table([("a", "1", "x"), ("办公", "22", ""), ("b",)], indent="  ") == [
        "  a     1   x",
        "  办公  22",
        "  b",
    ]
    assert table([]) == []


def test_a_long_cell_moves_its_own_row_only() -> None:
    assert table([("n" * 60, "1"), ("a", "2"), ("bcd", "3")]) == ["n" * 60 + "  1", "a    2", "bcd  3"]


def test_colours() -> None:
    assert Style()("text", "red", "bold") == "text"
    assert Style(colour=True)("text", "red", "bold") == "\x1b[31;1mtext\x1b[0m"
    assert Style(colour=True)("", "red") == ""
    assert Style(colour=True)("text") == "text"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (3.4, "3 s"),
        (89, "89 s"),
        (90, "2 min"),
        (1414.6, "24 min"),
        (7199, "2 h"),
        (11400, "3 h 10 min"),
        (86400, "24 h"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_plural() -> None:
    assert [plural(count, "build") for count in (0, 1, 2)] == ["0 builds", "1 build", "2 builds"]


def test_json_shows_what_can_be_seen_and_escapes_the_rest() -> None:
    assert json_text({"名": "\x1b\x7f\x9b\u202e\ud800\U000e0041"}) == (
        '{\n  "名": "\\u001b\\u007f\\u009b\\u202e\\ud800\\udb40\\udc41"\n}\n'
    )
