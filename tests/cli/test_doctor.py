"""imgctl doctor: what is wrong, what it means, what to do; no secret, and an end in every case."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.checkup import run as checkup_run
from reconciler.cli.checkup.installation import check_package, others_on_path
from reconciler.cloud import probing
from reconciler.model.checkup import Health
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest

OFFICE = SERVER_IDS[0]
READS = [
    "KeystoneListProjects",
    "ListImageServers",
    "ShowImageServer",
    "ListImageSubJobs",
    "ListImageJobs",
    "ShowImageJob",
    "ListImages",
    "GlanceShowImage",
    "ShowImageQuota",
]


def findings(ran: Ran) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["area"], one["name"]): one for one in ran.json["findings"]}


def healths(ran: Ran) -> dict[str, str]:
    return {name: one["health"] for (area, name), one in findings(ran).items() if area == "Reads"}


def words(text: str) -> str:
    """The text with every run of blanks as one: the width of columns is not what these tests are about."""
    return " ".join(text.split())


def assert_no_secret(cloud: Cloud, *ran: Ran) -> None:
    world = cloud.world
    keys = [one for key in world.keys.values() for one in (key.secret, key.security_token) if one]
    said = "".join(one.out + one.err for one in ran)
    assert not [
        secret for secret in (world.password, world.access_key, *world.keys, *keys, *world.tokens) if secret in said
    ]


def test_a_healthy_account(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    text = imgctl("doctor", env=cloud.env)
    assert text.code == 0, text.out
    assert text.out.endswith("Nothing is wrong.\n")
    assert "used: permanent access key SIMU… (HW_ACCESS_KEY and HW_SECRET_KEY)" in text.out
    assert "ap-southeast-1 (HW_REGION_NAME)" in text.out
    assert f"{cloud.url}, from IMGCTL_ENDPOINT, directly" in text.out
    assert "0 of 50 used, 50 free" in text.out
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert ran.code == 0
    assert (ran.json["healthy"], ran.json["problems"], ran.json["cautions"]) == (True, 0, 0)
    found = findings(ran)
    assert found["Region and project", "project"]["project_id"] == cloud.world.project_id
    assert found["Quota", "private images"] | {"used": 0, "limit": 50, "free": 50} == found["Quota", "private images"]
    assert list(healths(ran)) == READS
    # There is no job and no image yet to ask for.
    assert [name for name, health in healths(ran).items() if health == "note"] == ["ShowImageJob", "GlanceShowImage"]
    assert found["Reads", "ListImageServers"]["http_status"] == 200
    assert_no_secret(cloud, text, ran)
    assert cloud.ledger["received"] == 0


def test_with_a_manifest_and_a_state_every_read_is_tried(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE}, region=cloud.world.region)
    env = {name: value for name, value in cloud.env.items() if name != "HW_REGION_NAME"}
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    ran = imgctl("doctor", "--format", "json", env=env)
    assert ran.code == 0, ran.out
    assert set(healths(ran).values()) == {"ok"}
    found = findings(ran)
    assert found["Region and project", "region"]["detail"] == "ap-southeast-1 (the manifest)"
    assert found["Manifest", "state"]["detail"] == "1 recorded"
    assert OFFICE in found["Reads", "ShowImageServer"]["detail"]
    assert "is SUCCESS" in found["Reads", "ShowImageJob"]["detail"]
    # An image that is gone is an answer as good as any.
    cloud.world.images.delete(next(image for image in cloud.world.images if image.kind == "private"))
    ran = imgctl("doctor", "--format", "json", env=env)
    assert ran.code == 0
    assert "is gone" in findings(ran)["Reads", "GlanceShowImage"]["detail"]


def test_no_credentials(imgctl: Imgctl) -> None:
    ran = imgctl("doctor", env={"HW_REGION_NAME": "ap-southeast-1"})
    assert ran.code == 1
    assert "PROBLEM ECS metadata service" in words(ran.out)
    assert "no credentials found" in ran.out
    assert "HW_ACCESS_KEY and HW_SECRET_KEY" in ran.out
    assert ran.out.endswith("1 problem.\n")


def test_half_a_source_and_no_region(imgctl: Imgctl) -> None:
    ran = imgctl("doctor", "--format", "json", env={"HW_ACCESS_KEY": "AKAKAKAKAKAKAKAKAKAK"})
    assert ran.code == 1
    found = findings(ran)
    assert found["Credentials", "HW_* variables"]["detail"] == "HW_ACCESS_KEY is set, HW_SECRET_KEY is not"
    assert "AKAKAKAK" not in ran.out


def test_the_other_sources_are_shown_and_not_their_keys(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    home = folder.parent
    (home / ".huaweicloud").mkdir()
    (home / ".huaweicloud" / "credentials").write_text("[basic]\nak = ANOTHERACCESSKEY0001\nsk = hunter2-secret\n")
    (home / ".hcloud").mkdir()
    (home / ".hcloud" / "config.json").write_text("{hunter2-secret")
    ran = imgctl("doctor", env=cloud.env | {"HUAWEICLOUD_SDK_AK": "A"})
    assert ran.code == 0, ran.out
    assert "used: permanent access key SIMU…" in ran.out
    assert "not used, and not usable: HUAWEICLOUD_SDK_AK is set, HUAWEICLOUD_SDK_SK is not" in ran.out
    assert "permanent access key ANOT…, not used" in ran.out
    assert "caution ~/.huaweicloud/credentials others than its owner may read it" in words(ran.out)
    assert "chmod 600 ~/.huaweicloud/credentials" in ran.out
    assert ran.out.endswith("Nothing is wrong, 1 caution.\n")
    assert "hunter2" not in ran.out + ran.err


def test_a_wrong_secret_is_tried_once(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    ran = imgctl("doctor", env=cloud.env | {"HW_SECRET_KEY": "hunter2-secret"})
    assert ran.code == 1
    assert "PROBLEM KeystoneListProjects 401 APIGW.0301" in words(ran.out)
    assert "-> check HW_ACCESS_KEY and HW_SECRET_KEY" in ran.out
    assert ran.out.count("not tried: the credentials were refused") == len(READS) - 1
    assert sum(cloud.ledger["requests"].values()) == 1
    assert "hunter2" not in ran.out + ran.err
    assert_no_secret(cloud, ran)


def test_a_wrong_password_is_tried_once(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    env = {name: value for name, value in cloud.env.items() if "KEY" not in name} | {
        "HW_USER_NAME": cloud.world.user_name,
        "HW_USER_PASSWORD": "hunter2-secret",
        "HW_DOMAIN_NAME": cloud.world.domain_name,
    }
    ran = imgctl("doctor", "-vv", env=env)
    assert ran.code == 1
    assert "The username or password is wrong." in ran.out
    assert cloud.ledger["requests"] == {"POST /v3/auth/tokens": 1}
    assert "hunter2" not in ran.out + ran.err


def test_permissions_that_lack_are_named_with_what_is_lost(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud("forbidden=1@image-server-sub-jobs", "forbidden=1@image-server-jobs", "forbidden=1@quota")
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert ran.code == 1
    assert ran.json["problems"] == 2
    found = findings(ran)
    sub_jobs = found["Reads", "ListImageSubJobs"]
    assert (sub_jobs["health"], sub_jobs["http_status"]) == ("problem", 403)
    assert "every build is polled by a request of its own" in sub_jobs["detail"]
    assert sub_jobs["fix"] == "the permission workspace:imageServer:listImageSubJobs is needed"
    assert "builds may fail late for want of room" in found["Reads", "ShowImageQuota"]["detail"]
    # imgctl does not need this one, so its refusal is no problem.
    assert found["Reads", "ListImageJobs"]["health"] == "note"
    assert ("Quota", "private images") not in found


def test_a_region_without_the_lists_is_a_caution(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud("refuse-job-list=1")
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert (ran.code, ran.json["healthy"], ran.json["cautions"]) == (0, True, 1)
    assert healths(ran)["ListImageSubJobs"] == "caution"


def test_a_service_that_fails(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud("error-5xx=1@/v2/cloudimages")
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert ran.code == 1
    assert [name for name, health in healths(ran).items() if health == "problem"] == ["ListImages"]


def test_no_room_for_an_image(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud(quota=0)
    ran = imgctl("doctor", env=cloud.env)
    assert ran.code == 1
    assert "PROBLEM private images 0 of 0 used, 0 free: no build can succeed" in words(ran.out)


@pytest.mark.parametrize(
    ("minutes", "health", "code"),
    [(0, "ok", 0), (-5, "caution", 0), (5, "caution", 0), (-120, "problem", 1), (120, "problem", 1)],
)
def test_the_clock(minutes: int, health: str, code: int, imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    cloud.world.clock = lambda: datetime.now(UTC) + timedelta(minutes=minutes)
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert ran.code == code
    clock = findings(ran)["Network", "clock"]
    assert clock["health"] == health
    assert abs(clock["clock_offset_seconds"] - 60 * minutes) <= 3
    if minutes:
        assert ("behind" if minutes > 0 else "ahead of") in clock["detail"]
        assert "NTP" in clock["fix"]
    # The reads work all the same, once the answer has told the time.
    assert healths(ran)["ListImageServers"] == "ok"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody listens, and says nothing."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


def test_a_host_that_cannot_be_reached(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    ran = imgctl("doctor", "--format", "json", env=cloud.env | {"IMGCTL_ENDPOINT_IMS": "http://127.0.0.1:1"})
    assert ran.code == 1
    found = findings(ran)
    assert found["Network", "IMS"]["override"] == "IMGCTL_ENDPOINT_IMS"
    assert (found["Reads", "ListImages"]["health"], found["Reads", "ListImages"]["http_status"]) == ("problem", None)
    assert "check the network" in found["Reads", "ListImages"]["fix"]
    assert found["Reads", "ShowImageQuota"]["detail"] == "not tried: ListImages got no answer from the same host"
    assert found["Reads", "ListImageServers"]["health"] == "ok"


def test_a_host_that_says_nothing_does_not_hang_it(
    imgctl: Imgctl, start_cloud: StartCloud, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    monkeypatch.setattr(probing, "LONGEST_READ", 0.2)
    monkeypatch.setattr(checkup_run, "_LONGEST_SIGN_IN", 0.2)
    silent = f"http://127.0.0.1:{silent_port}"
    ran = imgctl("doctor", "--format", "json", env=cloud.env | {"IMGCTL_ENDPOINT_WORKSPACEAPP": silent})
    assert ran.code == 1
    assert "no answer within 0 s" in findings(ran)["Reads", "ListImageServers"]["detail"]
    assert findings(ran)["Reads", "ShowImageQuota"]["health"] == "ok"
    env = {name: value for name, value in cloud.env.items() if name != "HW_PROJECT_ID"}
    ran = imgctl("doctor", env=env | {"IMGCTL_ENDPOINT_IAM": silent})
    assert ran.code == 1
    assert "signing in took longer than" in ran.out


def test_nothing_is_said_of_a_clock_that_nobody_told(
    imgctl: Imgctl, start_cloud: StartCloud, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    monkeypatch.setattr(probing, "LONGEST_READ", 0.1)
    ran = imgctl("doctor", "--format", "json", env=cloud.env | {"IMGCTL_ENDPOINT": f"http://127.0.0.1:{silent_port}"})
    clock = findings(ran)["Network", "clock"]
    assert (clock["health"], clock["clock_offset_seconds"]) == ("note", None)
    assert "no answer came" in clock["detail"]
    # And each silence comes with what to do.
    assert "HTTPS_PROXY" in findings(ran)["Reads", "ListImageServers"]["fix"]


@pytest.mark.parametrize(("given", "health", "code"), [(True, "caution", 0), (False, None, 1)])
def test_iam_is_not_needed_where_the_project_is_given(
    given: bool, health: str | None, code: int, imgctl: Imgctl, start_cloud: StartCloud
) -> None:
    """In many networks nothing but the two services can be reached."""
    cloud = start_cloud()
    env = {name: value for name, value in cloud.env.items() if given or name != "HW_PROJECT_ID"}
    ran = imgctl("doctor", "--format", "json", env=env | {"IMGCTL_ENDPOINT_IAM": "http://127.0.0.1:1"})
    assert (ran.code, healths(ran).get("KeystoneListProjects")) == (code, health)
    if given:
        assert "the project's id is given" in findings(ran)["Reads", "KeystoneListProjects"]["detail"]


def test_proxies_are_shown_without_their_password(imgctl: Imgctl) -> None:
    env = {
        "HW_ACCESS_KEY": "AKAKAKAKAKAKAKAKAKAK",
        "HW_SECRET_KEY": "hunter2-secret",
        "HTTPS_PROXY": "http://robot:hunter2@127.0.0.1:1/",
        "no_proxy": "ims.cn-north-4.myhuaweicloud.com",
        "HW_PROJECT_ID": "a" * 32,
        "IMGCTL_ENDPOINT_IMS": "http://127.0.0.1:1",
    }
    ran = imgctl("doctor", "--region", "cn-north-4", env=env)
    assert ran.code == 1
    assert "through the proxy http://127.0.0.1:1 (HTTPS_PROXY)" in ran.out
    assert "IMS http://127.0.0.1:1, from IMGCTL_ENDPOINT_IMS, directly" in words(ran.out)
    assert "hunter2" not in ran.out + ran.err
    assert "robot" not in ran.out + ran.err


def test_an_agency(imgctl: Imgctl, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    env = {name: value for name, value in cloud.env.items() if "KEY" not in name}
    ran = imgctl("doctor", env=env | {"IMGCTL_ENDPOINT_METADATA": cloud.url})
    assert ran.code == 0, ran.out
    assert "ok ECS metadata service used: temporary keys of this ECS instance's agency" in words(ran.out)
    assert "METADATA" in ran.out
    cloud.world.instance.agency = False
    cloud.world.instance.key = None
    without = imgctl("doctor", env=env | {"IMGCTL_ENDPOINT_METADATA": cloud.url})
    assert without.code == 1
    assert "this ECS instance has no agency" in without.out
    assert_no_secret(cloud, ran, without)


def test_a_simulated_manifest_says_so(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest(provider={"simulator": {"servers": 3, "build_time": 1}})
    ran = imgctl("doctor")
    assert ran.code == 0, ran.out
    assert ran.out.startswith("SIMULATED")
    assert "the simulator used: permanent access key SIMU…" in words(ran.out)
    assert imgctl("doctor", "--format", "json").json["simulated"] is True


def test_a_broken_manifest_and_a_broken_state(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    (folder / "imgctl.yaml").write_text("version: 2\n")
    ran = imgctl("doctor", env=cloud.env)
    assert ran.code == 1
    assert "imgctl validate shows where" in ran.out
    # The rest is looked at all the same.
    assert "ok ListImageServers" in words(ran.out)
    write_manifest()
    (folder / "imgctl.state.json").write_text("{")
    ran = imgctl("doctor", "--format", "json", env=cloud.env)
    assert ran.code == 1
    assert findings(ran)["Manifest", "state"]["health"] == "problem"
    assert healths(ran)["ListImageServers"] == "ok"
    ran = imgctl("doctor", "-f", "elsewhere.yaml", env=cloud.env)
    assert (ran.code, "PROBLEM elsewhere.yaml" in words(ran.out)) == (1, True)


# --- The installation


@pytest.mark.parametrize(
    ("owners", "others", "installed", "health", "said"),
    [
        (["imgctl"], [], "", Health.OK, "imgctl's own"),
        ([], [], "", Health.OK, "imgctl's own"),
        (["imgctl", "reconciler"], [], "", Health.PROBLEM, "reconciler installs a package reconciler too"),
        (["reconciler"], [], "", Health.PROBLEM, "pip uninstall reconciler"),
        ([], ["/x/reconciler"], "", Health.CAUTION, "another package of that name is at /x/reconciler"),
        ([], [], "0.0.0", Health.CAUTION, "what is installed says 0.0.0"),
    ],
)
def test_a_foreign_package(owners: list[str], others: list[str], installed: str, health: Health, said: str) -> None:
    found = check_package(Path("/venv/reconciler"), owners, others, installed)
    assert found.health is health
    assert said in found.detail + found.fix


def test_other_places_of_the_import_path(tmp_path: Path) -> None:
    ours, theirs, empty = (tmp_path / name for name in ("ours", "theirs", "empty"))
    for place in (ours, theirs, empty):
        (place / "reconciler").mkdir(parents=True)
    for place in (ours, theirs):
        (place / "reconciler" / "__init__.py").touch()
    path = [str(ours), str(theirs), str(empty), str(tmp_path / "gone"), str(theirs)]
    assert others_on_path(ours / "reconciler", path) == [str(theirs / "reconciler")]


# --- The least policy


def test_the_least_policy_needs_nobody(imgctl: Imgctl) -> None:
    ran = imgctl("doctor", "--iam-policy", "-f", "nowhere.yaml")
    assert ran.code == 0
    policy = json.loads(ran.out)
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "5.0"
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    actions = [action for statement in policy["Statement"] for action in statement["Action"]]
    assert len(set(actions)) == len(actions)
    assert set(actions) == {
        # The API page of recreate-image, with its table of dependencies.
        "workspace:imageServer:recreate",
        "vpc:ports:get",
        "vpc:subnets:get",
        "ims:quotas:get",
        "ims:images:get",
        "ims:images:list",
        "ims:images:setTags",
        "ims:images:setOrDeleteTags",
        "ims:images:updateMemberStatus",
        "ims:images:copyInRegion",
        "ims:serverImages:create",
        # The reads.
        "workspace:imageServer:list",
        "workspace:imageServer:get",
        "workspace:imageServer:listImageSubJobs",
        "workspace:images:getImageJob",
    }
    # What no page names is not granted, and said.
    assert "ims:images:update" in ran.err
    assert "ims:images:delete" in ran.err
    assert "KeystoneListProjects" in ran.err
