"""The end of a runner, of a server, of the way between them: in every backend that has a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.state import cut_off
from tests.state.places import Place
from tests.support import StartCloud, WriteManifest


@pytest.fixture
def runner(shared_place: Place, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest) -> cut_off.Runner:
    cloud = start_cloud("accept-while-building=1")
    write_manifest()
    return cut_off.Runner(folder, shared_place, cloud)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_runner(when: str, runner: cut_off.Runner) -> None:
    cut_off.killed_runner(runner, when)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_server(when: str, runner: cut_off.Runner) -> None:
    cut_off.killed_server(runner, when)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_partition(when: str, runner: cut_off.Runner) -> None:
    cut_off.partition(runner, when)


def test_a_partition_before_the_intent(runner: cut_off.Runner) -> None:
    cut_off.partition_before_the_intent(runner)
