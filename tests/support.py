"""Types and figures that tests share: what a call of imgctl gave, a simulated cloud over TCP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from hypothesis import settings

from reconciler.simulator import World
from reconciler.simulator.records import BuildRequest, Fate, Image, Job
from reconciler.state.local import LocalState
from reconciler.state.store import LockHolder

# The first three servers of every simulated world.
SERVER_IDS = ("25b1dd14-0c84-4558-aa57-03a6c54b8e75", "697612196993040384", "627989489700044800")


@dataclass(frozen=True)
class Ran:
    """What one call of imgctl gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Imgctl(Protocol):
    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran: ...


@dataclass
class Cloud:
    """A simulator over TCP."""

    url: str
    world: World
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {
            "HW_REGION_NAME": self.world.region,
            "HW_PROJECT_ID": self.world.project_id,
            "HW_ACCESS_KEY": self.world.access_key,
            "HW_SECRET_KEY": self.world.secret_key,
            "IMGCTL_ENDPOINT": self.url,
        }

    @property
    def ledger(self) -> dict[str, Any]:
        """What reached the cloud, as it tells itself."""
        with urlopen(f"{self.url}/_simulator/ledger", timeout=10) as answer:
            ledger: dict[str, Any] = json.load(answer)
        return ledger

    def faults(self, *faults: str) -> None:
        """Misbehave like this from now on; with none, not at all."""
        body = json.dumps({"faults": list(faults)}).encode()
        request = Request(f"{self.url}/_simulator/faults", body, {"Content-Type": "application/json"}, method="POST")
        with urlopen(request, timeout=10):
            return

    def build_elsewhere(self, server_id: str, name: str) -> Job:
        """A build that somebody else asks for, and that has ended."""
        now = self.world.now()
        job = self.world.build(BuildRequest(server_id, name), Fate(), now)
        self.wait_for_builds()
        return job

    def wait_for_builds(self) -> None:
        """Let every build in the cloud come to its end."""
        for _ in range(1000):
            self.world.settle(self.world.now())
            if not self.world.jobs.running:
                return
            time.sleep(0.01)
        raise AssertionError("a build does not end")

    @property
    def built(self) -> list[str]:
        """The server of every accepted build, sorted."""
        return sorted(build["server_id"] for build in self.ledger["builds"])


def crossed(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Every pair as parameters. Each of both is in a quick test at least once; all other pairs are sweeps."""
    rows, columns = list(first), list(second)
    longer = max(len(rows), len(columns))
    quick = {(rows[i % len(rows)], columns[i % len(columns)]) for i in range(longer)}
    return [
        pytest.param(row, column, marks=() if (row, column) in quick else pytest.mark.sweep)
        for row in rows
        for column in columns
    ]


def examples(full: int) -> int:
    """How many of so many examples a property is tried with: all in the `full` profile, a part in a quick run."""
    return max(1, full * settings().max_examples // 100)


class StartCloud(Protocol):
    def __call__(self, *faults: str, servers: int = 3, build_time: float = 0.1, quota: int | None = None) -> Cloud: ...


class WriteManifest(Protocol):
    def __call__(self, servers: Mapping[str, str | dict[str, Any]] | None = None, **top: Any) -> Path: ...


def give_image(
    world: World,
    server_id: str,
    name: str,
    description: str = "",
    *,
    image_id: str = "",
    day: int = 1,
    show: bool = True,
) -> str:
    """An image that somebody else has built from a server, which shows it; returns its id."""
    image_id = image_id or str(uuid4())
    made = datetime(2026, 1, day, 8, tzinfo=UTC)
    world.images.add(
        Image(
            id=image_id,
            name=name,
            description=description or None,
            status="active",
            kind="private",
            protected=False,
            created_at=made,
            updated_at=made,
        )
    )
    if show:
        world.servers[server_id].image_id = image_id
        world.servers[server_id].status = "BUILT"
    return image_id


@contextmanager
def locked_state(path: Path) -> Iterator[None]:
    """Somebody else's lock on the state at `path`."""
    with LocalState(path).lock(LockHolder("somebody", "elsewhere", 1, "2026-11-24T00:00:00Z", "apply")):
        yield
