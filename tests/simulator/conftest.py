"""A pretended cloud in process, with a clock that stands still until it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from reconciler.simulator import Faults, World, create_app, serving

if TYPE_CHECKING:
    from tests.simulator.sdk import Sdk

OFFICE = "25b1dd14-0c84-4558-aa57-03a6c54b8e75"
CAD = "697612196993040384"


class Clock:
    """Noon of a day, until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 2, 12, 0, 0, 120_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Cloud:
    """A world, its app, and requests with a good token. Paths that begin with `image-` get `/v1/PROJECT/`."""

    office, cad = OFFICE, CAD

    def __init__(self, world: World, clock: Clock, faults: Faults | Iterable[str] = ()) -> None:
        self.world = world
        self.clock = clock
        self.app = create_app(world, faults)
        self.token = ""

    async def asend(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> httpx.Response:
        if path.startswith("image-"):
            path = f"/v1/{self.world.project_id}/{path}"
        sent = {"X-Auth-Token": self.token if token is None else token} | (headers or {})
        transport = httpx.ASGITransport(self.app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud.test") as session:
            if json is not None:
                return await session.request(method, path, json=json, headers=sent)
            return await session.request(method, path, content=content, headers=sent)

    def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> httpx.Response:
        return asyncio.run(
            self.asend(method, path, json=json, content=content, headers=headers, token=token, client=client)
        )

    def get(self, path: str) -> httpx.Response:
        return self.send("GET", path)

    def login(self, scope: object = None) -> httpx.Response:
        """A token by password, for the project where no scope is given; used from now on."""
        world = self.world
        user = {"name": world.user_name, "password": world.password, "domain": {"name": world.domain_name}}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": world.region}} if scope is None else scope
        answer = self.send("POST", "/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        if answer.status_code == 201:
            self.token = answer.headers["X-Subject-Token"]
        return answer

    def recreate(self, server_id: str = OFFICE, name: str = "office-1", **body: object) -> httpx.Response:
        return self.send("POST", f"image-servers/{server_id}/actions/recreate-image", json={"name": name, **body})

    def build(self, server_id: str = OFFICE, name: str = "office-1", **body: object) -> str:
        """A build that is accepted; its job's id."""
        answer = self.recreate(server_id, name, **body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.get(f"image-server-jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def server(self, server_id: str = OFFICE) -> dict[str, Any]:
        return dict(self.get(f"image-servers/{server_id}").json())

    def sub_jobs(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.get(f"image-server-sub-jobs?job_type=CREATE_SERVER_IMAGE{query}").json()["items"])

    def faults(self, *texts: str) -> None:
        answer = self.send("POST", "/_simulator/faults", json={"faults": list(texts)})
        assert answer.status_code == 200, answer.text

    def ledger(self) -> dict[str, Any]:
        return dict(self.get("/_simulator/ledger").json())


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sdk]:
    """A world of twelve servers with builds of 0.2 s, over TCP, for the official SDKs."""
    # Late: most tests need none of them, and they take their time to load.
    from tests.simulator.sdk import Sdk

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    world, faults = World.create(12, 0.2), Faults()
    with serving(world, faults=faults) as url:
        sdk = Sdk(world, faults, url)
        yield sdk
        sdk.close()


@pytest.fixture
def make_cloud() -> Callable[..., Cloud]:
    def make(servers: int = 3, build_time: float = 100.0, **how: object) -> Cloud:
        clock = Clock()
        cloud = Cloud(World.create(servers, build_time, clock=clock, **how), clock)  # type: ignore[arg-type]
        cloud.login()
        return cloud

    return make


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    return make_cloud()
