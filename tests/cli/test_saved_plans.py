"""Saved plans, as a user calls them: a plan file is an approval, not instructions."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import plan_files
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest, locked_state

OFFICE, CAD, WEB = SERVER_IDS
NEVER = "f" * 64


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    return start_cloud()


@pytest.fixture
def run(imgctl: Imgctl, cloud: Cloud) -> Callable[..., Ran]:
    """imgctl against the cloud; the code that it must end with is 0 unless said otherwise."""

    def call(*arguments: str, code: int = 0, **env: str) -> Ran:
        ran = imgctl(*arguments, env={**cloud.env, **env})
        assert ran.code == code, ran.out + ran.err
        return ran

    return call


Run = Callable[..., Ran]


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def saved(folder: Path, name: str = "p.plan") -> Any:
    return json.loads((folder / name).read_text())


def builds(cloud: Cloud) -> list[str]:
    return sorted(build["name"] for build in cloud.ledger["builds"])


def reads(cloud: Cloud) -> int:
    requests: dict[str, int] = cloud.ledger["requests"]
    return sum(requests.values())


def lose_image(cloud: Cloud, folder: Path, server_id: str) -> None:
    """Delete the image that a server holds, behind our back."""
    image = cloud.world.images.get(state_of(folder)["servers"][server_id]["held"]["image_id"])
    assert image is not None
    cloud.world.images.delete(image)


# Saving


def test_a_plan_is_saved_shown_applied_and_then_done(
    run: Run, imgctl: Imgctl, folder: Path, cloud: Cloud, write_manifest: WriteManifest
) -> None:
    write_manifest()
    planned = run("plan", "--out", "p.plan")
    plan_id = saved(folder)["plan_id"]
    assert planned.out.endswith(f"\nSaved as p.plan, plan {plan_id}.\nNext: imgctl apply p.plan\n")
    assert stat.S_IMODE((folder / "p.plan").stat().st_mode) == 0o600
    assert cloud.world.secret_key not in (folder / "p.plan").read_text()
    # To show it takes neither manifest, state, nor cloud.
    (folder / "imgctl.yaml").rename(folder / "away")
    shown = imgctl("show", "p.plan")
    assert shown.code == 0
    assert f"Plan {plan_id}\n" in shown.out
    assert planned.out.startswith(shown.out.split("\n\n", 1)[1])
    assert imgctl("show", "p.plan", "--format", "json").json == saved(folder)
    (folder / "away").rename(folder / "imgctl.yaml")
    applied = run("apply", "p.plan")
    assert f"Plan {plan_id[:12]}, approved as p.plan.\n" in applied.out
    assert "Plan: 3 to add" in applied.out
    assert "Apply complete! 3 built" in applied.out
    assert {one["attempt"]["plan_id"] for one in state_of(folder)["servers"].values()} == {plan_id}
    # Done: it says so without asking anybody for anything, not even for credentials.
    before, document = reads(cloud), (folder / "imgctl.state.json").read_bytes()
    again = imgctl("apply", "p.plan", env={"HW_REGION_NAME": cloud.world.region})
    assert (again.code, again.out) == (0, f"Plan {plan_id[:12]} was applied already: its 3 changes are done.\n")
    assert reads(cloud) == before
    assert (folder / "imgctl.state.json").read_bytes() == document


def test_two_plans_of_the_same_inputs_differ_in_the_time_alone(
    run: Run, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    for name in ("a.plan", "b.plan"):
        run("plan", "--out", name, "--var", "release=7", "--target", "c*", "--max-changes", "5")
    one, other = (re.sub(r'"created_at": "[^"]*"', "", (folder / name).read_text()) for name in ("a.plan", "b.plan"))
    assert one == other
    assert saved(folder, "a.plan")["saved"]["asked"] == {
        "manifest": "imgctl.yaml",
        "targets": ["c*"],
        "excludes": [],
        "labels": [],
        "replace": [],
        "max_changes": 5,
        "max_prunes": None,
        "max_in_flight": None,
    }


def test_other_outputs_stay_what_they_are(run: Run, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    ran = run("plan", "--out", "p.plan", "--format", "json", "--detailed-exitcode", code=2)
    assert ran.json == {key: value for key, value in saved(folder).items() if key not in ("saved", "checksum")}
    assert "Next: imgctl apply p.plan" in ran.err
    # A saved plan gives way to the next one; what is printed alone cannot be applied.
    assert "Next: imgctl apply p.plan" in run("plan", "--out", "p.plan").out
    (folder / "printed").write_text(ran.out)
    assert "lacks what it takes to apply it" in run("apply", "printed", code=1).err


def test_the_next_step_is_the_command_that_works(
    run: Run, folder: Path, cloud: Cloud, write_manifest: WriteManifest
) -> None:
    write_manifest({"office": {"server_id": OFFICE, "protect": True}})
    run("apply", "--auto-approve", "--state", "my state.json")
    (folder / "imgctl.yaml").rename(folder / "my fleet.yaml")
    ran = run(
        *("plan", "-f", "my fleet.yaml", "--state", "my state.json", "--var", "release=2"),
        *("--allow", "office", "--out", "my plan"),
    )
    step = "imgctl apply 'my plan' -f 'my fleet.yaml' --state 'my state.json' --allow office"
    assert ran.out.endswith(f"Next: {step}\n")
    run("apply", "my plan", "-f", "my fleet.yaml", "--state", "my state.json", "--allow", "office")
    assert builds(cloud) == ["office-1", "office-2"]


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("imgctl.yaml", "this file exists already, and is no plan"),
        ("notes.txt", "this file exists already, and is no plan"),
        ("printed.json", "this file exists already, and is no plan"),
        ("there/p.plan", "there is no folder there"),
        ("folder", "is not a regular file"),
        ("link", "is a symbolic link"),
        ("fifo", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
    ],
)
def test_a_plan_takes_no_other_files_place(
    run: Run, folder: Path, cloud: Cloud, write_manifest: WriteManifest, out: str, why: str
) -> None:
    write_manifest()
    (folder / "notes.txt").write_text("mine")
    (folder / "printed.json").write_text(run("plan", "--format", "json").out)
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("notes.txt")
    os.mkfifo(folder / "fifo")
    before, asked = sorted(folder.iterdir()), reads(cloud)
    assert why in run("plan", "--out", out, code=1).err
    assert sorted(folder.iterdir()) == before
    assert (folder / "notes.txt").read_text() == "mine"
    # Nobody has waited for the cloud first.
    assert reads(cloud) == asked


def test_nothing_is_left_where_a_plan_cannot_be_written(
    run: Run, folder: Path, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    before = (folder / "p.plan").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reconciler.cli.plan_files.os.fsync", full)
    assert "cannot write p.plan: No space left on device" in run("plan", "--out", "p.plan", code=1).err
    assert (folder / "p.plan").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["imgctl.yaml", "p.plan"]


def test_a_folder_of_manifests_may_hold_plans(run: Run, folder: Path, write_manifest: WriteManifest) -> None:
    manifest = write_manifest()
    (folder / "images").mkdir()
    manifest.rename(folder / "images/imgctl.yaml")
    run("plan", "-f", "images", "--out", "images/november.plan.json")
    run("apply", "images/november.plan.json", "-f", "images")


# What is no plan


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.plan", "there is no plan none.plan"),
        ("folder", "is not a regular file"),
        ("link", "is a symbolic link"),
        ("fifo", "is not a regular file"),
        ("empty", "empty is empty"),
        ("half", "half is damaged or cut short"),
        ("edited", "edited was edited or damaged: its checksum does not fit"),
        ("newer", "is a plan of format 1.9; this imgctl reads 1.0"),
        ("imgctl.yaml", "is no imgctl plan"),
        ("large", "has more than 64 MiB"),
    ],
)
@pytest.mark.parametrize("command", ["apply", "show"])
def test_what_is_no_plan_is_refused(
    run: Run, folder: Path, cloud: Cloud, write_manifest: WriteManifest, command: str, name: str, why: str
) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    text = (folder / "p.plan").read_text()
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("p.plan")
    os.mkfifo(folder / "fifo")
    (folder / "empty").write_text("")
    (folder / "half").write_text(text[: len(text) // 2])
    (folder / "edited").write_text(text.replace("office-1", "office-9"))
    (folder / "newer").write_text(text.replace('"format_version": "1.0"', '"format_version": "1.9"'))
    with (folder / "large").open("w") as file:
        file.write(text)
        file.truncate(plan_files.LARGEST_PLAN + 1)
    if command == "show":
        name = f"./{name}"
    ran = run(command, name, code=1)
    assert why in ran.err
    assert ran.out == ""
    assert cloud.ledger["received"] == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--target", "office"],
        ["--exclude", "office"],
        ["-l", "ring=canary"],
        ["--replace", "office"],
        ["--refresh-only"],
        ["--var", "release=2"],
        ["--var-file", "more.yaml"],
        ["--expect", NEVER],
    ],
)
def test_what_to_plan_cannot_stand_beside_a_plan(
    run: Run, cloud: Cloud, write_manifest: WriteManifest, flags: list[str]
) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    flag = "--label" if flags[0] == "-l" else flags[0]
    assert f"{flag} cannot stand beside a saved plan" in run("apply", "p.plan", *flags, code=1).err
    assert cloud.ledger["received"] == 0


# What has moved


def stale(run: Run, *flags: str, **env: str) -> str:
    ran = run("apply", "p.plan", *flags, code=4, **env)
    assert "is stale" in ran.err or "was made" in ran.err
    return ran.err


def test_a_declaration_that_has_changed(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "x"}}, "cad": CAD, "bureau": WEB})
    said = stale(run)
    assert "p.plan is stale: 2 servers moved since, so nothing was started" in said
    assert "  office: its declaration has changed (image.description)\n" in said
    assert "  web: its declaration has changed (image.name); its name is bureau, not web\n" in said
    assert cloud.ledger["received"] == 0
    write_manifest({"office": OFFICE, "cad": CAD})
    assert "  web: no longer declared; build is not needed any more\n" in stale(run)
    write_manifest({"office": OFFICE, "cad": CAD, "web": {"server_id": WEB, "protect": True}})
    assert "  web: its declaration has changed\n" in stale(run)


def test_what_another_run_has_built(run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("apply", "--auto-approve")
    run("plan", "--out", "p.plan", "--var", "release=2")
    run("apply", "--auto-approve", "--var", "release=3", "--target", "cad")
    other = state_of(folder)["servers"][CAD]["attempt"]["plan_id"]
    assert f"  cad: another plan has built it since ({other[:12]})" in stale(run)
    assert cloud.ledger["received"] == 4
    # What a failed attempt leaves is no news of the image, but somebody has tried.
    run("plan", "--out", "p.plan", "--var", "release=2")
    cloud.faults("job-failed=1")
    run("apply", "--auto-approve", "--var", "release=4", "--target", "web", code=3)
    assert "  web: another plan has tried to build it since" in stale(run)


def test_what_somebody_has_imported_or_edited(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("plan", "--out", "p.plan")
    job = cloud.build_elsewhere(OFFICE, "by hand")
    run("import", "office", "--image-id", job.image_id)
    assert "  office: a build of it was imported since; rebuild instead of build: name differs\n" in stale(run)
    run("plan", "--out", "p.plan")
    image = cloud.world.images.get(job.image_id)
    assert image is not None
    image.description = "by hand"
    run("apply", "--auto-approve", "--refresh-only")
    assert "  office: its record holds something else now" in stale(run)


def test_what_the_cloud_has_lost(run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("apply", "--auto-approve")
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "x"}}})
    run("plan", "--out", "p.plan")
    lose_image(cloud, folder, OFFICE)
    assert "  office: rebuild instead of update: the held image is gone from IMS\n" in stale(run)


def test_another_state_or_none(run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("apply", "--auto-approve", "--target", "web")
    run("apply", "--auto-approve", "--target", "web", "--state", "other.json", "--allow", "web")
    run("plan", "--out", "p.plan")
    lineage, other = state_of(folder)["lineage"], json.loads((folder / "other.json").read_text())["lineage"]
    before = reads(cloud)
    said = stale(run, "--state", "other.json")
    assert "p.plan was made with another state than the one at other.json" in said
    assert lineage in said
    assert other in said
    assert "p.plan was made with a state, and there is none at none.json" in stale(run, "--state", "none.json")
    # Nobody had to ask the cloud.
    assert reads(cloud) == before
    assert not (folder / "none.json").exists()


def test_another_place(run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    before = reads(cloud)
    assert f"project {cloud.world.project_id}; this run is for" in stale(run, HW_PROJECT_ID="0" * 32)
    assert "p.plan was made for huaweicloud, region ap-southeast-1" in stale(run, HW_REGION_NAME="cn-north-4")
    write_manifest(provider={"simulator": {"build_time": 0.1}})
    assert "this run is for simulator" in stale(run)
    # Nor the other way round: what was simulated is never done.
    run("plan", "--out", "simulated.plan")
    write_manifest()
    ran = run("apply", "simulated.plan", code=4)
    assert "simulated.plan was made for simulator" in ran.err
    assert reads(cloud) == before
    assert not (folder / "imgctl.state.json").exists()


def test_a_locked_state_is_not_waited_for(run: Run, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    with locked_state(folder / "imgctl.state.json"):
        run("apply", "p.plan", code=5)


# What has not


def test_two_merges_do_not_stale_each_other(
    run: Run, imgctl: Imgctl, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    run("plan", "--out", "one.plan", "--target", "office")
    run("plan", "--out", "two.plan", "--target", "cad", "--target", "web")
    write_manifest({"new": "628c77d7-6f7e-4a0d-a4d0-000000000000", "office": OFFICE, "cad": CAD, "web": WEB})
    run("apply", "one.plan")
    assert "2 built" in run("apply", "two.plan").out
    assert cloud.built == sorted(SERVER_IDS)
    # At the same time, one waits for the other's lock.
    write_manifest()
    run("plan", "--out", "one.plan", "--target", "office", "--var", "release=2")
    run("plan", "--out", "two.plan", "--exclude", "office", "--var", "release=3")
    results: list[int] = []

    def other() -> None:
        from tests.cli.test_apply import _background

        process = _background(folder, cloud, "apply", "one.plan", "--lock-timeout", "60")
        process.communicate(timeout=60)
        results.append(process.returncode)

    thread = threading.Thread(target=other)
    thread.start()
    run("apply", "two.plan", "--lock-timeout", "60")
    thread.join()
    assert results == [0]
    held = {one["name"]: one["held"]["spec"]["name"] for one in state_of(folder)["servers"].values()}
    assert held == {"office": "office-2", "cad": "cad-3", "web": "web-3"}


def test_what_is_not_in_the_plan_is_not_done(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("plan", "--out", "p.plan")
    write_manifest(limits={"max_changes": 1})
    # Two more servers are declared by now: they are neither built nor counted.
    run("apply", "p.plan")
    assert cloud.built == [OFFICE]


def test_a_variable_of_the_plan_holds_and_no_other(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("plan", "--out", "p.plan", IMGCTL_VAR_release="7")
    applied = run("apply", "p.plan", IMGCTL_VAR_release="8")
    assert 'var.release = "7" (from IMGCTL_VAR_release)' in applied.out
    assert builds(cloud) == ["office-7"]
    # Where the variable is gone, what comes out decides.
    run("plan", "--out", "p.plan", "--var", "release=9")
    write_manifest({"office": {"server_id": OFFICE, "image": {"name": "office-9"}}}, vars={})
    assert "the plan sets release, no variable of this manifest" in run("apply", "p.plan").out
    assert builds(cloud) == ["office-7", "office-9"]


def test_a_busy_server_is_not_stale(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    cloud.world.servers[CAD].status = "ERROR"
    assert "1 change unavailable" in run("apply", "p.plan", "--strict", code=6).err
    ran = run("apply", "p.plan", code=3)
    assert "unavailable: the server is in ERROR" in ran.out
    assert cloud.built == sorted([OFFICE, WEB])
    cloud.world.servers[CAD].status = "ACTIVE"
    ran = run("apply", "p.plan")
    assert "approved as p.plan: 2 of 3 changes done before." in ran.out
    assert cloud.built == sorted(SERVER_IDS)


def test_a_plan_without_a_refresh_is_compared_with_what_a_refresh_shows(
    run: Run, imgctl: Imgctl, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    run("plan", "--out", "p.plan", "--no-refresh")
    run("apply", "p.plan")
    # Manifest and state alone ask for one rebuild; the cloud asks for another one, which nobody has approved.
    lose_image(cloud, folder, WEB)
    write_manifest({"office": OFFICE, "cad": {"server_id": CAD, "triggers": {"gpu": "2"}}, "web": WEB})
    no_cloud = imgctl("plan", "--out", "p.plan", "--no-refresh", env={"HW_REGION_NAME": cloud.world.region})
    assert no_cloud.code == 0
    assert saved(folder)["bound_to"]["project_id"] == cloud.world.project_id
    assert "1 rebuilt" in run("apply", "p.plan").out
    assert builds(cloud) == ["cad-1", "cad-1", "office-1", "web-1"]
    # And where it shows that something else is needed, the plan is stale.
    write_manifest({"office": OFFICE, "cad": CAD, "web": {"server_id": WEB, "image": {"description": "x"}}})
    run("plan", "--out", "p.plan", "--no-refresh", "--target", "web")
    assert "web: rebuild instead of update: the held image is gone from IMS" in stale(run)


def test_an_empty_plan_notes_the_guards_that_were_seen(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    run("apply", "--auto-approve")
    servers: dict[str, Any] = {"office": {"server_id": OFFICE, "protect": True}, "cad": CAD, "web": WEB}
    write_manifest(servers, limits={"max_changes": 5})
    run("plan", "--out", "p.plan")
    # Loosened after the review: what was reviewed is noted, the looser limit is not.
    write_manifest(servers, limits={"max_changes": 50})
    assert "has no changes: there is nothing to do." in run("apply", "p.plan").out
    assert state_of(folder)["servers"][OFFICE]["protect"] is True
    assert "limits" not in state_of(folder)
    write_manifest(servers, limits={"max_changes": 5})
    run("apply", "p.plan")
    assert state_of(folder)["limits"] == {"max_changes": 5}


# Gates


def test_a_plan_file_opens_no_gate(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest({"office": {"server_id": OFFICE, "protect": True}})
    run("apply", "--auto-approve")
    run("plan", "--out", "p.plan", "--var", "release=2", "--allow", "office")
    ran = run("apply", "p.plan", "--auto-approve", code=6)
    assert "1 change gated, so nothing was started: office" in ran.err
    assert cloud.ledger["received"] == 1
    run("apply", "p.plan", "--allow", "office")
    write_manifest({})
    run("plan", "--out", "p.plan", "--allow-empty", "--allow", "office")
    run("apply", "p.plan", "--allow", "office", code=6)
    run("apply", "p.plan", "--allow", "office", "--allow-empty")


@pytest.mark.parametrize(
    ("planned", "applied"), [(["--max-changes", "2"], []), ([], ["--max-changes", "2"]), (["--max-changes", "9"], [])]
)
def test_limits_tighten_on_both_sides(
    run: Run, cloud: Cloud, write_manifest: WriteManifest, planned: list[str], applied: list[str]
) -> None:
    write_manifest(limits={} if planned != ["--max-changes", "9"] else {"max_changes": 2})
    run("plan", "--out", "p.plan", *planned)
    assert "3 changes, and max_changes is 2" in run("apply", "p.plan", *applied, code=6).out
    assert cloud.ledger["received"] == 0


def test_an_image_that_nobody_recorded_gates_at_apply(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("plan", "--out", "p.plan")
    cloud.build_elsewhere(OFFICE, "by hand")
    assert "not recorded here" in run("apply", "p.plan", code=6).out
    run("apply", "p.plan", "--allow", "office")


# Going on


def test_builds_in_flight_are_taken_up_again(
    run: Run, start_cloud: StartCloud, imgctl: Imgctl, folder: Path, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.5)
    write_manifest()
    assert imgctl("plan", "--out", "p.plan", env=cloud.env).code == 0
    assert imgctl("apply", "p.plan", "--timeout", "0.2", "--max-in-flight", "2", env=cloud.env).code == 7
    assert cloud.ledger["received"] == 2
    ran = imgctl("apply", "p.plan", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "2 resumed, 1 built" in ran.out or "1 built, 2 resumed" in ran.out
    assert cloud.built == sorted(SERVER_IDS)
    assert {one["attempt"]["plan_id"] for one in state_of(folder)["servers"].values()} == {saved(folder)["plan_id"]}
    assert "was applied already" in imgctl("apply", "p.plan", env=cloud.env).out


def test_failed_builds_are_tried_again_until_a_person_must_look(
    run: Run, cloud: Cloud, write_manifest: WriteManifest
) -> None:
    write_manifest()
    run("plan", "--out", "p.plan")
    run("apply", "--auto-approve", "--target", "web", "--var", "release=1")
    run("plan", "--out", "p.plan")
    cloud.faults("job-failed=1")
    for _ in range(3):
        run("apply", "p.plan", code=3)
    assert "3 builds of this declaration have failed" in run("apply", "p.plan", code=3).out
    assert cloud.ledger["received"] == 7
    cloud.faults()
    run("plan", "--out", "p.plan", "--replace", "office", "--replace", "cad")
    assert "2 built" in run("apply", "p.plan").out


def test_replacing_goes_on_and_is_done_once(
    start_cloud: StartCloud, imgctl: Imgctl, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.4)
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    planned = imgctl("plan", "--out", "p.plan", "--replace", "office", "--replace", "cad", env=cloud.env)
    assert "2 rebuild" in planned.out
    assert imgctl("apply", "p.plan", "--max-in-flight", "1", "--no-wait", env=cloud.env).code == 3
    assert imgctl("apply", "p.plan", env=cloud.env).code == 0
    assert builds(cloud) == ["cad-1", "cad-1", "office-1", "office-1", "web-1"]
    assert "was applied already" in imgctl("apply", "p.plan", env=cloud.env).out
    assert cloud.ledger["received"] == 5


def test_records_and_edits_are_done_once(run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest) -> None:
    image = {"image": {"name": "fixed"}}
    write_manifest({"one": {"server_id": OFFICE, **image}, "cad": CAD, "web": WEB})
    run("apply", "--auto-approve")
    described = {"server_id": CAD, "image": {"description": "for design"}}
    write_manifest({"two": {"server_id": OFFICE, **image}, "cad": described})
    run("plan", "--out", "p.plan")
    assert [change["action"] for change in saved(folder)["changes"]] == ["move", "forget", "update"]
    cloud.faults("error-5xx=1@PATCH")
    run("apply", "p.plan", code=3)
    cloud.faults()
    ran = run("apply", "p.plan")
    assert "2 of 3 changes done before." in ran.out
    assert "1 updated" in ran.out
    before = reads(cloud)
    assert "its 3 changes are done" in run("apply", "p.plan").out
    assert reads(cloud) == before


def test_drift_that_is_set_right_is_done_too(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest({"office": OFFICE})
    run("apply", "--auto-approve")
    held = cloud.world.images.get(state_of(folder)["servers"][OFFICE]["held"]["image_id"])
    assert held is not None
    held.description = "edited by hand"
    run("plan", "--out", "back.plan")
    run("plan", "--out", "take.plan", "--refresh-only")
    assert "described otherwise in IMS" in run("apply", "back.plan").out
    assert not held.description
    # The records say nothing of it, so IMS is asked; nothing is done.
    edits = cloud.ledger["requests"]["PATCH /v2/cloudimages/{image_id}"]
    assert "its change is done" in run("apply", "back.plan").out
    assert cloud.ledger["requests"]["PATCH /v2/cloudimages/{image_id}"] == edits
    assert "refresh is not needed any more" in run("apply", "take.plan", code=4).err
    held.description = "edited by hand"
    assert "1 refreshed" in run("apply", "take.plan").out
    assert "its change is done" in run("apply", "take.plan").out
    assert cloud.ledger["requests"]["PATCH /v2/cloudimages/{image_id}"] == edits


def test_prunes_follow_though_the_build_was_recorded_by_somebody_else(
    start_cloud: StartCloud, imgctl: Imgctl, folder: Path, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.2)
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}, "cad": {"server_id": CAD, "keep_images": 1}})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    plan = ["plan", "--out", "p.plan", "--var", "release=2"]
    assert "2 rebuild, 2 prune" in imgctl(*plan, env=cloud.env).out
    assert imgctl("apply", "p.plan", "--no-wait", env=cloud.env).code == 0
    assert imgctl("wait", "--target", "office", env=cloud.env).code == 0
    ran = imgctl("apply", "p.plan", "--max-prunes", "1", env=cloud.env)
    assert (ran.code, "2 prunes, and max_prunes is 1" in ran.out) == (6, True)
    ran = imgctl("apply", "p.plan", env=cloud.env)
    assert ran.code == 0, ran.out + ran.err
    assert "2 pruned" in ran.out
    assert sorted(image.name for image in cloud.world.images if image.kind == "private") == ["cad-2", "office-2"]
    assert {one["history"][0]["pruned_by"] for one in state_of(folder)["servers"].values()} == {
        saved(folder)["plan_id"]
    }
    assert "its 4 changes are done" in imgctl("apply", "p.plan", env=cloud.env).out


def test_a_build_in_flight_is_approved_to_be_waited_for(
    start_cloud: StartCloud, imgctl: Imgctl, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.3)
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    assert "1 resume" in imgctl("plan", "--out", "p.plan", env=cloud.env).out
    assert imgctl("apply", "p.plan", env=cloud.env).code == 0
    assert "its change is done" in imgctl("apply", "p.plan", env=cloud.env).out
    assert cloud.ledger["received"] == 1


# By its id


def expected(run: Run, *flags: str) -> str:
    plan_id: str = run("plan", "--format", "json", *flags).json["plan_id"]
    return plan_id


def test_the_plan_that_comes_out_is_the_expected_one_or_nothing_starts(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    plan_id = expected(run, "--target", "office")
    other = expected(run)
    ran = run("apply", "--expect", plan_id, code=4)
    assert f"  expected {plan_id}\n  found    {other}\n" in ran.err
    assert cloud.ledger["received"] == 0
    ran = run("apply", "--expect", plan_id, "--target", "office")
    assert f"Plan {plan_id[:12]}, as expected." in ran.out
    assert cloud.built == [OFFICE]
    assert state_of(folder)["servers"][OFFICE]["attempt"]["plan_id"] == plan_id
    # Again: it is found in the records, and done.
    assert "its change is done" in run("apply", "--expect", plan_id, "--target", "office").out
    assert cloud.ledger["received"] == 1
    assert "no plan id" in run("apply", "--expect", plan_id[:12], code=1).err
    empty = expected(run, "--target", "office")
    assert "has no changes" in run("apply", "--expect", empty, "--target", "office").out


def test_a_gate_holds_whatever_is_expected(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest(limits={"max_changes": 2})
    plan_id = expected(run)
    run("apply", "--expect", plan_id, "--auto-approve", code=6)
    allow = [word for name in ("office", "cad", "web") for word in ("--allow", name)]
    run("apply", "--expect", plan_id, *allow)


def test_an_expected_plan_is_continued(
    start_cloud: StartCloud, imgctl: Imgctl, folder: Path, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.3)
    write_manifest(
        {name: {"server_id": one, "keep_images": 1} for name, one in zip(("a", "b", "c"), SERVER_IDS, strict=True)}
    )
    for release in ("1", "2"):
        flags = ["--var", f"release={release}"] if release != "2" else ["--var", "release=2", "--replace", "c"]
        plan_id = imgctl("plan", "--format", "json", *flags, env=cloud.env).json["plan_id"]
        begun = imgctl("apply", "--expect", plan_id, "--no-wait", "--max-in-flight", "2", *flags, env=cloud.env)
        assert begun.code == 3, begun.out + begun.err
        assert imgctl("wait", "--target", "a", env=cloud.env).code == 0
        ran = imgctl("apply", "--expect", plan_id, *flags, env=cloud.env)
        assert ran.code == 0, ran.out + ran.err
        assert "done before." in ran.out
        assert {one["attempt"]["plan_id"] for one in state_of(folder)["servers"].values()} == {plan_id}
        again = imgctl("apply", "--expect", plan_id, *flags, env=cloud.env)
        assert (again.code, "was applied already" in again.out) == (0, True)
    assert builds(cloud) == ["a-1", "a-2", "b-1", "b-2", "c-1", "c-2"]
    assert sorted(image.name for image in cloud.world.images if image.kind == "private") == ["a-2", "b-2", "c-2"]


def test_what_cannot_be_proven_to_be_the_rest_is_not_done(
    start_cloud: StartCloud, imgctl: Imgctl, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.2)
    write_manifest()
    plan_id = imgctl("plan", "--format", "json", env=cloud.env).json["plan_id"]
    assert imgctl("apply", "--expect", plan_id, "--no-wait", "--max-in-flight", "1", env=cloud.env).code == 3
    assert imgctl("wait", env=cloud.env).code == 0
    ran = imgctl("apply", "--expect", plan_id, "--var", "release=2", env=cloud.env)
    assert ran.code == 4
    assert (
        "1 build of the expected plan is recorded, but that the rest is what is left of it cannot be proven" in ran.err
    )
    ran = imgctl("apply", "--expect", plan_id, "--target", "nobody", env=cloud.env)
    assert ran.code == 4
    assert "found    none" in ran.err
    assert cloud.ledger["received"] == 1


def test_a_failed_build_of_an_expected_plan_is_tried_again(
    run: Run, cloud: Cloud, write_manifest: WriteManifest
) -> None:
    write_manifest()
    plan_id = expected(run)
    cloud.faults("job-failed=1")
    run("apply", "--expect", plan_id, code=3)
    cloud.faults()
    assert "3 built" in run("apply", "--expect", plan_id).out
