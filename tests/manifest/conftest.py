from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import ManifestError
from reconciler.manifest.load import VariableSources, load
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.spec import Manifest

Files = str | bytes | dict[str, str | bytes]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files], Path]:
    """Writes one file, or a folder's files, and says where, as a user standing there would."""
    monkeypatch.chdir(tmp_path)

    def write(files: Files) -> Path:
        if not isinstance(files, dict):
            path = Path("imgctl.yaml")
            path.write_bytes(files.encode() if isinstance(files, str) else files)
            return path
        folder = Path("fleet")
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write


@pytest.fixture
def loaded(write: Callable[[Files], Path]) -> Callable[..., Manifest]:
    """Loads what is given as text."""

    def loaded(files: Files, variables: VariableSources | None = None) -> Manifest:
        return load(write(files), variables=variables)

    return loaded


@pytest.fixture
def refused(write: Callable[[Files], Path]) -> Callable[..., list[Diagnostic]]:
    """Loads what must not load, and gives its problems."""

    def refused(files: Files, variables: VariableSources | None = None) -> list[Diagnostic]:
        path = write(files)
        with pytest.raises(ManifestError) as caught:
            load(path, variables=variables)
        assert caught.value.diagnostics
        return list(caught.value.diagnostics)

    return refused
