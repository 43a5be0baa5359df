"""A client that behaves as Terraform's provider does: what it signs, when it asks, what it takes for an answer.

Written from what is known of the provider (facts sheet 3.2, 7.1), with a signature of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud

SIGNED = "accept;content-type;user-agent;x-sdk-date"


class ProviderError(Exception):
    """Where the provider gives up, with its own words."""


@dataclass
class Provider:
    """`slept` collects the pauses; each moves the world's clock."""

    cloud: Cloud
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.cloud.world
        self.access, self.secret, self.project_id = world.access_key, world.secret_key, world.project_id

    def request(
        self, method: str, path: str, query: dict[str, str] | None = None, body: object = None
    ) -> httpx.Response:
        content = json.dumps(body).encode() if body is not None else b""
        pairs = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted((query or {}).items()))
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "golangsdk/2.0.0 terraform-provider-huaweicloud",
            "X-Sdk-Date": self.cloud.clock.now.strftime("%Y%m%dT%H%M%SZ"),
        }
        lines = "".join(f"{name}:{value}\n" for name, value in sorted((k.lower(), v) for k, v in headers.items()))
        digest = hashlib.sha256(content).hexdigest()
        canonical = "\n".join((method, f"{path}/", pairs, lines, SIGNED, digest))
        text = f"SDK-HMAC-SHA256\n{headers['X-Sdk-Date']}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        headers |= {
            "Authorization": f"SDK-HMAC-SHA256 Access={self.access}, SignedHeaders={SIGNED}, Signature={signature}",
            # Sent, but not signed.
            "X-Project-Id": self.project_id,
        }
        url = path + (f"?{pairs}" if pairs else "")
        return self.cloud.send(method, url, content=content, headers=headers, token="")

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.cloud.clock.advance(seconds)

    def poll(self, refresh: Callable[[], str], minutes: float) -> None:
        """After 10 s, then every 30 s; `refresh` says PENDING or COMPLETED."""
        self.sleep(10)
        while refresh() == "PENDING":
            if sum(self.slept) + 30 > minutes * 60:
                raise ProviderError("timeout while waiting for state to become 'COMPLETED'")
            self.sleep(30)

    def create(self, server_id: str, name: str, description: str = "") -> str:
        path = f"/v1/{self.project_id}/image-servers/{server_id}/actions/recreate-image"
        answer = self.request("POST", path, body={"name": name, "description": description})
        if answer.status_code not in (200, 201, 202):
            raise ProviderError(f"error creating image: {answer.text}")
        self.id = str(answer.json()["job_id"])
        job_path = f"/v1/{self.project_id}/image-server-jobs/{self.id}"

        def refresh() -> str:
            job = self.request("GET", job_path).json()
            if job["status"] == "SUCCESS":
                self.id = job["sub_jobs"][0]["job_resource_info"]["resource_id"]
                return "COMPLETED"
            if job["status"] != "RUNNING":
                raise ProviderError(f"unexpected status: {job['status']}")
            return "PENDING"

        self.poll(refresh, 60)
        return self.id

    def listed(self, image_id: str) -> list[str]:
        answer = self.request("GET", "/v2/cloudimages", {"id": image_id})
        assert answer.status_code == 200, answer.text
        return [image["id"] for image in answer.json()["images"]]

    def delete(self, image_id: str) -> int:
        answer = self.request("DELETE", f"/v2/images/{image_id}")
        if answer.status_code != 204:
            raise ProviderError(f"error deleting image: {answer.text}")
        self.slept.clear()
        self.poll(lambda: "PENDING" if self.listed(image_id) else "COMPLETED", 10)
        return answer.status_code


@pytest.fixture
def provider(make_cloud: Callable[..., Cloud]) -> Provider:
    # The documented build: 23 min 35 s.
    return Provider(make_cloud(build_time=1414.6))


def test_from_create_to_destroy(provider: Provider) -> None:
    cloud = provider.cloud
    image_id = provider.create(cloud.office, "image_name_0508", "This is an image recreate desc.")
    assert provider.slept == [10] + [30] * 47
    assert cloud.server()["image_id"] == image_id
    assert provider.listed(image_id) == [image_id]
    provider.delete(image_id)
    assert provider.slept == [10]
    assert provider.listed(image_id) == []
    assert cloud.get(f"/v2/images/{image_id}").status_code == 404
    # One POST, one GET for each poll; asked of IMS before, while and after deleting.
    requests = {name: count for name, count in cloud.ledger()["requests"].items() if "{job_id}" in name or "v2" in name}
    assert requests == {
        "GET /v1/{project_id}/image-server-jobs/{job_id}": 48,
        "GET /v2/cloudimages": 3,
        "GET /v2/images/{image_id}": 1,
        "DELETE /v2/images/{image_id}": 1,
    }


def test_an_image_that_lingers_is_asked_for_until_it_is_gone(provider: Provider) -> None:
    image_id = provider.create(provider.cloud.office, "lingering")
    provider.cloud.faults("delete-lag=1:65")
    provider.delete(image_id)
    assert provider.slept == [10, 30, 30]
    assert provider.listed(image_id) == []


def test_a_job_id_is_deleted_without_a_word(provider: Provider) -> None:
    """What a destroy does after a create that failed: 204, and nothing has happened (facts sheet 1.15)."""
    cloud = provider.cloud
    cloud.faults("job-failed=1")
    with pytest.raises(ProviderError, match="FAILED"):
        provider.create(cloud.office, "failing")
    assert provider.id.isdigit()
    provider.delete(provider.id)
    assert provider.slept == [10]


@pytest.mark.parametrize("fault", ["job-waiting=1:60", "job-unknown-status=1:60"])
def test_its_weakness_a_job_that_waits_ends_the_create(provider: Provider, fault: str) -> None:
    provider.cloud.faults(fault)
    with pytest.raises(ProviderError, match=r"unexpected status: (WAITING|PREPARING)"):
        provider.create(provider.cloud.office, "waiting")
    provider.cloud.clock.advance(2000)
    # The build went on, and made an image that is in no state.
    assert provider.listed(provider.cloud.server()["image_id"]) != []


def test_an_hour_is_its_limit(provider: Provider) -> None:
    provider.cloud.faults("job-stuck=1")
    with pytest.raises(ProviderError, match="timeout"):
        provider.create(provider.cloud.office, "stuck")
    assert 3570 < sum(provider.slept) <= 3600


def test_what_is_not_signed_is_checked_all_the_same(provider: Provider) -> None:
    assert provider.request("GET", "/v2/cloudimages", {"name": "a b+c~镜像"}).json() == {"images": []}
    provider.project_id = "c" * 32
    assert provider.request("GET", "/v2/cloudimages").json()["error_code"] == "APIGW.0310"
    provider.secret = "another"
    assert provider.request("GET", "/v2/cloudimages").json()["error_code"] == "APIGW.0301"
