"""What the examples' workflows do, done: their shell against the simulator and a GitHub on this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ci.fake_github import REPOSITORY, TOKEN, GitHub, serving_github
from tests.ci.scripts import EXAMPLES, HEAD
from tests.ci.steps import GITHUB, Job, read, steps_of
from tests.support import SERVER_IDS, Cloud, StartCloud

ACTION = read(GITHUB / "actions/imgctl/action.yml")
PLAN, COMMENT = ACTION["runs"]["steps"][0], ACTION["runs"]["steps"][-1]
OUTPUTS = ACTION["runs"]["steps"][1]
WORKFLOWS = {path.stem: read(path) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
MERGED = "c" * 40


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    return start_cloud()


@pytest.fixture
def github() -> Iterator[GitHub]:
    with serving_github() as github:
        yield github


@pytest.fixture
def job(tmp_path: Path, cloud: Cloud, github: GitHub) -> Job:
    """A checkout with a folder of manifests, and what a runner has in its environment."""
    checkout = tmp_path / "checkout"
    shutil.copytree(GITHUB, checkout / ".github")
    (checkout / ".git").mkdir()
    (tmp_path / "temp").mkdir()
    (tmp_path / "state").mkdir()
    declare(checkout)
    action = checkout / ".github/actions/imgctl"
    env = {
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_ACTION_PATH": str(action),
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "42",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_SHA": MERGED,
        "GITHUB_WORKSPACE": str(checkout),
        "IMGCTL_STATE": str(tmp_path / "state/imgctl.state.json"),
        "IMGCTL_PROVIDER": "huaweicloud",
        "IMGCTL_PROJECT_ID": cloud.world.project_id,
        **cloud.env,
    }
    expressions = {
        "inputs.file": "images",
        "inputs.arguments": "",
        "inputs.token": TOKEN,
        "inputs.author": "github-actions[bot]",
        "github.token": TOKEN,
        "github.event.pull_request.number": "7",
        "github.event.pull_request.head.sha": HEAD,
        "steps.plan.outputs.body": "",
    }
    return Job(checkout, env, expressions)


def declare(checkout: Path, release: str = "1", **more: Any) -> None:
    names = ("office", "cad", "web")
    manifest = {
        "version": 1,
        "vars": {"release": release},
        "defaults": {"image": {"name": "${server.name}-${var.release}"}},
        "image_servers": {name: {"server_id": server_id} for name, server_id in zip(names, SERVER_IDS, strict=True)},
        **more,
    }
    (checkout / "images").mkdir(exist_ok=True)
    (checkout / "images/imgctl.yaml").write_text(json.dumps(manifest))


def plan(job: Job) -> int:
    """The composite action, as for a pull request."""
    job.outputs.clear()
    code = job.run(PLAN)
    if code == 0:
        assert job.run(OUTPUTS) == 0, job.log
    job.expressions["steps.plan.outputs.body"] = job.outputs.get("body", "")
    said = job.log
    assert job.run(COMMENT) == 0, job.log
    job.log = said if code else job.log
    return code


def test_a_pull_request_is_planned_commented_and_applied_once_it_is_merged(
    job: Job, cloud: Cloud, github: GitHub
) -> None:
    assert plan(job) == 0
    (comment,) = github.comments
    assert "3 builds" in comment["body"]
    assert job.outputs["changes"] == "3"
    assert job.outputs["plan-id"] in comment["body"]
    assert "apply imgctl.plan -f images" in comment["body"]
    assert "3 builds" in job.summary
    # It is merged, and the run is found that saved this plan.
    repository = {"full_name": REPOSITORY}
    head = {"sha": HEAD, "repo": repository}
    github.pulls = [{"number": 7, "merged_at": "now", "merge_commit_sha": MERGED, "head": head}]
    path = ".github/workflows/imgctl-plan.yml"
    github.runs = [
        {"id": 42, "head_sha": HEAD, "event": "pull_request", "conclusion": "success", "path": path}
        | {"head_repository": repository}
    ]
    github.artifacts = {42: [{"id": 5, "name": "imgctl-plan", "expired": False}]}
    jobs = WORKFLOWS["imgctl-apply"]["jobs"]
    job.expressions["inputs.pull-request"] = ""
    (find,) = steps_of(jobs["find"])
    assert job.run(find) == 0, job.log
    assert {name: job.outputs[name] for name in jobs["find"]["outputs"]} == {
        "pull-request": "7",
        "run-id": "42",
        "artifact-id": "5",
    }
    # What download-artifact does.
    shutil.move(job.folder / "imgctl.plan", Path(job.env["RUNNER_TEMP"]) / "imgctl-plan/imgctl.plan")
    job.expressions |= {"needs.find.outputs.pull-request": "7", "inputs.allow": ""}
    (apply,) = steps_of(jobs["apply"])
    assert job.run(apply) == 0, job.log
    assert sorted(cloud.built) == sorted(SERVER_IDS)
    assert "Apply complete!" in job.log
    state = json.loads(Path(job.env["IMGCTL_STATE"]).read_text())
    assert "pull request 7" in json.dumps(state)
    # Run again, it is done; nothing is built twice.
    assert job.run(apply) == 0, job.log
    assert len(cloud.built) == 3


def test_what_moved_since_the_review_is_not_applied(job: Job, cloud: Cloud) -> None:
    assert plan(job) == 0
    declare(job.folder, release="2")
    shutil.move(job.folder / "imgctl.plan", Path(job.env["RUNNER_TEMP"]) / "imgctl-plan/imgctl.plan")
    job.expressions |= {"needs.find.outputs.pull-request": "7", "inputs.allow": ""}
    (apply,) = steps_of(WORKFLOWS["imgctl-apply"]["jobs"]["apply"])
    assert job.run(apply) == 4
    assert cloud.built == []


@pytest.mark.sweep
def test_a_gate_is_opened_by_hand_and_by_name(job: Job, cloud: Cloud) -> None:
    servers = {"office": {"server_id": SERVER_IDS[0], "protect": True}}
    declare(job.folder, image_servers=servers)
    temp = Path(job.env["RUNNER_TEMP"])
    (apply,) = steps_of(WORKFLOWS["imgctl-apply"]["jobs"]["apply"])
    job.expressions |= {"needs.find.outputs.pull-request": "7", "inputs.allow": ""}
    for release, allow in (("1", ""), ("2", "office")):
        declare(job.folder, release, image_servers=servers)
        assert plan(job) == 0
        shutil.move(job.folder / "imgctl.plan", temp / "imgctl-plan/imgctl.plan")
        if allow:
            assert job.run(apply) == 6, job.log
            # Nothing that somebody types there is anything but a name.
            job.expressions["inputs.allow"] = "$(touch evil) `touch evil` ; touch evil --max-changes=1000"
            assert job.run(apply) != 0
            assert not (job.folder / "evil").exists()
        job.expressions["inputs.allow"] = allow
        assert job.run(apply) == 0, job.log
    assert len(cloud.built) == 2


def test_a_failed_plan_marks_the_comment(job: Job, github: GitHub) -> None:
    assert plan(job) == 0
    (job.folder / "imgctl.plan").unlink()
    (job.folder / "images/imgctl.yaml").write_text("version: 1\nimage_servers: {office: {server: 1}}\n")
    job.expressions["github.event.pull_request.head.sha"] = "d" * 40
    job.env["GITHUB_RUN_ID"] = "43"
    assert plan(job) == 1
    (comment,) = github.comments
    assert "could not be planned" in comment["body"]
    assert not (job.folder / "imgctl.plan").exists()


def test_arguments_come_one_to_a_line_and_are_no_shell(job: Job, github: GitHub) -> None:
    job.expressions["inputs.arguments"] = "--target\noffice\n--var\nrelease=one two"
    assert plan(job) == 0
    assert "1 build" in github.comments[0]["body"]
    assert "office-one two" in github.comments[0]["body"]
    for hostile in ("--target\n$(touch evil)", "--target\n*; touch evil"):
        job.expressions["inputs.arguments"] = hostile
        (job.folder / "imgctl.plan").unlink(missing_ok=True)
        assert plan(job) == 1
    assert not (job.folder / "evil").exists()


def test_a_log_commands_nothing(job: Job) -> None:
    """What a manifest says stands between the two commands that stop and resume the runner's own."""
    (job.folder / "images/imgctl.yaml").write_text('version: 1\n"x\\n::add-mask::a\\n::error::b": 1\n')
    assert job.run(PLAN) == 1
    lines = job.log.splitlines()
    stopped = next(n for n, line in enumerate(lines) if line.startswith("::stop-commands::"))
    token = lines[stopped].removeprefix("::stop-commands::")
    assert re.fullmatch(r"[0-9a-f]{32}", token)
    resumed = lines.index(f"::{token}::")
    assert not [line for n, line in enumerate(lines) if line.startswith("::") and n not in (stopped, resumed)]


