"""The power fails at every boundary: every image that the disk may hold then is loaded and finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.boundaries import Effect
from tests.crash.conftest import Visited
from tests.crash.disk import Disk, Image, images, recover
from tests.crash.harness import SCENES, Children, Pool, Scene


def _recover_all(scene: Scene, found: list[Image], pool: Pool, folder: Path) -> None:
    def visit(place: Path, children: Children, image: Image) -> None:
        recover(scene, place, children, image)

    pool.visit(found, visit, folder)


@pytest.mark.parametrize(("name", "step"), [("new", 30), ("rebuild", 40), ("new-journal", 32)])
def test_a_sample_of_the_images_loses_nothing(name: str, step: int, pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        found = images(SCENES[name], tmp_path / "first", children)
    _recover_all(SCENES[name], found[step // 2 :: step], pool, tmp_path)


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENES)
def test_every_image(name: str, pool: Pool, tmp_path: Path, visited: Visited) -> None:
    with pool.children() as children:
        found = images(SCENES[name], tmp_path / "first", children)
    _recover_all(SCENES[name], found, pool, tmp_path)
    names = [f"{number} {image.boundary}" for number, image in enumerate(found)]
    visited(f"power loss, {name}", names, names)


def _after(*effects: Effect) -> list[dict[str, bytes]]:
    disk = Disk()
    for effect in effects:
        disk.take(effect)
    return list(disk.after_power_loss())


def test_what_was_not_synced_may_be_lost_cut_or_zero() -> None:
    made = (
        Effect("create", "a"),
        Effect("sync_folder", ""),
        Effect("write", "a", content=b"x" * 10),
        Effect("sync", "a"),
    )
    assert _after(*made) == [{"a": b"x" * 10}]
    left = [image["a"] for image in _after(*made, Effect("write", "a", content=b"y" * 9000))]
    whole = b"x" * 10 + b"y" * 9000
    assert left[0] == whole
    assert {b"x" * 10, whole[:4096], whole[:8192], whole[:4096] + bytes(4914), b"x" * 10 + bytes(9000)} <= set(left)
    assert b"x" * 10 + bytes(4086) + whole[4096:] in left


def test_a_rename_may_be_undone_until_its_folder_is_synced() -> None:
    made = (
        Effect("create", "old"),
        Effect("sync_folder", ""),
        Effect("create", "new.tmp"),
        Effect("write", "new.tmp", content=b"new"),
        Effect("sync", "new.tmp"),
        Effect("rename", "new.tmp", "old"),
    )
    left = _after(*made)
    assert {"old": b"new"} in left
    assert {"old": b""} in left
    assert {"old": b"", "new.tmp": b"new"} in left
    assert _after(*made, Effect("sync_folder", "")) == [{"old": b"new"}]
