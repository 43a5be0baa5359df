"""The page on threats: every line that says `cannot` names tests, and there are such tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_it_names_exists() -> None:
    assert len(NAMED) > 50
    found = {path: functions(ROOT / path) for path, _ in NAMED}
    assert not [f"{path}::{name}" for path, name in NAMED if name not in found[path]]


def test_every_claim_names_one() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and not re.match(r"\|(---| cannot )", line)]
    assert len(rows) > 30
    assert not [row for row in rows if "::test_" not in row.split("|")[2]]
    # No word that looks like a test's name is anything else.
    assert PAGE.count("::test_") == len(NAMED)
