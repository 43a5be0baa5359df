"""Broken answers: each variant is as broken as it says, and what was asked for has happened all the same."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from reconciler.simulator import Faults, World, serving
from reconciler.simulator.garbage import VARIANTS

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def job_id_of(answer: httpx.Response) -> object:
    return answer.json().get("job_id", "missing")


RECREATED: dict[str, Callable[[httpx.Response], bool]] = {
    "html": lambda answer: answer.text.startswith("<!DOCTYPE html>") and "html" in answer.headers["Content-Type"],
    "empty": lambda answer: answer.content == b"",
    "list": lambda answer: isinstance(answer.json(), list),
    "bare": lambda answer: answer.json() == {},
    "sparse": lambda answer: str(job_id_of(answer)).isdigit(),
    "wrong-types": lambda answer: str(job_id_of(answer)).isdigit(),
    "truncated": lambda answer: answer.text.startswith('{"job_id"') and not answer.text.endswith("}"),
    "deep": lambda answer: answer.text.startswith("[[[["),
    "no-id": lambda answer: answer.json() == {},
    "null-id": lambda answer: job_id_of(answer) is None,
    "number-id": lambda answer: isinstance(job_id_of(answer), int),
    "path-id": lambda answer: job_id_of(answer) == "../x",
    "endless": lambda answer: len(answer.content) == 32 * 1024**2,
    "gzip-bomb": lambda answer: len(answer.content) == 32 * 1024**2,
}


def test_every_variant_is_tried() -> None:
    assert RECREATED.keys() == VARIANTS.keys()


@pytest.mark.parametrize("variant", RECREATED)
def test_the_effect_happens_and_the_answer_is_broken(cloud: Cloud, variant: str) -> None:
    cloud.faults(f"garbage=1:{variant}@recreate-image")
    answer = cloud.recreate()
    assert answer.status_code == 200
    assert RECREATED[variant](answer)
    cloud.faults()
    (build,) = cloud.ledger()["builds"]
    assert cloud.server()["status"] == "BUILDING"
    assert cloud.job(build["job_id"])["status"] == "RUNNING"


def test_dice_pick_where_nothing_is_chosen(cloud: Cloud) -> None:
    cloud.faults("garbage=1@cloudimages/quota")
    assert len({cloud.get("/v1/cloudimages/quota").content[:12] for _ in range(20)}) >= 5
    assert cloud.get("/v2/cloudimages").json()["images"]


def test_refusals_are_left_whole(cloud: Cloud) -> None:
    cloud.faults("garbage=1:html")
    assert cloud.recreate(name="").json()["error_code"] == "WKS.00211807"


def test_what_stands_inside_of_lists_is_broken_too(cloud: Cloud) -> None:
    def item(variant: str) -> dict[str, Any]:
        cloud.faults(f"garbage=1:{variant}")
        return dict(cloud.get("image-servers").json()["items"][0])

    whole = cloud.server()
    assert item("no-id").keys() == {name for name in whole if name != "id" and not name.endswith("_id")}
    assert item("path-id")["id"] == "../x"
    assert item("path-id")["name"] == whole["name"]
    assert item("number-id")["instance_id"] == item("number-id")["id"] == 702364883651395584
    sparse = item("sparse")
    assert "status" not in sparse
    assert (sparse["id"], sparse["image_ref"]) == (whole["id"], {"id": whole["image_ref"]["id"], "product_id": ""})
    assert (item("wrong-types")["status"], item("wrong-types")["id"]) == (7, whole["id"])
    cloud.faults()
    assert cloud.server() == whole


@pytest.mark.parametrize("variant", ["endless", "gzip-bomb"])
def test_a_flood_flows_until_the_client_hangs_up(variant: str) -> None:
    world = World.create(1, 1.0)
    with serving(world, faults=Faults([f"garbage=1:{variant}@/v3/auth/tokens"])) as url:
        user = {"name": world.user_name, "password": world.password, "domain": {"name": world.domain_name}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
        for _ in range(2):
            connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
            connection.request("POST", "/v3/auth/tokens", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            unpack = zlib.decompressobj(wbits=31).decompress if variant == "gzip-bomb" else bytes
            size = 0
            while size < 100 * 1024**2:
                piece = answer.read(65536)
                assert piece
                size += len(unpack(piece))
            connection.close()
        assert len(world.tokens) == 2
