"""The scripts of the examples, loaded as they lie there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD, OLDER = "a" * 40, "b" * 40


def load(path: str) -> Any:
    """A script below examples/ as a module."""
    file = EXAMPLES / path
    name = f"example_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def rendered(key: str = "84a25d1b341628bd", *, root: str = "images", plan: str = "5" * 64, changes: int = 3) -> str:
    """A comment as imgctl renders one, but shorter."""
    facts = {"v": 1, "key": key, "root": root, "plan": plan, "serial": 3, "changes": changes, "shown": changes}
    return f"<!-- imgctl:plan {json.dumps(facts, separators=(',', ':'))} -->\n### imgctl `{root}`: {changes} rebuilds\n"


def posted(text: str, *, head: str = OLDER, run: int = 41, attempt: int = 1) -> str:
    """The same as an earlier run has posted it."""
    first, _, rest = text.partition("\n")
    facts = json.dumps({"head": head, "run": run, "attempt": attempt}, separators=(",", ":"))
    return f"{first}\n<!-- imgctl:run {facts} -->\n{rest}"
