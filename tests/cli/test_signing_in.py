"""Signing in as a user meets it: profiles, an ECS agency, keys and tokens that end in the middle of an apply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from starlette.types import Scope

from reconciler.simulator.app import Gateway
from reconciler.simulator.calls import Operation
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS
TOKEN, KEY = "PUT /meta-data/latest/api/token", "GET /openstack/latest/securitykey"
SIGN_IN = "POST /v3/auth/tokens"
RECREATE = "POST /v1/{project_id}/image-servers/{server_id}/actions/recreate-image"


def without_keys(cloud: Cloud, **more: str) -> dict[str, str]:
    """What points imgctl at the simulator, but for the keys."""
    return {name: value for name, value in cloud.env.items() if "KEY" not in name} | more


def on_instance(cloud: Cloud, **more: str) -> dict[str, str]:
    return without_keys(cloud, IMGCTL_ENDPOINT_METADATA=cloud.url, **more)


def by_password(cloud: Cloud) -> dict[str, str]:
    world = cloud.world
    return without_keys(
        cloud, HW_USER_NAME=world.user_name, HW_USER_PASSWORD=world.password, HW_DOMAIN_NAME=world.domain_name
    )


def change_instance(cloud: Cloud, **how: object) -> None:
    body = json.dumps(how).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{cloud.url}/_simulator/metadata", body, headers, method="PATCH"), timeout=10):
        return


def secrets_of(cloud: Cloud) -> list[str]:
    world = cloud.world
    keys = [one for key in world.keys.values() for one in (key.secret, key.security_token) if one]
    return [world.password, *keys, *world.tokens, *world.instance.issued]


def assert_no_secret(cloud: Cloud, *ran: Ran) -> None:
    said = "".join(one.out + one.err for one in ran)
    assert not [secret for secret in secrets_of(cloud) if secret in said]


def statuses(folder: Path) -> list[str]:
    state = json.loads((folder / "imgctl.state.json").read_text())
    return [record["attempt"]["status"] for record in state["servers"].values()]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many recreate requests, from now on, find that every token and temporary key has just ended."""
    left = {"times": 0}
    real: Any = Gateway._authenticate

    def ending(
        self: Gateway, operation: Operation, scope: Scope, headers: Mapping[str, str], body: bytes, now: Any
    ) -> bool:
        if left["times"] and operation.template.endswith("recreate-image"):
            left["times"] -= 1
            for token in self._world.tokens.values():
                token.expires_at = now - timedelta(seconds=1)
            for key in self._world.keys.values():
                key.expires_at = now - timedelta(seconds=1) if key.expires_at else None
            self._world.instance.key = None
        return bool(real(self, operation, scope, headers, body, now))

    monkeypatch.setattr(Gateway, "_authenticate", ending)
    return left


@pytest.mark.parametrize("tokens", ["optional", "required", "none"])
def test_an_instance_with_an_agency_needs_no_keys(
    tokens: str, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    change_instance(cloud, tokens=tokens)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "-vv", env=on_instance(cloud))
    assert ran.code == 0, ran.err
    assert cloud.built == sorted(SERVER_IDS)
    requests = cloud.ledger["requests"]
    assert (requests[TOKEN], requests[KEY]) == (1, 1)
    assert "securitykey -> 200" in ran.err
    assert_no_secret(cloud, ran)


def test_keys_that_end_in_the_middle_of_an_apply_are_renewed(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=1.2)
    change_instance(cloud, key_life=0.8)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "-vv", env=on_instance(cloud))
    assert ran.code == 0, ran.err
    assert cloud.ledger["received"] == 3
    assert cloud.ledger["requests"][KEY] >= 2
    assert "-> 401" not in ran.err
    assert_no_secret(cloud, ran)


def test_the_agency_is_taken_away_in_the_middle_and_the_builds_are_kept(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=30)
    change_instance(cloud, key_life=0.4)
    write_manifest()
    assert imgctl("apply", "--auto-approve", "--no-wait", env=on_instance(cloud)).code == 0
    change_instance(cloud, agency=False)
    ran = imgctl("wait", env=on_instance(cloud))
    assert ran.code == 1
    assert "this ECS instance has no agency" in ran.err
    assert statuses(folder) == ["running"] * 3
    assert cloud.ledger["received"] == 3


