"""A state on a server, through the command line: places, hosts, credentials, the lock, and a network that goes away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.state import http
from tests.state.gitlab import PASSWORD, USERNAME, GitLab, serving_states
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS
_CREDENTIALS = {"IMGCTL_STATE_USERNAME": USERNAME, "IMGCTL_STATE_PASSWORD": PASSWORD}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with serving_states() as server:
        yield server


@pytest.fixture
def env(gitlab: GitLab) -> dict[str, str]:
    """A state on the server, as a workflow names it."""
    return {**_CREDENTIALS, "IMGCTL_STATE": gitlab.address()}


def host_of(gitlab: GitLab) -> str:
    return gitlab.url.removeprefix("http://")


def lock_id(ran: Ran) -> str:
    found = re.search(r"force-unlock (\S+)", ran.err)
    assert found is not None, ran.err
    return found[1]


@pytest.mark.parametrize("place", ["https:/host/images", "HTTPS:host/images", "postgresql:/db/images", "s3:b/k"])
def test_a_url_with_a_slash_too_few_is_no_path(place: str, imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    for arguments in (("plan", "--state", place), ("state", "migrate", "--to", place)):
        ran = imgctl(*arguments)
        assert (ran.code, "begins like a URL" in ran.err) == (1, True), ran.err


# From plan to output


def test_everything_works_from_any_folder(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path, env: dict[str, str]
) -> None:
    cloud = start_cloud()
    env |= cloud.env
    manifest = write_manifest()
    applied = imgctl("apply", "--auto-approve", env=env)
    assert applied.code == 0, applied.err
    assert "3 to add" in applied.out
    # Nothing is left in the folder: the next runner has another one.
    assert list(folder.iterdir()) == [manifest]
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    manifest.rename(elsewhere / "imgctl.yaml")
    at = ("-f", str(elsewhere))
    plan = imgctl("plan", "--detailed-exitcode", *at, env=env)
    assert plan.code == 0, plan.err
    assert imgctl("output", "office", "--raw", *at, env=env).out.strip() == cloud.world.servers[OFFICE].image_id
    assert imgctl("state", "mv", "office", "bureau", *at, env=env).code == 0
    assert "bureau" in imgctl("state", "list", *at, env=env).out
    assert cloud.built == sorted(SERVER_IDS)


def test_the_simulated_world_stays_beside_the_manifest(
    imgctl: Imgctl, write_manifest: WriteManifest, folder: Path, env: dict[str, str]
) -> None:
    write_manifest(provider={"simulator": {"servers": 3, "build_time": 0.1}})
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 0, ran.err
    assert {path.name for path in folder.iterdir()} == {"imgctl.yaml", "imgctl.state.json.world.json"}
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0


def test_init_records_on_the_server(
    imgctl: Imgctl, start_cloud: StartCloud, folder: Path, env: dict[str, str], gitlab: GitLab
) -> None:
    cloud = start_cloud()
    cloud.build_elsewhere(OFFICE, "office-1")
    ran = imgctl("init", "--from-cloud", env=cloud.env | env)
    assert ran.code == 0, ran.err
    assert gitlab.address() in ran.out
    again = imgctl("init", "--from-cloud", "-f", "another.yaml", env=cloud.env | env)
    assert again.code == 1
    assert "exists already" in again.err
    assert not (folder / "another.yaml").exists()


def test_what_commands_ask_the_server_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    env |= start_cloud().env
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    gitlab.requests.clear()
    assert imgctl("plan", env=env).code == 0
    assert [one.method for one in gitlab.requests] == ["GET"] * 3
    gitlab.requests.clear()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    # Read, lock twice, read again, unlock twice: nothing was recorded.
    assert [one.method for one in gitlab.requests] == ["GET"] * 3 + ["POST"] * 2 + ["GET"] * 3 + ["DELETE"] * 2
    gitlab.requests.clear()
    assert imgctl("apply", "--auto-approve", "--var", "release=2", env=env).code == 0
    # At most one for each of three steps of three builds, and two for the document and a new journal.
    assert 2 + 3 <= len(gitlab.written) <= 2 + 3 * 3


# Places, hosts, credentials


def test_a_host_that_only_the_manifest_names_is_asked_for_nothing(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab
) -> None:
    write_manifest(state={"url": gitlab.address()})
    for command in (
        ("plan", "--no-refresh"),
        ("plan",),
        ("apply", "--auto-approve"),
        ("status",),
        ("state", "list"),
        ("state", "pull"),
        ("state", "force-unlock", "x"),
        ("state", "migrate", "--to", "here.json"),
    ):
        for env in ({}, _CREDENTIALS):
            ran = imgctl(*command, env=env)
            assert ran.code == 1
            assert f"IMGCTL_STATE_HOST={host_of(gitlab)}" in ran.err
    assert imgctl("validate", env=_CREDENTIALS).code == 0
    assert imgctl("doctor", env=_CREDENTIALS).code == 1
    assert not gitlab.requests


def test_the_environment_allows_one_host_to_the_manifest(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab
) -> None:
    write_manifest(state={"url": gitlab.address()})
    allowed = imgctl("plan", "--no-refresh", env={**_CREDENTIALS, "IMGCTL_STATE_HOST": host_of(gitlab)})
    assert allowed.code == 0, allowed.err
    assert {one.method for one in gitlab.requests} == {"GET"}
    gitlab.requests.clear()
    with serving_states() as strangers:
        write_manifest(state={"url": strangers.address()})
        refused = imgctl("plan", "--no-refresh", env={**_CREDENTIALS, "IMGCTL_STATE_HOST": host_of(gitlab)})
        assert refused.code == 1
        assert f"IMGCTL_STATE_HOST allows only {host_of(gitlab)}" in refused.err
        # What a workflow names itself wins, and needs nobody's leave.
        named = imgctl("plan", "--no-refresh", "--state", gitlab.address(), env=_CREDENTIALS)
        assert named.code == 0, named.err
        assert not strangers.requests
    assert gitlab.requests


@pytest.mark.parametrize(
    "url", ["https://gitlab.example/api/v4/projects/1/terraform/state/images", "https://states.example:444/x"]
)
def test_a_host_is_allowed_with_or_without_its_usual_port(
    url: str, imgctl: Imgctl, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(http.StateServer, "read", lambda *_: asked.append(True))
    write_manifest(state={"url": url})
    host = url.split("/")[2]
    assert imgctl("plan", "--no-refresh", env={"IMGCTL_STATE_HOST": host}).code == 0
    usual = host if ":" in host else f"{host}:443"
    assert imgctl("plan", "--no-refresh", env={"IMGCTL_STATE_HOST": usual}).code == 0
    assert asked
    asked.clear()
    for other in ("states.example", f"{host}.evil.example", "gitlab.example:8443", "example"):
        assert imgctl("plan", "--no-refresh", env={"IMGCTL_STATE_HOST": other}).code == 1
    assert not asked


def test_credentials_come_from_one_pair_and_are_never_shown(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    write_manifest()
    at = {"IMGCTL_STATE": gitlab.address()}
    terraform = {"TF_HTTP_USERNAME": USERNAME, "TF_HTTP_PASSWORD": PASSWORD}
    assert imgctl("plan", "--no-refresh", env=at | terraform).code == 0
    # Ours win, as a pair.
    wrong = {"IMGCTL_STATE_USERNAME": "x", "IMGCTL_STATE_PASSWORD": "hunter2"}
    refused = imgctl("plan", "--no-refresh", env=at | terraform | wrong)
    assert refused.code == 1
    assert "IMGCTL_STATE_USERNAME and IMGCTL_STATE_PASSWORD" in refused.err
    half = imgctl("plan", "--no-refresh", env=at | terraform | {"IMGCTL_STATE_PASSWORD": "hunter2"})
    assert half.code == 1
    assert "IMGCTL_STATE_USERNAME is not" in half.err
    colon = imgctl("plan", "--no-refresh", env=at | {**wrong, "IMGCTL_STATE_USERNAME": "a:b"})
    assert "cannot be sent" in colon.err
    none = imgctl("plan", "--no-refresh", env=at)
    assert none.code == 1
    assert "Set IMGCTL_STATE_USERNAME" in none.err
    for ran in (refused, half, colon, none):
        assert "hunter2" not in ran.out + ran.err
    in_url = imgctl("plan", "--no-refresh", "--state", gitlab.address().replace("//", "//me:hunter2@"), env=env)
    assert in_url.code == 1
    assert "has a user or a password in it" in in_url.err
    assert "hunter2" not in in_url.err
    unencrypted = imgctl("plan", "--no-refresh", "--state", "http://states.example/images", env=env)
    assert "unencrypted" in unencrypted.err


def test_an_entry_of_netrc_goes_to_its_own_host_only(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab, folder: Path
) -> None:
    write_manifest()
    file = folder / "credentials.netrc"
    env = {"IMGCTL_STATE": gitlab.address(), "NETRC": str(file)}

    def plan(content: str, mode: int = 0o600, **more: str) -> Any:
        file.write_text(content, encoding="utf-8")
        file.chmod(mode)
        return imgctl("plan", "--no-refresh", env=env | more)

    ours = f"machine 127.0.0.1 login {USERNAME} password {PASSWORD}\n"
    assert plan(ours).code == 0
    exposed = plan(ours, 0o644)
    assert exposed.code == 1
    assert f"chmod 600 {file}" in exposed.err
    # Neither another host's, nor one that is bound to no host.
    strange = (
        f"machine gitlab.example login {USERNAME} password {PASSWORD}\ndefault login {USERNAME} password {PASSWORD}\n"
    )
    gitlab.requests.clear()
    assert "Set IMGCTL_STATE_USERNAME" in plan(strange).err
    # A pair of variables wins.
    wrong = plan(ours, IMGCTL_STATE_USERNAME="x", IMGCTL_STATE_PASSWORD="hunter2")
    assert "IMGCTL_STATE_USERNAME and IMGCTL_STATE_PASSWORD" in wrong.err
    refused = plan("machine 127.0.0.1 login x password hunter2\n")
    assert f"the entry for 127.0.0.1 in {file}" in refused.err
    broken = plan("machine 127.0.0.1 login x pass-word hunter2\n")
    assert f"{file}:1 cannot be read as a .netrc" in broken.err
    endless = imgctl("plan", "--no-refresh", env={**env, "NETRC": "n" * 300})
    assert f"cannot read {'n' * 300}: File name too long" in endless.err
    for ran in (exposed, wrong, refused, broken, endless):
        assert ran.code == 1
        assert "hunter2" not in ran.out + ran.err
        assert PASSWORD not in ran.out + ran.err


@pytest.mark.parametrize("place", ["", "${CI_API_V4_URL}/projects/1/terraform/state/images", "$STATE"])
def test_a_variable_that_nobody_set_is_no_place(place: str, imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    """A local state that is found in its stead has no records: everything would be a first build."""
    write_manifest()
    ran = imgctl("plan", "--no-refresh", env={"IMGCTL_STATE": place})
    assert ran.code == 1
    assert "variable" in ran.err
    named = imgctl("plan", "--no-refresh", "--state", "here.json", env={"IMGCTL_STATE": place})
    assert named.code == 0, named.err


def test_a_redirect_is_not_followed(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    write_manifest()
    gitlab.fault("GET", "images-journal", 307)
    ran = imgctl("plan", "--no-refresh", env=env)
    assert ran.code == 1
    assert "redirect is not followed" in ran.err
    assert len(gitlab.requests) == 1


def test_a_changed_state_block_is_a_caution(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab
) -> None:
    cloud = start_cloud()
    env = cloud.env | _CREDENTIALS | {"IMGCTL_STATE_HOST": host_of(gitlab)}
    write_manifest(state={"url": gitlab.address()})
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    assert "state.url" not in imgctl("plan", env=env).out
    # The workflow goes on naming the place that it trusts.
    trusted = env | {"IMGCTL_STATE": gitlab.address()}
    write_manifest(state={"url": gitlab.address("others")})
    plan = imgctl("plan", "--format", "json", env=trusted)
    cautions = [one["summary"] for one in plan.json["diagnostics"] if one["severity"] == "caution"]
    assert cautions == [f"state.url is changed: {gitlab.address()} at the last apply, now {gitlab.address('others')}"]
    write_manifest()
    assert f"state.url is changed: {gitlab.address()} at the last apply, now none" in imgctl("plan", env=trusted).out
    # An apply after the review makes it the known one.
    assert imgctl("apply", "--auto-approve", env=trusted).code == 0
    assert "state.url" not in imgctl("plan", env=trusted).out
    assert cloud.built == sorted(SERVER_IDS)


def test_a_local_state_that_gets_a_url_is_a_caution_too(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path, gitlab: GitLab
) -> None:
    env = start_cloud().env | _CREDENTIALS
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    write_manifest(state={"url": gitlab.address()})
    plan = imgctl("plan", "--state", str(folder / "imgctl.state.json"), env=env)
    assert f"state.url is changed: none at the last apply, now {gitlab.address()}" in plan.out


# The lock


def test_a_lock_that_a_dead_run_left_is_shown_and_taken_away(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    env |= start_cloud().env | {"CI_JOB_URL": "https://gitlab.example/group/images/-/jobs/123"}
    write_manifest()
    gitlab.fault("DELETE", "lock", "before", times=99)
    died = imgctl("apply", "--auto-approve", env=env)
    # All is done and recorded; that the lock stays is worth an error.
    assert died.code == 1
    assert "could not be given back" in died.err
    gitlab.faults.clear()
    refused = imgctl("state", "rm", "office", env=env)
    assert refused.code == 5
    assert "for apply, run jobs 123" in refused.err
    assert "ago)" in refused.err
    found = lock_id(refused)
    assert found == lock_id(died)
    other = imgctl("state", "force-unlock", f"{found}x", "--auto-approve", env=env)
    assert other.code == 1
    assert found in other.err
    nobody = imgctl("state", "force-unlock", found, env=env)
    assert nobody.code == 6
    assert "for apply" in nobody.err
    assert imgctl("state", "rm", "office", env=env).code == 5
    unlocked = imgctl("state", "force-unlock", found, "--auto-approve", env=env)
    assert unlocked.code == 0, unlocked.err
    assert "is locked by" in unlocked.err
    assert "unlocked" in unlocked.out
    assert imgctl("state", "rm", "office", env=env).code == 0
    again = imgctl("state", "force-unlock", found, "--auto-approve", env=env)
    assert (again.code, again.out) == (0, f"{gitlab.address()} is not locked.\n")


def test_a_local_lock_needs_no_force(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    ran = imgctl("state", "force-unlock", "anything", "--auto-approve")
    assert ran.code == 1
    assert "goes with its process" in ran.err


def test_another_run_can_be_waited_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    env |= start_cloud().env
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    gitlab.states["images"].lock = {"ID": "x", "Who": "bob", "Created": "2026-11-24T10:15:00Z"}
    refused = imgctl("state", "rm", "office", "--lock-timeout", "0.3", env=env)
    assert refused.code == 5
    assert "waiting up to 0.3 s" in refused.err
    # Reading takes no lock.
    assert imgctl("plan", env=env).code == 0


# Pull, push, migrate


def test_what_is_pulled_can_be_pushed_after_a_correction(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path, env: dict[str, str]
) -> None:
    env |= start_cloud().env
    write_manifest()
    nothing = imgctl("state", "pull", env=env)
    assert nothing.code == 1
    assert "there is no state" in nothing.err
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    pulled = imgctl("state", "pull", env=env)
    assert set(pulled.json["servers"]) == set(SERVER_IDS)
    file = folder / "state.json"

    def push(document: dict[str, Any], *more: str) -> Ran:
        file.write_text(json.dumps(document))
        return imgctl("state", "push", "state.json", *more, env=env)

    same = push(pulled.json)
    assert same.code == 0
    assert "already" in same.out
    corrected = json.loads(pulled.out)
    corrected["servers"][OFFICE]["name"] = "bureau"
    equal = push(corrected, "--force")
    assert equal.code == 1
    assert "has the same serial" in equal.err
    corrected["serial"] += 1
    pushed = push(corrected)
    assert pushed.code == 0, pushed.err
    assert json.loads(imgctl("state", "pull", env=env).out)["servers"] == corrected["servers"]
    older = push(pulled.json, "--force")
    assert older.code == 1
    assert "is older than the state" in older.err
    stranger = push({**corrected, "lineage": "another", "serial": 10**6}, "--force")
    assert stranger.code == 1
    assert "another state" in stranger.err
    forgetful = json.loads(json.dumps(corrected))
    forgetful["serial"] += 1
    del forgetful["servers"][CAD]["attempt"]
    lacking = push(forgetful, "--force")
    assert lacking.code == 1
    assert f"lacks 1 build that the state has: job {corrected['servers'][CAD]['attempt']['job_id']}" in lacking.err
    damaged = imgctl("state", "push", "imgctl.yaml", env=env)
    assert damaged.code == 1
    assert imgctl("state", "push", "missing.json", env=env).code == 1
    # After all of that it is the corrected one, and the next apply goes on with it.
    assert json.loads(imgctl("state", "pull", env=env).out)["servers"] == corrected["servers"]
    assert imgctl("apply", "--auto-approve", env=env).code == 0


def test_a_lost_state_is_restored_only_by_force(
    imgctl: Imgctl,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    folder: Path,
    gitlab: GitLab,
    env: dict[str, str],
) -> None:
    cloud = start_cloud()
    env |= cloud.env
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    (folder / "backup.json").write_text(imgctl("state", "pull", env=env).out)
    gitlab.states.clear()
    refused = imgctl("state", "push", "backup.json", env=env)
    assert refused.code == 1
    assert "--force" in refused.err
    assert imgctl("state", "push", "backup.json", "--force", env=env).code == 0
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    assert cloud.built == sorted(SERVER_IDS)


def test_a_state_moves_to_the_server_and_its_old_place_is_refused(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path, gitlab: GitLab
) -> None:
    cloud = start_cloud()
    env = cloud.env | _CREDENTIALS
    write_manifest()
    assert imgctl("state", "migrate", "--to", gitlab.address(), env=env).code == 1
    assert imgctl("apply", "--auto-approve", "--target", "office", env=env).code == 0
    before = imgctl("state", "pull", env=env).json
    moved = imgctl("state", "migrate", "--to", gitlab.address(), env=env)
    assert moved.code == 0, moved.err
    for command in (("plan",), ("apply", "--auto-approve"), ("status",), ("state", "rm", "office")):
        ran = imgctl(*command, env=env)
        assert ran.code == 1
        assert f"was moved to {gitlab.address()}" in ran.err
    # What is left behind can still be looked at, and not be made a state again.
    left = imgctl("state", "pull", env=env)
    assert left.json["moved_to"] == gitlab.address()
    (folder / "left.json").write_text(left.out)
    assert "was moved to" in imgctl("state", "push", "left.json", "--state", "new.json", "--force", env=env).err
    there = env | {"IMGCTL_STATE": gitlab.address()}
    after = imgctl("state", "pull", env=there).json
    assert {**after, "folded": 0} == {**before, "folded": 0}
    assert imgctl("apply", "--auto-approve", env=there).code == 0
    assert cloud.built == sorted(SERVER_IDS)
    occupied = imgctl("state", "migrate", "--to", "imgctl.state.json", env=there)
    assert occupied.code == 1
    assert "remove first what was left behind there" in occupied.err
    # Back again: to a place that holds none.
    assert imgctl("state", "migrate", "--to", "back.json", env=there).code == 0
    assert imgctl("plan", "--detailed-exitcode", "--state", "back.json", env=env).code == 0
    assert f"was moved to {folder / 'back.json'}" in imgctl("plan", env=there).err


def test_a_move_that_was_cut_off_is_finished_by_the_next_try(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    env |= start_cloud().env
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    # The copy is made; the mark is not.
    gitlab.fault("POST", "images-journal", 403, containing="moved_to")
    cut_off = imgctl("state", "migrate", "--to", gitlab.address("new"), env=env)
    assert cut_off.code == 1
    assert imgctl("plan", env=env).code == 0
    finished = imgctl("state", "migrate", "--to", gitlab.address("new"), env=env)
    assert finished.code == 0, finished.err
    assert "was moved to" in imgctl("plan", env=env).err
    # Another state's place is not taken.
    assert imgctl("state", "migrate", "--to", gitlab.address("new"), env=env).code == 1
    assert imgctl("state", "migrate", "--to", gitlab.address(), env=env).code == 1


def test_the_same_credentials_do_not_go_to_two_hosts(
    imgctl: Imgctl, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    write_manifest()
    with serving_states() as others:
        ran = imgctl("state", "migrate", "--to", others.address(), env=env)
        assert ran.code == 1
        assert "different hosts" in ran.err
        assert not others.requests
        assert not gitlab.requests


# A network that goes away

# Part of a frame, inside the text of a journal.
_INTENT = rb"\"status\":\"intent\""


def _apply_one_at_a_time(imgctl: Imgctl, env: dict[str, str]) -> Ran:
    return imgctl("apply", "--auto-approve", "--max-requests", "1", "--quiet-time", "0.3", env=env)


def _finish(imgctl: Imgctl, cloud: Cloud, env: dict[str, str], cut_off: Ran) -> None:
    """The next run, once the network is back: everything built once, nothing left to do."""
    assert imgctl("apply", "--auto-approve", env=env).code == 5
    assert imgctl("state", "force-unlock", lock_id(cut_off), "--auto-approve", env=env).code == 0
    finished = imgctl("apply", "--auto-approve", "--quiet-time", "0.3", env=env)
    assert finished.code == 0, finished.out + finished.err
    assert cloud.built == sorted(SERVER_IDS)
    assert cloud.ledger["received"] == 3
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_partition_at_the_second_intent_lets_no_request_out(
    when: str,
    imgctl: Imgctl,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    gitlab: GitLab,
    env: dict[str, str],
    folder: Path,
) -> None:
    cloud = start_cloud()
    env |= cloud.env
    write_manifest()

    def cut(moment: str, method: str, name: str, body: bytes) -> None:
        # The journal's text, with the frames from the beginning on.
        second = name == "images-journal" and body.count(_INTENT) == 2
        gitlab.cut = gitlab.cut or (moment == when and method == "POST" and second)

    gitlab.watch = cut
    # One build at a time, so that the second intent comes alone.
    ran = imgctl(
        "apply", "--auto-approve", "--max-requests", "1", "--max-in-flight", "1", "--quiet-time", "0.3", env=env
    )
    assert ran.code == 1
    assert "nor can it be found out whether it was written" in ran.err
    received = cloud.ledger["received"]
    gitlab.cut, gitlab.watch = False, lambda *_: None
    assert received == len(cloud.built) == 1
    assert not list(folder.glob("*.emergency"))
    _finish(imgctl, cloud, env, ran)


def test_a_partition_after_the_request_keeps_its_job_aside(
    imgctl: Imgctl,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    gitlab: GitLab,
    env: dict[str, str],
    folder: Path,
) -> None:
    cloud = start_cloud()
    env |= cloud.env
    write_manifest()

    def cut(moment: str, method: str, name: str, body: bytes) -> None:
        # The cloud has answered, and the job is about to be recorded.
        gitlab.cut = gitlab.cut or (moment == "before" and method == "POST" and b"job_id" in body)

    gitlab.watch = cut
    ran = _apply_one_at_a_time(imgctl, env)
    assert ran.code == 1
    gitlab.cut, gitlab.watch = False, lambda *_: None
    jobs = {build["job_id"] for build in cloud.ledger["builds"]}
    (kept,) = folder.glob("imgctl-*.emergency")
    assert {json.loads(line)["job_id"] for line in kept.read_text().splitlines()} == jobs
    assert kept.stat().st_mode & 0o777 == 0o600
    # However many intents were durable by then, no request without one.
    intended = [one for one in imgctl("state", "list", "--format", "json", env=env).json if one["builds"]]
    assert cloud.ledger["received"] == len(jobs) <= len(intended)
    assert all(job in ran.err for job in jobs)
    _finish(imgctl, cloud, env, ran)
    assert not kept.exists()


def test_answers_that_are_lost_now_and_then_disturb_nobody(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, gitlab: GitLab, env: dict[str, str]
) -> None:
    cloud = start_cloud()
    env |= cloud.env
    write_manifest()
    asked = 0

    def lose(moment: str, method: str, name: str, _: bytes) -> None:
        nonlocal asked
        asked += moment == "before"
        if moment == "before" and asked % 4 == 0 and not gitlab.faults:
            gitlab.fault(method, name, ("before", "after", 502, "late")[asked // 4 % 4])

    gitlab.watch = lose
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 0, ran.err
    gitlab.faults.clear()
    gitlab.watch = lambda *_: None
    assert cloud.built == sorted(SERVER_IDS)
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0
