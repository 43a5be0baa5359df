"""The script of the GitHub example against a GitHub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.model.review import Review
from reconciler.render.plan_markdown import render_plan_markdown
from tests.ci.fake_github import BOT, PERSON, REPOSITORY, TOKEN, GitHub, serving_github
from tests.ci.scripts import HEAD, OLDER, load, posted, rendered
from tests.planning.figures import plan_of

script = load("ci/github/actions/imgctl/github.py")
MERGED = "c" * 40


@pytest.fixture
def github() -> Iterator[GitHub]:
    with serving_github() as github:
        yield github


def environ(github: GitHub, tmp_path: Path) -> dict[str, str]:
    return {
        "GITHUB_API_URL": github.url,
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_RUN_ID": "42",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_SHA": HEAD,
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }


@pytest.fixture
def ask(github: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a step calls it: its exit code, and what it printed."""
    monkeypatch.setattr(script.time, "sleep", lambda seconds: None)

    def call(*arguments: str, text: str | None = None, **env: str) -> tuple[int, str]:
        words = list(arguments)
        if text is not None:
            body = tmp_path / "plan.md"
            body.write_text(text, encoding="utf-8")
            words += ["--body", str(body)]
        code = script.main(words, environ(github, tmp_path) | env)
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return code, said.out

    return call


COMMENT = ("comment", "--pull-request", "7", "--head", HEAD, "--file", "images")


def test_the_first_plan_is_posted_and_the_next_one_edits_it(github: GitHub, ask: Any) -> None:
    assert ask(*COMMENT, text=rendered()) == (0, "comment posted\n")
    later = rendered(plan="6" * 64, changes=1)
    assert ask(*COMMENT, text=later, GITHUB_RUN_ID="43") == (0, "comment edited\n")
    (comment,) = github.comments
    lines = comment["body"].split("\n")
    assert lines[0] == later.split("\n")[0]
    assert lines[1] == f'<!-- imgctl:run {{"head":"{HEAD}","run":43,"attempt":1}} -->'
    assert lines[2] == "### imgctl `images`: 1 rebuilds"
    assert "actions/runs/43" in comment["body"]


def test_what_imgctl_renders_is_what_the_script_reads(github: GitHub, ask: Any) -> None:
    plan = plan_of()
    text = render_plan_markdown(plan, Review(root="images/prod", command="imgctl apply -f images/prod"))
    assert ask(*COMMENT, text=text)[0] == 0
    written = script.Written.of(github.comments[0]["body"])
    assert (written.root, written.plan, written.changes) == ("images/prod", plan.plan_id, len(plan.changes))
    assert (written.head, written.run) == (HEAD, (42, 1))


def test_each_key_has_a_comment_of_its_own(github: GitHub, ask: Any) -> None:
    for key in ("1" * 16, "2" * 16, "1" * 16):
        assert ask(*COMMENT, text=rendered(key))[0] == 0
    assert [script.Written.of(one["body"]).key for one in github.comments] == ["1" * 16, "2" * 16]


@pytest.mark.parametrize(
    "author",
    [
        PERSON,
        # No person can have this login; a type that does not fit is not believed either.
        {"login": "github-actions[bot]", "type": "User"},
        {"login": "github-actions", "type": "User"},
        {"login": "other-app[bot]", "type": "Bot"},
    ],
)
def test_a_comment_of_somebody_else_is_never_edited(github: GitHub, ask: Any, author: dict[str, str]) -> None:
    theirs = posted(rendered())
    github.add_comment(theirs, author)
    assert ask(*COMMENT, text=rendered()) == (0, "comment posted\n")
    assert ask(*COMMENT) == (0, "no plan: 0 outdated comments marked\n")
    assert github.comments[0]["body"] == theirs
    assert [comment["user"] for comment in github.comments] == [author, BOT]


def test_the_tokens_owner_may_be_somebody_else(github: GitHub, ask: Any) -> None:
    github.add_comment(posted(rendered()), {"login": "deployer", "type": "User"})
    assert ask(*COMMENT, "--author", "deployer", text=rendered()) == (0, "comment edited\n")


def test_a_comment_on_the_third_page_is_found(github: GitHub, ask: Any) -> None:
    for _ in range(250):
        github.add_comment("looks good", PERSON)
    github.add_comment(posted(rendered()))
    assert ask(*COMMENT, text=rendered()) == (0, "comment edited\n")
    # By number: the address that an answer names is asked for nothing.
    assert [path for method, path in github.requests if method == "GET"] == ["issues/7/comments"] * 3