def test_a_fork_is_validated_without_credentials(job: Job, cloud: Cloud) -> None:
    for name in list(job.env):
        if name.startswith(("HW_", "IMGCTL_ENDPOINT")) or name == "IMGCTL_STATE":
            del job.env[name]
    declare(job.folder, region="ap-southeast-1")
    (step,) = steps_of(WORKFLOWS["imgctl-plan"]["jobs"]["validate"])
    assert job.run(step) == 0, job.log
    assert "3 image servers in 1 file" in job.log
    assert "3 to add" in job.log
    assert cloud.ledger["requests"] == {}
    # A manifest that would have it use something else is refused by the workflow's pins.
    declare(job.folder, region="ap-southeast-1", provider={"simulator": {"servers": 3, "build_time": 1}})
    assert job.run(step) == 1


@pytest.mark.sweep
def test_drift_is_told_at_night(job: Job, github: GitHub, cloud: Cloud) -> None:
    (drift,) = steps_of(WORKFLOWS["imgctl-drift"]["jobs"]["drift"])
    for release, applied in (("1", False), ("1", True)):
        declare(job.folder, release)
        if applied:
            subprocess.run(
                ["imgctl", "apply", "-f", "images", "--auto-approve"],
                cwd=job.folder,
                env=job._environment({}, Path(job.env["RUNNER_TEMP"])),
                check=True,
                capture_output=True,
            )
        job.outputs.clear()
        (job.folder / "imgctl.plan").unlink(missing_ok=True)
        assert job.run(PLAN) == 0, job.log
        job.expressions["steps.plan.outputs.body"] = job.outputs["body"]
        assert job.run(drift, {"GITHUB_TOKEN": TOKEN}) == 0, job.log
    assert [issue["state"] for issue in github.issues] == ["closed"]
    assert "3 builds" in github.issues[0]["body"]
    assert len(cloud.built) == 3


