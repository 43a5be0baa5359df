"""The simulator over TCP."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from reconciler.simulator import SimulatorError, World, serve, serving, write_env_file

PROGRAM = """
import sys
from pathlib import Path
from reconciler.simulator import SimulatorError, World, serve
world = World.open(Path(sys.argv[1]), 3, float(sys.argv[2]))
serve(world, 0, env_file=Path(sys.argv[3]), on_listening=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


@contextmanager
def process(folder: Path, build_time: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of its own that serves the world in the folder."""
    arguments = [str(folder / "w.json"), str(build_time), str(folder / "sim.env")]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


@contextmanager
def client(url: str, world: World) -> Iterator[httpx.Client]:
    """A client that goes straight there, with a token."""
    user = {"name": world.user_name, "password": world.password, "domain": {"name": world.domain_name}}
    scope = {"project": {"name": world.region}}
    identity = {"methods": ["password"], "password": {"user": user}}
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as session:
        answer = session.post("/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        session.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        yield session


def recreate(session: httpx.Client, world: World, number: int = 0) -> httpx.Response:
    path = f"/v1/{world.project_id}/image-servers/{list(world.servers)[number]}/actions/recreate-image"
    return session.post(path, json={"name": f"image-{number}"})


def test_it_answers_on_the_loopback_address(tmp_path: Path) -> None:
    world = World.create(3, 0.0)
    with serving(world) as url, client(url, world) as session:
        assert url.startswith("http://127.0.0.1:")
        answer = session.get(f"/v1/{world.project_id}/image-servers")
        assert answer.json()["count"] == 3
        assert len(answer.headers.get_list("Date")) == 1
        assert "uvicorn" not in answer.headers["Server"]
        assert session.head("/v2/cloudimages").status_code == 405
        assert session.delete("/v2/images/1").status_code == 204
        assert session.get("/_simulator/ledger").json()["received"] == 0


@pytest.mark.parametrize(("kind", "builds"), [("drop-before", 0), ("drop-after", 1)])
def test_a_lost_connection_is_closed_without_an_answer(
    kind: str, builds: int, capfd: pytest.CaptureFixture[str]
) -> None:
    world = World.create(3, 0.0)
    with serving(world, faults=[f"{kind}=1@recreate-image"]) as url, client(url, world) as session:
        for _ in range(3):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                recreate(session, world)
            if builds:
                assert session.get("/_simulator/ledger").json()["builds"]
        assert len(session.get("/_simulator/ledger").json()["builds"]) == builds * 3
    assert capfd.readouterr() == ("", "")


def test_held_requests_do_not_keep_it_from_ending() -> None:
    world = World.create(3, 0.0)
    with serving(world) as url, client(url, world) as session:
        session.post("/_simulator/hold", json={"only": "recreate-image"})
        with pytest.raises(httpx.ReadTimeout):
            session.post(
                f"/v1/{world.project_id}/image-servers/{next(iter(world.servers))}/actions/recreate-image",
                json={"name": "a"},
                timeout=0.2,
            )
        assert session.get("/_simulator/hold").json() == {"held": 1}
        session.post("/_simulator/release")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well_and_says_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path, 0.1) as (child, url):
        assert httpx.get(f"{url}/_simulator/ledger", trust_env=False).status_code == 200
        child.send_signal(number)
        output, errors = child.communicate(timeout=30)
        assert (output, errors, child.returncode) == ("ended\n", "", 0)


def test_a_build_outlives_the_process_that_served_it(tmp_path: Path) -> None:
    with process(tmp_path, 0.5) as (child, url):
        world = World.load(tmp_path / "w.json")
        with client(url, world) as session:
            job_id = recreate(session, world).json()["job_id"]
        child.kill()
    with process(tmp_path, 0.5) as (_, url), client(url, world) as session:
        path = f"/v1/{world.project_id}/image-server-jobs/{job_id}"
        while session.get(path).json()["status"] != "SUCCESS":
            pass
        assert len(session.get("/v2/cloudimages?name=image-0").json()["images"]) == 1


def test_the_env_file_is_private_and_a_shell_can_read_it(tmp_path: Path) -> None:
    path, world = tmp_path / "sim env", World.create(1, 0.0)
    write_env_file(path, "http://127.0.0.1:1", world)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = ("HW_REGION_NAME", "HW_PROJECT_ID", "HW_ACCESS_KEY", "HW_SECRET_KEY", "IMGCTL_ENDPOINT")
    shell = f'set -a; . "$1"; for name in {" ".join(names)}; do eval "echo \\$$name"; done'
    read = subprocess.run(["sh", "-c", shell, "sh", str(path)], capture_output=True, text=True, check=True)
    assert read.stdout.split() == [
        world.region,
        world.project_id,
        world.access_key,
        world.secret_key,
        "http://127.0.0.1:1",
    ]
    with pytest.raises(SimulatorError, match="cannot be written"):
        write_env_file(tmp_path / "none" / "env", "", world)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for number in (port, 99_999):
            with pytest.raises(SimulatorError, match=f"127.0.0.1:{number}"):
                serve(World.create(1, 0.0), number)


def test_no_environment_is_needed(tmp_path: Path) -> None:
    with process(tmp_path, 0.1) as (_, url):
        lines = (tmp_path / "sim.env").read_text(encoding="utf-8").splitlines()
        assert f"IMGCTL_ENDPOINT={url}" in lines
        assert os.stat(tmp_path / "w.json").st_mode & 0o777 == 0o600