def test_a_failed_plan_marks_the_comments_of_older_commits(github: GitHub, ask: Any) -> None:
    github.add_comment(posted(rendered("1" * 16)))
    other = github.add_comment(posted(rendered("2" * 16, root="elsewhere")))["body"]
    current = github.add_comment(posted(rendered("3" * 16), head=HEAD))["body"]
    later = github.add_comment(posted(rendered("4" * 16), run=99))["body"]
    assert ask(*COMMENT) == (0, "no plan: 1 outdated comments marked\n")
    marked = github.comments[0]["body"]
    assert "could not be planned" in marked
    assert "rebuilds" not in marked
    assert [comment["body"] for comment in github.comments[1:]] == [other, current, later]
    # The next plan takes its place again.
    assert ask(*COMMENT, text=rendered("1" * 16), GITHUB_RUN_ID="43") == (0, "comment edited\n")
    assert "rebuilds" in github.comments[0]["body"]


def test_an_older_run_does_not_overwrite_a_newer_one(github: GitHub, ask: Any) -> None:
    newer = github.add_comment(posted(rendered(), run=43))["body"]
    assert ask(*COMMENT, text=rendered()) == (0, "a later run has commented already\n")
    assert github.comments[0]["body"] == newer


def test_of_two_comments_one_stays(github: GitHub, ask: Any) -> None:
    for _ in range(2):
        github.add_comment(posted(rendered()))
    assert ask(*COMMENT, text=rendered()) == (0, "comment edited\n")
    assert ["rebuilds" in comment["body"] for comment in github.comments] == [True, False]


def test_a_plan_that_github_refuses_leaves_no_outdated_one(github: GitHub, ask: Any) -> None:
    github.add_comment(posted(rendered()))
    code, said = ask(*COMMENT, text=rendered() + "x" * 65_536)
    assert code == 0
    assert said.startswith("::warning title=imgctl::the plan could not be posted")
    assert "no longer holds" in github.comments[0]["body"]
    github.comments.clear()
    code, said = ask(*COMMENT, text=rendered() + "x" * 65_536)
    assert (code, github.comments) == (0, [])
    assert said.startswith("::warning")


def test_an_outdated_plan_that_cannot_be_replaced_fails_the_step(github: GitHub, ask: Any) -> None:
    github.add_comment(posted(rendered()))
    github.before = lambda method, path: 403 if method == "PATCH" else None
    code, said = ask(*COMMENT, text=rendered())
    assert code == 1
    assert said.startswith("::error title=imgctl::PATCH issues/comments/1000: 403")


def test_reads_and_edits_are_tried_again_and_a_post_is_not(github: GitHub, ask: Any) -> None:
    failures = iter([(503, {}), (429, {"Retry-After": "1"})])
    github.before = lambda method, path: next(failures, None)
    assert ask(*COMMENT, text=rendered()) == (0, "comment posted\n")
    github.before = lambda method, path: 502 if method == "POST" else None
    github.comments.clear()
    github.requests.clear()
    assert ask(*COMMENT, text=rendered())[0] == 0
    assert github.written == [("POST", "issues/7/comments")]


def test_a_redirect_is_not_followed(github: GitHub, ask: Any) -> None:
    with serving_github() as elsewhere:
        github.before = lambda method, path: (302, {"Location": f"{elsewhere.url}/repos/{REPOSITORY}/{path}"})
        code, said = ask(*COMMENT, text=rendered())
        assert (code, elsewhere.requests) == (1, [])
        assert "302" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_API_URL", "http://api.example.com"),
        ("GITHUB_API_URL", "file:///etc"),
        ("GITHUB_TOKEN", ""),
        ("GITHUB_REPOSITORY", "example/images/../../user"),
        ("GITHUB_RUN_ID", "42; rm"),
    ],
)
def test_an_environment_that_is_none(github: GitHub, ask: Any, name: str, value: str) -> None:
    code, said = ask(*COMMENT, text=rendered(), **{name: value})
    assert (code, github.requests) == (1, [])
    assert said.startswith("::error")


