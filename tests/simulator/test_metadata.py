"""The metadata service of an ECS instance, and the keys that it gives away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import httpx
import pytest

from reconciler.simulator.signing import Signed, sign
from tests.simulator.conftest import Cloud

TOKEN = "/meta-data/latest/api/token"
KEY = "/openstack/latest/securitykey"


def token(cloud: Cloud, seconds: str = "21600") -> httpx.Response:
    return cloud.send("PUT", TOKEN, headers={"X-Metadata-Token-Ttl-Seconds": seconds}, token="")


def keys(cloud: Cloud, metadata_token: str = "") -> httpx.Response:
    headers = {"X-Metadata-Token": metadata_token} if metadata_token else {}
    return cloud.send("GET", KEY, headers=headers, token="")


def change(cloud: Cloud, **how: object) -> None:
    answer = cloud.send("PATCH", "/_simulator/metadata", json=how)
    assert answer.status_code == 204, answer.text


def use(cloud: Cloud, credential: dict[str, str]) -> httpx.Response:
    """A request signed with the keys."""
    path = f"/v1/{cloud.world.project_id}/image-servers"
    headers = {
        "host": "cloud.test",
        "x-sdk-date": cloud.clock.now.strftime("%Y%m%dT%H%M%SZ"),
        "x-security-token": credential["securitytoken"],
    }
    signature = sign(Signed("GET", path, "", headers, b""), tuple(headers), credential["secret"])
    authorization = (
        f"SDK-HMAC-SHA256 Access={credential['access']}, SignedHeaders={';'.join(headers)}, Signature={signature}"
    )
    return cloud.send("GET", path, headers=headers | {"Authorization": authorization}, token="")


def test_keys_are_good_until_their_end_and_no_longer(cloud: Cloud) -> None:
    change(cloud, key_life=60)
    credential = keys(cloud).json()["credential"]
    ends = datetime.fromisoformat(credential["expires_at"])
    assert ends == cloud.clock.now + timedelta(seconds=60)
    assert use(cloud, credential).status_code == 200
    cloud.clock.advance(59)
    assert use(cloud, credential).status_code == 200
    cloud.clock.advance(1)
    answer = use(cloud, credential)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "APIGW.0301")
    assert "expired" in answer.json()["error_msg"]


def test_the_same_keys_until_half_of_their_life_is_over(cloud: Cloud) -> None:
    change(cloud, key_life=60)
    first = keys(cloud).json()
    cloud.clock.advance(29)
    assert keys(cloud).json() == first
    cloud.clock.advance(1)
    second = keys(cloud).json()["credential"]
    assert second["access"] != first["credential"]["access"]
    assert use(cloud, second).status_code == 200
    # The first ones are not taken back.
    assert use(cloud, first["credential"]).status_code == 200


def test_a_token_of_its_own(cloud: Cloud) -> None:
    change(cloud, tokens="required")
    assert keys(cloud).status_code == 401
    assert keys(cloud, "made-up").status_code == 401
    good = token(cloud, "10").text
    assert keys(cloud, good).status_code == 200
    cloud.clock.advance(10)
    assert keys(cloud, good).status_code == 401


@pytest.mark.parametrize("seconds", ["", "0", "21601", "x", "-1"])
def test_a_tokens_life_is_limited(cloud: Cloud, seconds: str) -> None:
    assert token(cloud, seconds).status_code == 400


def test_a_version_without_tokens(cloud: Cloud) -> None:
    change(cloud, tokens="none")
    assert token(cloud).status_code == 404
    assert keys(cloud).status_code == 200


def test_without_an_agency_there_are_no_keys(cloud: Cloud) -> None:
    change(cloud, agency=False)
    answer = keys(cloud)
    assert (answer.status_code, answer.text) == (401, "Please configure Cloud Service Agency first")
    change(cloud, agency=True)
    assert keys(cloud).status_code == 200


@pytest.mark.parametrize("how", [{"tokens": "sometimes"}, {"agency": 1}, {"key_life": "long"}, {"other": 1}])
def test_what_the_instance_cannot_be(cloud: Cloud, how: dict[str, object]) -> None:
    assert cloud.send("PATCH", "/_simulator/metadata", json=how).status_code == 400


def test_it_is_counted_like_everything_else(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    token(cloud)
    keys(cloud)
    assert cloud.ledger()["requests"][f"PUT {TOKEN}"] == 1
    assert cloud.ledger()["requests"][f"GET {KEY}"] == 1
