"""Writing a file that must not exist yet: whole or not at all, and over nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from reconciler.cli.new_file import write_new
from reconciler.errors import UsageError


def no_links(*_: object) -> NoReturn:
    raise OSError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_has_its_name_only_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    file, text = tmp_path / "imgctl.yaml", "image_servers:\n" * 10_000
    seen = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        seen.append((file.exists(), sum(path.lstat().st_size for path in tmp_path.iterdir())))

    monkeypatch.setattr(os, "fsync", watched)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    write_new(file, text)
    # What a process that is killed leaves is never half a manifest under its name.
    assert seen == [(False, len(text))]
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]
    for mine in (file, tmp_path / "link"):
        if mine != file:
            mine.symlink_to("nowhere")
        with pytest.raises(UsageError, match="exists already"):
            write_new(mine, "other")
    assert file.read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imgctl.yaml", "link"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    def fails(_: int) -> NoReturn:
        raise failure

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises((UsageError, KeyboardInterrupt)):
        write_new(tmp_path / "imgctl.yaml", "text")
    assert not list(tmp_path.iterdir())