@pytest.mark.parametrize("arguments", [("--pull-request", "7/../8"), ("--head", "main")])
def test_arguments_that_are_none(github: GitHub, ask: Any, arguments: tuple[str, str]) -> None:
    code, _ = ask(*COMMENT, *arguments, text=rendered())
    assert (code, github.requests) == (1, [])


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<!-- imgctl:plan {} -->",
        '<!-- imgctl:plan {"key":"../../../../user"} -->\n',
        '<!-- imgctl:plan {"key": -->\n',
        "<!-- imgctl:plan [1] -->\n",
        'first <!-- imgctl:plan {"key":"84a25d1b341628bd"} -->\n',
    ],
)
def test_what_is_no_marker(github: GitHub, ask: Any, body: str) -> None:
    assert script.Written.of(body) is None
    assert ask(*COMMENT, text=body)[0] == 1
    github.add_comment(body)
    assert ask(*COMMENT, text=rendered()) == (0, "comment posted\n")


def test_a_hostile_root_in_an_own_comment_is_not_repeated(github: GitHub, ask: Any) -> None:
    # The marker in our own comment comes from a plan that is ours; even so it is text from a pull request.
    root = "`@everyone` --> <img>"
    text = rendered(root="x").replace('"root":"x"', '"root":' + script.json.dumps(root).replace(">", "\\u003e"))
    github.add_comment(posted(text))
    assert ask("comment", "--pull-request", "7", "--head", HEAD, "--file", root)[1] == (
        "no plan: 1 outdated comments marked\n"
    )
    marked = github.comments[0]["body"].split("\n", 1)
    assert script.Written.of("\n".join(marked)).root == root
    assert "@everyone" not in marked[1]
    assert marked[0].count("-->") == 1


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("imgctl.yaml", ""),
        (".", ""),
        ("images", "images"),
        ("./images/", "images"),
        ("images/imgctl.yaml", "images"),
        ("images/ring.yaml", "images/ring.yaml"),
    ],
)
def test_the_root_is_the_one_in_the_marker(file: str, root: str) -> None:
    assert script.root_of(file) == root


def test_drift_opens_edits_and_closes_one_issue(github: GitHub, ask: Any) -> None:
    assert ask("drift", text=rendered(changes=0)) == (0, "no drift: 0 issues closed\n")
    assert github.issues == []
    assert ask("drift", text=rendered()) == (0, "issue opened\n")
    (issue,) = github.issues
    assert issue["title"] == "imgctl: drift of images"
    before = list(github.written)
    assert ask("drift", text=rendered(), GITHUB_RUN_ID="43") == (0, "the issue says it already\n")
    assert github.written == before
    assert ask("drift", text=rendered(plan="6" * 64, changes=1), GITHUB_RUN_ID="44") == (0, "issue edited\n")
    assert "1 rebuilds" in issue["body"]
    assert ask("drift", text=rendered(changes=0), GITHUB_RUN_ID="45") == (0, "no drift: 1 issues closed\n")
    assert issue["state"] == "closed"
    assert "actions/runs/45" in issue["said"][0]
    # It comes back as another issue.
    assert ask("drift", text=rendered(), GITHUB_RUN_ID="46") == (0, "issue opened\n")
    assert [one["state"] for one in github.issues] == ["closed", "open"]


def test_an_issue_of_somebody_else_is_never_touched(github: GitHub, ask: Any) -> None:
    github.add_issue(posted(rendered()), PERSON)
    github.add_issue(posted(rendered()), pull_request={})
    github.add_issue(posted(rendered("2" * 16)))
    assert ask("drift", text=rendered(changes=0)) == (0, "no drift: 0 issues closed\n")
    assert ask("drift", text=rendered()) == (0, "issue opened\n")
    assert github.written == [("POST", "issues")]


def test_of_two_issues_one_stays(github: GitHub, ask: Any) -> None:
    for _ in range(2):
        github.add_issue(posted(rendered(plan="6" * 64)))
    assert ask("drift", text=rendered()) == (0, "issue edited\n")
    assert [one["state"] for one in github.issues] == ["open", "closed"]
    assert github.issues[1]["said"] == ["The same as #20."]


def pull(**more: Any) -> dict[str, Any]:
    head = {"sha": HEAD, "repo": {"full_name": REPOSITORY}}
    return {"number": 7, "merged_at": "2026-11-24", "merge_commit_sha": MERGED, "head": head, **more}


def run(number: int = 41, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "head_sha": HEAD,
        "event": "pull_request",
        "conclusion": "success",
        "path": ".github/workflows/imgctl-plan.yml",
        "head_repository": {"full_name": REPOSITORY},
        **more,
    }


