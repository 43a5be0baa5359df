"""IAM and the gateway's check of credentials, through HTTP."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import httpx
import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def signed(
    cloud: Cloud,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    access: str = "",
    secret: str = "",
    token: str = "",
    names: tuple[str, ...] = ("host", "x-sdk-date"),
    extra: dict[str, str] | None = None,
) -> httpx.Response:
    """A request with a signature that was computed here, by the letter of the published steps."""
    world = cloud.world
    headers = {"host": "cloud.test", "x-sdk-date": cloud.clock.now.strftime("%Y%m%dT%H%M%SZ"), **(extra or {})}
    if token:
        headers["x-security-token"] = token
    raw_path, _, query = path.partition("?")
    canonical = "\n".join(
        [
            method,
            "/".join(quote(unquote(part), safe="~") for part in raw_path.split("/")) + "/",
            "&".join(sorted(query.split("&"))) if query else "",
            "".join(f"{name}:{headers[name]}\n" for name in sorted(names)),
            ";".join(sorted(names)),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    text = f"SDK-HMAC-SHA256\n{headers['x-sdk-date']}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = (secret or world.secret_key).encode()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"SDK-HMAC-SHA256 Access={access or world.access_key}, "
        f"SignedHeaders={';'.join(sorted(names))}, Signature={signature}"
    )
    return cloud.send(method, path, content=body, headers=headers, token="")


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def test_a_token_by_password(cloud: Cloud) -> None:
    answer = cloud.login()
    token = answer.json()["token"]
    assert answer.status_code == 201
    assert token["project"]["id"] == cloud.world.project_id
    assert (token["issued_at"], token["expires_at"]) == ("2026-11-02T12:00:00.120000Z", "2026-11-03T12:00:00.120000Z")
    assert token["user"]["name"] == cloud.world.user_name
    assert "X-IAM-Trace-Id" in answer.headers
    assert cloud.get("image-servers").status_code == 200


def test_a_new_token_leaves_the_older_one_valid_for_a_day(cloud: Cloud) -> None:
    first = cloud.token
    cloud.login()
    assert cloud.token != first
    assert cloud.send("GET", "image-servers", token=first).status_code == 200
    cloud.clock.advance(86_400)
    assert refusal(cloud.send("GET", "image-servers", token=first)) == (401, "APIGW.0307")
    assert refusal(cloud.send("GET", "image-servers", token="invented")) == (401, "APIGW.0301")
    assert refusal(cloud.send("GET", "image-servers", token="", headers={"X-Nothing": "1"})) == (401, "APIGW.0301")


def test_wrong_logins_are_answered_as_keystone_does(cloud: Cloud) -> None:
    cloud.world.password = "another"
    wrong = cloud.send(
        "POST",
        "/v3/auth/tokens",
        json={
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": "a", "password": "b", "domain": {"name": "c"}}},
                }
            }
        },
    )
    assert (wrong.status_code, wrong.json()) == (
        401,
        {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}},
    )
    bodies: list[dict[str, object]] = [
        {},
        {"auth": []},
        {"auth": {"identity": {"methods": ["password"]}}},
        {"auth": {"identity": None}},
    ]
    for body in bodies:
        answer = cloud.send("POST", "/v3/auth/tokens", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)
    assert cloud.login({"project": {"name": "cn-north-4"}}).status_code == 401


def test_a_user_logs_in_by_id_or_by_the_id_of_its_domain(cloud: Cloud) -> None:
    world = cloud.world
    users: list[tuple[dict[str, object], int]] = [
        ({"id": world.user_id, "password": world.password}, 201),
        ({"name": world.user_name, "domain": {"id": world.domain_id}, "password": world.password}, 201),
        ({"id": world.user_id, "password": "wrong"}, 401),
        ({"name": world.user_name, "domain": {"id": "x"}, "password": world.password}, 401),
        ({"name": world.user_name, "password": world.password}, 400),
    ]
    for user, status in users:
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        assert cloud.send("POST", "/v3/auth/tokens", json=body).status_code == status


def test_a_token_of_the_domain_is_good_for_iam_only(cloud: Cloud) -> None:
    assert cloud.login({"domain": {"name": cloud.world.domain_name}}).status_code == 201
    assert cloud.get("/v3/projects").status_code == 200
    assert refusal(cloud.get("image-servers")) == (403, "APIGW.0302")
    assert cloud.login({"project": {"id": cloud.world.project_id}}).status_code == 201
    assert cloud.get("image-servers").status_code == 200


def test_projects_are_found_by_the_name_of_the_region(cloud: Cloud) -> None:
    answer = signed(cloud, "GET", "/v3/projects?name=ap-southeast-1")
    (project,) = answer.json()["projects"]
    assert (project["id"], project["name"], project["enabled"]) == (cloud.world.project_id, "ap-southeast-1", True)
    for query in ("?name=cn-north-4", "?domain_id=x", "?enabled=false", "?page=2&per_page=10"):
        assert cloud.get(f"/v3/projects{query}").json()["projects"] == []
    assert cloud.get("/v3/projects?page=1").status_code == 400
    assert [each["id"] for each in cloud.get("/v3/auth/projects").json()["projects"]] == [cloud.world.project_id]


def test_a_temporary_key_needs_its_security_token_and_ends(cloud: Cloud) -> None:
    body = {"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": 900}}}}
    answer = cloud.send("POST", "/v3.0/OS-CREDENTIAL/securitytokens", json=body)
    assert answer.status_code == 201
    key = answer.json()["credential"]
    assert key["expires_at"] == "2026-11-02T12:15:00.120000Z"

    def listed(token: str) -> httpx.Response:
        return signed(cloud, "GET", "/v2/cloudimages", access=key["access"], secret=key["secret"], token=token)

    assert listed(key["securitytoken"]).status_code == 200
    assert refusal(listed("")) == refusal(listed("another")) == (401, "APIGW.0301")
    assert refusal(signed(cloud, "GET", "/v2/cloudimages", token="x")) == (401, "APIGW.0301")
    cloud.clock.advance(900)
    assert refusal(listed(key["securitytoken"])) == (401, "APIGW.0301")


@pytest.mark.parametrize("seconds", [899, 86_401, "900", True])
def test_a_temporary_key_lives_15_minutes_to_a_day(cloud: Cloud, seconds: object) -> None:
    body = {"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": seconds}}}}
    answer = cloud.send("POST", "/v3.0/OS-CREDENTIAL/securitytokens", json=body)
    assert (answer.status_code, answer.json()["error_code"][:4]) == (400, "IAM.")
    assert cloud.send("POST", "/v3.0/OS-CREDENTIAL/securitytokens", json=body, token="").status_code == 401


def test_any_set_of_signed_headers_will_do_that_has_the_date(cloud: Cloud) -> None:
    extra = {
        "content-type": "application/json",
        "accept": "*/*",
        "user-agent": "golangsdk/2.0.0",
        "x-project-id": cloud.world.project_id,
        "x-domain-id": cloud.world.domain_id,
    }
    terraform = ("content-type", "accept", "user-agent", "x-sdk-date")
    path = f"/v1/{cloud.world.project_id}/image-servers/{cloud.office}/actions/recreate-image"
    for names in (terraform, ("x-sdk-date",), (*extra, "host", "x-sdk-date")):
        answer = signed(cloud, "GET", "/v2/cloudimages?name=a%20b%2Bc&limit=5", names=names, extra=extra)
        assert answer.status_code == 200, answer.text
    answer = signed(cloud, "POST", path, body='{"name": "镜像"}'.encode(), names=terraform, extra=extra)
    assert answer.status_code == 200, answer.text


def test_a_plus_sign_for_a_space_breaks_the_signature(cloud: Cloud) -> None:
    good = signed(cloud, "GET", "/v2/cloudimages?name=a%20b")
    sent = {name: good.request.headers[name] for name in ("host", "x-sdk-date", "authorization")}
    assert cloud.send("GET", "/v2/cloudimages?name=a%20b", headers=sent, token="").status_code == 200
    assert cloud.send("GET", "/v2/cloudimages?name=a+b", headers=sent, token="").status_code == 401


def test_a_wrong_clock_and_wrong_keys_are_refused(cloud: Cloud) -> None:
    late = (cloud.clock.now.replace(hour=11)).strftime("%Y%m%dT%H%M%SZ")
    assert refusal(signed(cloud, "GET", "/v2/cloudimages", extra={"x-sdk-date": late})) == (401, "APIGW.0303")
    assert refusal(signed(cloud, "GET", "/v2/cloudimages", access="UNKNOWN")) == (401, "APIGW.0301")
    assert refusal(signed(cloud, "GET", "/v2/cloudimages", secret="wrong")) == (401, "APIGW.0301")
    assert refusal(cloud.send("GET", "/v2/cloudimages", headers={"Authorization": "Basic x"}, token="")) == (
        401,
        "APIGW.0301",
    )


def test_more_than_five_failures_lock_a_key_for_five_minutes(cloud: Cloud) -> None:
    for _ in range(5):
        signed(cloud, "GET", "/v2/cloudimages", secret="wrong")
    assert signed(cloud, "GET", "/v2/cloudimages").status_code == 200
    for _ in range(6):
        signed(cloud, "GET", "/v2/cloudimages", secret="wrong")
    locked = signed(cloud, "GET", "/v2/cloudimages")
    assert refusal(locked) == (401, "APIGW.0301")
    assert "AK access failed to reach the limit,forbidden" in locked.json()["error_msg"]
    cloud.clock.advance(300)
    assert signed(cloud, "GET", "/v2/cloudimages").status_code == 200