@pytest.mark.sweep
def test_gitlabs_jobs(job: Job, cloud: Cloud) -> None:
    pipeline = read(EXAMPLES / "ci/gitlab/imgctl.gitlab-ci.yml")
    job.env |= {"CI_PIPELINE_ID": "9", "CI_PROJECT_DIR": str(job.folder)}

    def run(name: str) -> int:
        return job.run({"run": "\n".join(pipeline[name]["script"]), "shell": "bash"})

    assert run("imgctl:validate") == 0, job.log
    assert run("imgctl:drift") == 2, job.log
    assert run("imgctl:plan") == 0, job.log
    assert json.loads((job.folder / "gitlab.json").read_text()) == {"create": 3, "update": 0, "delete": 0}
    assert run("imgctl:apply") == 0, job.log
    assert run("imgctl:wait") == 0, job.log
    assert run("imgctl:drift") == 0, job.log
    assert len(cloud.built) == 3


@pytest.mark.sweep
def test_atlantis_workflow(job: Job, cloud: Cloud) -> None:
    workflow = read(EXAMPLES / "ci/atlantis/repos.yaml")["workflows"]["imgctl"]
    job.env |= {"PLANFILE": str(job.folder / "images-default.tfplan"), "PULL_NUM": "7"}
    job.env["SHOWFILE"] = str(job.folder / "images-default.json")
    for stage in ("plan", "policy_check", "apply"):
        (step,) = [step for step in workflow[stage]["steps"] if isinstance(step, dict)]
        assert job.run({"run": step["run"]}) == 0, job.log
        if stage == "plan":
            # What Atlantis looks for in the output of a plan.
            assert re.search(r"Plan: (\d+) to add, (\d+) to change, (\d+) to destroy\.", job.log)
    assert json.loads(Path(job.env["SHOWFILE"]).read_text())["summary"]["build"] == 3
    assert len(cloud.built) == 3
    (step,) = workflow["plan"]["steps"]
    assert job.run(step) == 0
    assert re.search(
        r"No changes. (Infrastructure is up-to-date|Your infrastructure matches the configuration).", job.log
    )


def test_the_hook_of_pre_commit(job: Job) -> None:
    (hook,) = read(EXAMPLES.parent / ".pre-commit-hooks.yaml")
    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert re.search(hook["files"], "images/ring-canary.yaml")
    assert job.run({"run": f"{hook['entry']} -f images"}) == 0
    (job.folder / "images/imgctl.yaml").write_text("version: 2\n")
    assert job.run({"run": f"{hook['entry']} -f images"}) == 1