def artifact(number: int = 500, **more: Any) -> dict[str, Any]:
    return {"id": number, "name": "imgctl-plan", "expired": False, **more}


FIND = ("merged-plan", "--workflow", "imgctl-plan.yml", "--artifact", "imgctl-plan")


def test_the_plan_of_a_merge_is_the_one_of_its_last_commit(github: GitHub, ask: Any, tmp_path: Path) -> None:
    github.pulls = [pull(merge_commit_sha=OLDER, number=6), pull()]
    github.runs = [run(41), run(43), run(42)]
    github.artifacts = {41: [artifact(1)], 43: [artifact(2, name="imgctl-plan-of-something-else"), artifact(3)]}
    assert ask(*FIND, "--commit", MERGED)[0] == 0
    wanted = f"pull-request=7\nhead={HEAD}\nrun-id=43\nartifact-id=3\n"
    assert (tmp_path / "output").read_text() == wanted
    assert ask(*FIND, "--pull-request", "7")[0] == 0
    assert (tmp_path / "output").read_text() == wanted * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"head_sha": OLDER},
        {"event": "workflow_dispatch"},
        {"conclusion": "failure"},
        {"path": ".github/workflows/other.yml"},
        # A fork's run of the same commit: whoever has the fork decides what it uploads.
        {"head_repository": {"full_name": "mallory/images"}},
        {"head_repository": None},
    ],
)
def test_a_plan_of_another_run_is_not_taken(github: GitHub, ask: Any, wrong: dict[str, Any]) -> None:
    github.pulls, github.artifacts = [pull()], {41: [artifact()]}
    github.runs = [run() | wrong]
    code, said = ask(*FIND, "--commit", MERGED)
    assert code == 1
    assert "#7 has no plan" in said
    github.runs = [run()]
    assert ask(*FIND, "--commit", MERGED)[0] == 0


@pytest.mark.parametrize(
    ("pulls", "message"),
    [
        ([], "what nobody reviewed is not applied"),
        ([pull(merged_at=None)], "what nobody reviewed is not applied"),
        ([pull(merge_commit_sha=OLDER)], "what nobody reviewed is not applied"),
        ([pull(head={"sha": HEAD, "repo": {"full_name": "mallory/images"}})], "comes from a fork"),
        ([pull(head={"sha": HEAD, "repo": None})], "comes from a fork"),
        ([pull(head={"sha": "../../..", "repo": {"full_name": REPOSITORY}})], "is not what it should be"),
    ],
)
def test_what_was_not_reviewed_here_has_no_plan(
    github: GitHub, ask: Any, pulls: list[dict[str, Any]], message: str
) -> None:
    github.pulls, github.runs, github.artifacts = pulls, [run()], {41: [artifact()]}
    code, said = ask(*FIND, "--commit", MERGED)
    assert code == 1
    assert message in said


def test_a_plan_that_is_kept_no_more(github: GitHub, ask: Any) -> None:
    github.pulls, github.runs, github.artifacts = [pull()], [run()], {41: [artifact(expired=True)]}
    assert ask(*FIND, "--commit", MERGED)[0] == 1


def test_by_hand_only_what_is_merged(github: GitHub, ask: Any) -> None:
    github.pulls, github.runs, github.artifacts = [pull(merged_at=None)], [run()], {41: [artifact()]}
    assert ask(*FIND, "--pull-request", "7")[1] == "::error title=imgctl::#7 is not merged\n"
    assert "404" in ask(*FIND, "--pull-request", "8")[1]


def test_outputs_and_the_summary(github: GitHub, ask: Any, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(script.json.dumps({"plan_id": "5" * 64, "changes": [{}, {}]}))
    assert ask("outputs", "--plan", str(plan), text=rendered())[0] == 0
    assert (tmp_path / "output").read_text() == f"plan-id={'5' * 64}\nchanges=2\n"
    assert (tmp_path / "summary").read_text() == rendered() + "\n"
    # GitHub takes a summary of more than a MiB not at all.
    assert ask("outputs", "--plan", str(plan), text=rendered() + "界" * 400_000)[0] == 0
    assert (tmp_path / "summary").stat().st_size < 2_000
    plan.write_text(script.json.dumps({"plan_id": "5\nevil=1", "changes": []}))
    assert ask("outputs", "--plan", str(plan), text=rendered())[0] == 1
    assert "evil" not in (tmp_path / "output").read_text()
