"""Finds the published schema of the manifest: in the package where it is installed, beside it in a checkout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, cast

_NAME = "manifest.schema.json"


@cache
def manifest_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that a manifest file must satisfy, as data. Not to be changed by whoever gets it."""
    # By path: to ask importlib.resources takes twenty modules more.
    package = Path(__file__).resolve().parents[1]
    installed = package / "schemas" / _NAME
    # Not installed from a wheel: a checkout, an editable install of one included.
    beside = package.parent / "schemas" / _NAME
    text = (installed if installed.is_file() else beside).read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))