def test_no_proxy_is_between_imgctl_and_this_machine(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    ran = imgctl("apply", "--auto-approve", env=on_instance(cloud, **proxies))
    assert ran.code == 0, ran.err


def test_without_credentials_everything_that_was_tried_is_told_at_once(
    imgctl: Imgctl, write_manifest: WriteManifest
) -> None:
    write_manifest(region="ap-southeast-1")
    ran = imgctl("plan")
    assert ran.code == 1
    assert "error: no credentials found" in ran.err
    for tried in ("IMGCTL_*", "HW_*", "HUAWEICLOUD_SDK_*", "~/.huaweicloud/credentials", "~/.hcloud/config.json"):
        assert tried in ran.err
    assert "ECS metadata service" in ran.err


def test_profiles_of_the_sdk_and_of_koocli(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    home = folder.parent
    (home / ".huaweicloud").mkdir()
    (home / ".hcloud").mkdir()
    sdk, koocli = home / ".huaweicloud" / "credentials", home / ".hcloud" / "config.json"
    world = cloud.world
    sdk.write_text(f"[basic]\nak = {world.access_key}\nsk = {world.secret_key}\niam_endpoint = {cloud.url}\n")
    ran = imgctl("plan", env={"IMGCTL_ENDPOINT": cloud.url, "HW_REGION_NAME": world.region})
    assert (ran.code, "1 to add" in ran.out) == (0, True), ran.err
    sdk.unlink()
    profile = {
        "name": "ops",
        "mode": "AKSK",
        "accessKeyId": world.access_key,
        "secretAccessKey": world.secret_key,
        "region": world.region,
        "projectId": world.project_id,
    }
    koocli.write_text(json.dumps({"current": "other", "profiles": [profile]}))
    before = cloud.ledger["requests"].get("GET /v3/projects", 0)
    ran = imgctl("plan", env={"IMGCTL_ENDPOINT": cloud.url, "HW_PROFILE": "ops"})
    assert (ran.code, "1 to add" in ran.out) == (0, True), ran.err
    # The profile has the project: IAM is not asked.
    assert cloud.ledger["requests"].get("GET /v3/projects", 0) == before
    ran = imgctl("plan", env={"IMGCTL_ENDPOINT": cloud.url})
    assert "names no profile as its current one" in ran.err or "no region given" in ran.err
    assert_no_secret(cloud, ran)


def test_a_temporary_key_of_a_file_is_read_again_in_the_middle_of_an_apply(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    refusing: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud()
    write_manifest()
    world = cloud.world
    path = folder.parent / "credentials"

    def write_new_key() -> None:
        from reconciler.simulator.identity import new_temporary_key

        key = new_temporary_key(world, world.now(), timedelta(hours=1))
        path.write_text(f"[basic]\nak = {key.access}\nsk = {key.secret}\nsecurity_token = {key.security_token}\n")

    write_new_key()
    real: Any = Gateway._authenticate

    def renewing(self: Gateway, operation: Operation, *rest: Any) -> bool:
        ends = bool(refusing["times"]) and operation.template.endswith("recreate-image")
        try:
            return bool(real(self, operation, *rest))
        finally:
            if ends:
                # Whoever renews the file does so just now.
                write_new_key()

    monkeypatch.setattr(Gateway, "_authenticate", renewing)
    refusing["times"] = 1
    env = without_keys(cloud, HUAWEICLOUD_SDK_CREDENTIALS_FILE=str(path))
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == sorted(SERVER_IDS)
    assert statuses(folder) == ["succeeded"] * 3
    assert_no_secret(cloud, ran)


@pytest.mark.parametrize("kind", [by_password, on_instance])
def test_a_build_refused_for_an_outdated_token_is_sent_once_more(
    kind: Any,
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    refusing: dict[str, int],
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    refusing["times"] = 1
    ran = imgctl("apply", "--auto-approve", "-vv", env=kind(cloud))
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == [OFFICE]
    assert cloud.ledger["requests"][RECREATE] == 2
    assert ran.err.count("recreate-image -> 401") == 1
    assert cloud.ledger["requests"][SIGN_IN if kind is by_password else KEY] == 2
    state = json.loads((folder / "imgctl.state.json").read_text())
    record = state["servers"][OFFICE]
    assert record["attempt"]["status"] == "succeeded"
    # One attempt: the refusal is no build that failed.
    assert not record.get("history")
    assert_no_secret(cloud, ran)


@pytest.mark.parametrize("kind", [by_password, on_instance])
def test_never_in_a_loop(
    kind: Any,
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    refusing: dict[str, int],
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    refusing["times"] = 1000
    ran = imgctl("apply", "--auto-approve", env=kind(cloud))
    assert ran.code == 1
    assert cloud.ledger["requests"][RECREATE] == 2
    assert cloud.built == []
    assert statuses(folder) == ["refused"]
    # Nothing is in doubt, and the next run begins anew.
    refusing["times"] = 0
    assert imgctl("apply", "--auto-approve", env=kind(cloud)).code == 0
    assert cloud.built == [OFFICE]


def test_a_fleet_is_built_although_the_token_ends_for_all_at_once(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest, refusing: dict[str, int]
) -> None:
    cloud = start_cloud(servers=30)
    servers = list(cloud.world.servers)
    write_manifest({f"s{number}": server_id for number, server_id in enumerate(servers)})
    refusing["times"] = 5
    ran = imgctl("apply", "--auto-approve", env=by_password(cloud))
    assert ran.code in (0, 1), ran.err
    # Each at most twice, whatever happened; and a second run completes it without a duplicate.
    assert cloud.ledger["requests"][RECREATE] <= 60
    assert len(set(cloud.built)) == len(cloud.built)
    refusing["times"] = 0
    assert imgctl("apply", "--auto-approve", env=by_password(cloud)).code == 0
    assert cloud.built == sorted(servers)


@pytest.mark.parametrize("kind", [by_password, on_instance])
def test_one_end_of_the_credentials_fails_no_build_of_a_fleet(
    kind: Any,
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    refusing: dict[str, int],
) -> None:
    """Those that were refused are sent once more, those that waited are signed anew."""
    cloud = start_cloud("latency=0.02", servers=40)
    servers = list(cloud.world.servers)
    write_manifest({f"s{number}": server_id for number, server_id in enumerate(servers)})
    refusing["times"] = 1
    ran = imgctl("apply", "--auto-approve", "--max-in-flight", "0", env=kind(cloud))
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == sorted(servers)
    # None but those that were on the wire just then were sent twice.
    assert 40 < cloud.ledger["requests"][RECREATE] <= 40 + 16
    assert cloud.ledger["requests"][SIGN_IN if kind is by_password else KEY] == 2
    assert statuses(folder) == ["succeeded"] * 40
    assert_no_secret(cloud, ran)


def test_a_wrong_key_is_not_locked(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud("latency=0.02")
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    ran = imgctl("plan", env=cloud.env | {"HW_SECRET_KEY": "wrong"})
    assert (ran.code, "401" in ran.err) == (1, True)
    key = cloud.world.keys[cloud.world.access_key]
    # The next one may be on its way before the first one's answer has ended the run.
    assert (key.failures <= 2, key.locked_until) == (True, None)
