"""A world on disk: what was under way goes on in the next process."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.simulator import SimulatorError, World

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud

FROM_SCRATCH = "import sys; import reconciler.simulator; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"


def reopened(cloud: Cloud, path: Path) -> Cloud:
    """The same cloud in the next process."""
    again = type(cloud)(World.load(path, clock=cloud.clock), cloud.clock)
    again.token = cloud.token
    return again


def test_everything_is_there_again(make_cloud: Callable[..., Cloud], tmp_path: Path) -> None:
    path = tmp_path / "state.world.json"
    cloud = make_cloud(5, path=path)
    key = cloud.send(
        "POST", "/v3.0/OS-CREDENTIAL/securitytokens", json={"auth": {"identity": {"methods": ["token"], "token": {}}}}
    ).json()["credential"]
    cloud.faults("late-effect=1:150*1", "job-failed=1@nothing")
    assert cloud.recreate("627989489700044800", "late").status_code == 504
    first, second = cloud.build(), cloud.build(cloud.cad, "cad-1", description="一")
    cloud.clock.advance(100)
    cloud.send("PATCH", f"/v2/cloudimages/{cloud.server()['image_id']}", json=[
        {"op": "add", "path": "/__description", "value": "edited"}])  # fmt: skip
    third = cloud.build(name="office-2")
    again = reopened(cloud, path)
    assert key["access"] in again.world.keys
    cloud.clock.advance(60)
    for path_of in (
        "image-servers",
        "image-server-jobs?job_type=",
        "image-server-sub-jobs?job_type=",
        "/v2/cloudimages",
    ):
        assert again.get(path_of).json() == cloud.get(path_of).json()
    assert [again.job(each)["status"] for each in (first, second, third)] == ["SUCCESS", "SUCCESS", "RUNNING"]
    assert again.ledger()["builds"] == cloud.ledger()["builds"]
    assert again.ledger()["received"] == 4
    assert [build["name"] for build in again.ledger()["builds"]][-1] == "late"
    again.clock.advance(500)
    assert again.build(name="office-3") not in (first, second, third)


def test_an_image_that_is_being_deleted_goes_in_the_next_process(
    make_cloud: Callable[..., Cloud], tmp_path: Path
) -> None:
    path = tmp_path / "w.json"
    cloud = make_cloud(path=path)
    cloud.build()
    cloud.clock.advance(100)
    image = f"/v2/images/{cloud.server()['image_id']}"
    cloud.faults("delete-lag=1:30")
    assert cloud.send("DELETE", image).status_code == 204
    again = reopened(cloud, path)
    assert again.get(image).status_code == 200
    cloud.clock.advance(30)
    assert again.get(image).status_code == reopened(cloud, path).get(image).status_code == 404


def test_the_file_is_private_and_written_before_the_answer(make_cloud: Callable[..., Cloud], tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    cloud = make_cloud(path=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    cloud.build()
    assert json.loads(path.read_text(encoding="utf-8"))["ledger"]["received"] == 1
    cloud.faults("drop-after=1*1")
    with pytest.raises(ConnectionResetError):
        cloud.recreate(cloud.cad)
    assert len(reopened(cloud, path).ledger()["builds"]) == 2
    before = path.read_bytes()
    cloud.get("image-servers")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["w.json"]


def test_requests_at_one_time_are_saved_together(
    make_cloud: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = make_cloud(40, path=tmp_path / "w.json")
    writes = []
    monkeypatch.setattr("reconciler.simulator.worldfile.write", lambda *_: writes.append(1))

    async def scenario() -> None:
        await asyncio.gather(
            *(
                cloud.asend("POST", f"image-servers/{each}/actions/recreate-image", json={"name": f"i-{each}"})
                for each in cloud.world.servers
            )
        )

    asyncio.run(scenario())
    assert len(cloud.world.ledger.builds) == 40
    assert 1 <= len(writes) < 10


def test_open_makes_or_continues_and_grows(make_cloud: Callable[..., Cloud], tmp_path: Path) -> None:
    path, clock = tmp_path / "w.json", make_cloud().clock
    world = World.open(path, 3, 10.0, clock=clock)
    world.servers["697612196993040384"].status = "ERROR"
    world.touch()
    world.save()
    again = World.open(path, 5, 20.0, clock=clock)
    assert list(again.servers) == list(World.create(5, 1.0).servers)
    assert (again.servers["697612196993040384"].status, again.build_time) == ("ERROR", 20.0)
    assert len(World.open(path, 2, 20.0, clock=clock).servers) == 5


def test_a_world_of_another_project_or_changed_by_another_process_is_not_overwritten(
    make_cloud: Callable[..., Cloud], tmp_path: Path
) -> None:
    path = tmp_path / "w.json"
    cloud = make_cloud(path=path)
    other = reopened(cloud, path)
    cloud.build()
    kept = path.read_bytes()
    other.login()
    assert other.get("image-servers").status_code == 200
    with pytest.raises(SimulatorError, match="changed by another process"):
        other.recreate()
    assert path.read_bytes() == kept
    for region, project in (("cn-north-4", cloud.world.project_id), ("ap-southeast-1", "b" * 32)):
        with pytest.raises(SimulatorError, match="is region ap-southeast-1"):
            World.open(path, 3, 1.0, clock=cloud.clock, region=region, project_id=project)
    path.unlink()
    cloud.build(cloud.cad, "cad-1")
    assert len(reopened(cloud, path).ledger()["builds"]) == 2


def document(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda _: "", "not JSON"),
        (lambda _: "[]", "no imgctl-simulator-world"),
        (lambda d: json.dumps(d)[:-20], "not JSON"),
        (lambda d: json.dumps(d | {"format": "other"}), "no imgctl-simulator-world"),
        (lambda d: json.dumps(d | {"version": 1}), "version 1"),
        (lambda d: json.dumps(d | {"more": 1}), "more"),
        (lambda d: json.dumps({k: v for k, v in d.items() if k != "jobs"}), "jobs"),
        (lambda d: json.dumps(d | {"quota": True}), r"world\.quota"),
        (lambda d: json.dumps(d | {"build_time": -1}), "build_time"),
        (lambda d: json.dumps(d | {"servers": d["servers"] * 2}), "same id twice"),
        (
            lambda d: json.dumps(d | {"servers": [d["servers"][0] | {"created_at": "noon"}]}),
            r"servers\[0\]\.created_at",
        ),
        (lambda d: json.dumps(d | {"servers": [d["servers"][0] | {"created_at": "2026-01-01"}]}), "without a zone"),
        (
            lambda d: json.dumps(d | {"servers": [d["servers"][0] | {"created_at": "9999-12-31T23:59:59+00:00"}]}),
            "cannot be",
        ),
        (lambda d: json.dumps(d | {"region": "\ud800"}), "surrogates"),
        (lambda d: json.dumps(d | {"build_time": float("inf")}), "seconds"),
        (lambda d: json.dumps(d | {"servers": {}}), r"world\.servers is no list"),
        (lambda d: json.dumps(d | {"ledger": []}), r"world\.ledger is no object"),
        (lambda d: json.dumps(d | {"jobs": [d["jobs"][0] | {"outcome": "MAYBE"}]}), "end that cannot be"),
        (lambda d: json.dumps(d | {"jobs": [d["jobs"][0] | {"ends_at": None, "settled": True}]}), "end that cannot be"),
    ],
)
def test_a_damaged_world_is_named(
    make_cloud: Callable[..., Cloud], tmp_path: Path, damage: Callable[[dict[str, Any]], str], told: str
) -> None:
    path = tmp_path / "w.json"
    make_cloud(path=path).build()
    path.write_text(damage(document(path)), encoding="utf-8")
    with pytest.raises(SimulatorError, match=told) as error:
        World.load(path)
    assert str(path) in str(error.value)


def test_a_world_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SimulatorError, match=r"cannot be read"):
            World.load(path)
    with pytest.raises(SimulatorError, match=r"cannot be written"):
        World.create(1, 1.0, path=tmp_path / "none" / "w.json")
    for servers, build_time in ((-1, 1.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(SimulatorError):
            World.create(servers, build_time)


def test_ends_are_applied_in_their_order_whenever_somebody_looks(make_cloud: Callable[..., Cloud]) -> None:
    watched, unwatched = make_cloud(6), make_cloud(6)
    for cloud in (watched, unwatched):
        for number, each in enumerate(list(cloud.world.servers)):
            cloud.faults(f"job-waiting=1:{60 - 7 * number}")
            cloud.build(each, f"image-{number}")
    for _ in range(200):
        watched.clock.advance(1)
        watched.get("/v1/cloudimages/quota")
    unwatched.clock.advance(200)
    for path in ("image-servers", "image-server-sub-jobs?job_type=", "/v2/cloudimages"):
        assert watched.get(path).json() == unwatched.get(path).json()


def test_importing_the_package_costs_nothing() -> None:
    heavy = ["starlette", "uvicorn", "httpx", "asyncio", "json", "reconciler.simulator.world"]
    assert subprocess.run([sys.executable, "-c", FROM_SCRATCH, *heavy], check=False).returncode == 0


def test_a_large_fleet(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(2000)
    servers = list(cloud.world.servers)

    async def scenario() -> None:
        for each in servers:
            await cloud.asend("POST", f"image-servers/{each}/actions/recreate-image", json={"name": f"i-{each}"})

    asyncio.run(scenario())
    cloud.clock.advance(100)
    assert cloud.get("image-server-sub-jobs/actions/count?status=SUCCESS").json() == {"count": 2000}
    assert (
        len({image["id"] for image in cloud.get("/v2/cloudimages?__imagetype=private&limit=1000").json()["images"]})
        == 1000
    )
