"""What holds for every workflow in the examples, and what linters say of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ci.scripts import EXAMPLES
from tests.ci.steps import GITHUB, read

ACTION = GITHUB / "actions/imgctl/action.yml"
FILES = sorted((GITHUB / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: read(path) for path in FILES}
JOBS = {f"{name}/{job}": found for name, one in WORKFLOWS.items() for job, found in one["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]] + read(ACTION)["runs"]["steps"]
# Each looked up in the action's own repository or in several others that use it.
PINNED = {
    "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1": "v7.0.1",
    "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97": "v7.0.0",
    "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a": "v7.0.1",
    "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c": "v8.0.1",
}


@pytest.mark.parametrize("path", [*FILES, ACTION], ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits_that_were_looked_up(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(?: # (\S+))?", path.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        assert action == "./.github/actions/imgctl" or PINNED[action] == comment


def test_nothing_from_outside_is_put_into_a_shell() -> None:
    shells = [step["run"] for step in STEPS if "run" in step]
    assert len(shells) > 8
    assert not [shell for shell in shells if "${{" in shell]


def test_each_job_may_do_no_more_than_it_needs() -> None:
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "imgctl-plan/validate": {"contents": "read"},
        "imgctl-plan/plan": {"contents": "read", "pull-requests": "write"},
        "imgctl-apply/find": {"actions": "read", "contents": "read", "pull-requests": "read"},
        "imgctl-apply/apply": {"actions": "read", "contents": "read"},
        "imgctl-drift/drift": {"contents": "read", "issues": "write"},
    }
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_a_stranger_gets_no_secret() -> None:
    triggers = {name: set(workflow["on"]) for name, workflow in WORKFLOWS.items()}
    assert triggers == {
        "imgctl-plan": {"pull_request"},
        "imgctl-apply": {"push", "workflow_dispatch"},
        "imgctl-drift": {"schedule", "workflow_dispatch"},
    }
    secret = {name for name, job in JOBS.items() if "${{ secrets." in str(job)}
    assert secret == {"imgctl-plan/plan", "imgctl-apply/apply", "imgctl-drift/drift"}
    assert all(JOBS[name]["environment"] for name in secret)
    same = "github.event.pull_request.head.repo.full_name == github.repository"
    assert JOBS["imgctl-plan/plan"]["if"] == same
    assert same in STEPS[-1]["if"]
    # Only the environment that the branch main alone may use has keys that build.
    assert [name for name, job in JOBS.items() if job.get("environment") == "images"] == ["imgctl-apply/apply"]
    assert WORKFLOWS["imgctl-apply"]["on"]["push"]["branches"] == ["main"]
    assert JOBS["imgctl-apply/apply"]["if"] == "github.ref == 'refs/heads/main'"


def test_an_apply_is_never_cancelled_and_fits_its_job() -> None:
    concurrency = {"group": "imgctl-apply", "cancel-in-progress": "false", "queue": "max"}
    assert WORKFLOWS["imgctl-apply"]["concurrency"] == concurrency
    job = JOBS["imgctl-apply/apply"]
    (shell,) = [step["run"] for step in job["steps"] if step.get("name") == "Apply"]
    waits = sum(int(seconds) for seconds in re.findall(r"--(?:lock-timeout|timeout) (\d+)", shell))
    assert waits < int(job["timeout-minutes"]) * 60 - 600 < 6 * 3600
    pipeline = read(EXAMPLES / "ci/gitlab/imgctl.gitlab-ci.yml")
    for name in ("imgctl:apply", "imgctl:wait"):
        found: dict[str, Any] = pipeline[name]
        assert (found["resource_group"], found["interruptible"]) == ("images", "false")
        hours = int(found["timeout"].split()[0])
        waits = sum(int(one) for one in re.findall(r"--(?:lock-timeout|timeout) (\d+)", found["script"][0]))
        assert waits < hours * 3600 - 120


def test_gitlab_gives_keys_that_build_to_the_default_branch_only() -> None:
    pipeline = read(EXAMPLES / "ci/gitlab/imgctl.gitlab-ci.yml")
    building = [name for name, job in pipeline.items() if job.get("environment", {}).get("name") == "images"]
    assert building == ["imgctl:apply", "imgctl:wait"]
    for name in building:
        assert all('$CI_COMMIT_REF_PROTECTED == "true"' in rule["if"] for rule in pipeline[name]["rules"])
        assert "merge_request" not in str(pipeline[name]["rules"])
    assert pipeline["imgctl:apply"]["rules"][0]["when"] == "manual"


def lint(program: str, *arguments: str | Path) -> str:
    """What a linter says, with its exit code."""
    found = Path(sys.executable).with_name(program)
    if not found.exists():
        pytest.skip(f"{program} is not installed, so its checks are left out: pip install -e '.[lint-ci]'")
    ran = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60)
    return f"{ran.returncode} {ran.stdout}{ran.stderr}"


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", FILES),
        ("github-actions", [ACTION]),
        ("gitlab-ci", [EXAMPLES / "ci/gitlab/imgctl.gitlab-ci.yml"]),
    ],
)
def test_the_files_are_what_their_hosts_read(schema: str, files: list[Path]) -> None:
    said = lint("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    assert said.startswith("0 "), said


@pytest.mark.sweep
def test_zizmor_finds_nothing() -> None:
    said = lint("zizmor", "--offline", "--no-progress", "--no-config", *FILES, ACTION)
    assert said.startswith("0 "), said
    assert "No findings to report" in said
