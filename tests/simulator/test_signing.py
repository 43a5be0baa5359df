"""The verifier against the published vectors, and against the official SDK's own signer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.simulator.signing import (
    Authorization,
    SignatureError,
    Signed,
    canonical_request,
    parse_authorization,
    verify,
)
from tests.support import examples

ACCESS, SECRET = "AKEXAMPLE0000000001", "SKExample/0000000000000000000000000000001"
NOW = datetime(2026, 10, 25, 12, 0, 0, tzinfo=UTC)
PROJECT = "a4da8115c9d8464ead3a38309130523f"
COMMON = {"x-sdk-date": "20261025T120000Z"}
REGIONAL = COMMON | {"x-project-id": PROJECT, "content-type": "application/json"}
SERVERS = f"/v1/{PROJECT}/image-servers"


class Vector(NamedTuple):
    request: Signed
    names: str
    signature: str


VECTORS = {
    "V1": Vector(
        Signed(
            "GET",
            f"/v1/{PROJECT}/image-server-sub-jobs",
            "job_type=CREATE_SERVER_IMAGE&limit=100&offset=0&status=RUNNING",
            REGIONAL | {"host": "appstream.cn-north-4.myhuaweicloud.com"},
            b"",
        ),
        "content-type;host;x-project-id;x-sdk-date",
        "2d63f97a17d343207de8da9c2d1d43cabb01601827a01ac19f1373eb84c462df",
    ),
    "V2": Vector(
        Signed(
            "POST",
            f"{SERVERS}/25b1dd14-0c84-4558-aa57-03a6c54b8e75/actions/recreate-image",
            "",
            REGIONAL | {"host": "appstream.cn-north-4.myhuaweicloud.com"},
            b'{"name": "image_name_0508", "description": "This is an image recreate desc."}',
        ),
        "content-type;host;x-project-id;x-sdk-date",
        "3e36e2c640d3756181c3a8c460d330ecac387b5b71bf2ec3a969fe68f302c2c9",
    ),
    "V3": Vector(
        Signed(
            "GET",
            "/v2/cloudimages",
            "name=Office%20%E9%95%9C%E5%83%8F%2B1~a&__imagetype=private&limit=50&enterprise_project_id=all_granted_eps",
            REGIONAL | {"host": "ims.cn-north-4.myhuaweicloud.com", "x-security-token": "gQpjbi1ub3J0aC00STEXAMPLE"},
            b"",
        ),
        "content-type;host;x-project-id;x-sdk-date;x-security-token",
        "93bb32b52ddb6f6d26c9365476a008852f9e8eaac0b12f394c0d224a46dac8e5",
    ),
    "V4": Vector(
        Signed(
            "POST",
            f"{SERVERS}/697612196993040384/actions/recreate-image",
            "",
            REGIONAL
            | {
                "host": "workspace.ap-southeast-3.myhuaweicloud.com",
                "content-type": "application/json;charset=utf8",
            },
            '{"name":"镜像 2026","description":"制作","execute_sysprep":true}'.encode(),
        ),
        "content-type;host;x-project-id;x-sdk-date",
        "3a9f36d0c67773db09d5af0e6405bad7ddd63c22042cf0780d0a8a383248b205",
    ),
    "V5": Vector(
        Signed(
            "GET",
            "/v3/projects",
            "name=cn-north-4",
            COMMON | {"host": "iam.cn-north-4.myhuaweicloud.com", "user-agent": "imgctl/0"},
            b"",
        ),
        "host;user-agent;x-sdk-date",
        "43a3ff09ad5976252a2c89007cb17c804336644418c5a28d4d66bdf344d99ac2",
    ),
    "V6": Vector(
        Signed("GET", "/v1/cloudimages/quota", "", COMMON | {"host": "ims.cn-north-4.myhuaweicloud.com"}, b""),
        "host;x-sdk-date",
        "fb2f63b9c14029345baccccf1de3de7a4014634dcbd0fe5fbe7014c243aee11d",
    ),
}


def authorization(names: str, signature: str) -> Authorization:
    return parse_authorization(f"SDK-HMAC-SHA256 Access={ACCESS}, SignedHeaders={names}, Signature={signature}")


@pytest.mark.parametrize("name", VECTORS)
def test_a_published_vector_is_accepted(name: str) -> None:
    request, names, signature = VECTORS[name]
    verify(request, authorization(names, signature), SECRET, NOW)
    with pytest.raises(SignatureError):
        verify(request, authorization(names, signature), SECRET + "x", NOW)


def test_the_canonical_request_is_the_published_one() -> None:
    request, names, _ = VECTORS["V3"]
    assert canonical_request(request, tuple(names.split(";"))) == (
        "GET\n"
        "/v2/cloudimages/\n"
        "__imagetype=private&enterprise_project_id=all_granted_eps&limit=50&name=Office%20%E9%95%9C%E5%83%8F%2B1~a\n"
        "content-type:application/json\n"
        "host:ims.cn-north-4.myhuaweicloud.com\n"
        f"x-project-id:{PROJECT}\n"
        "x-sdk-date:20261025T120000Z\n"
        "x-security-token:gQpjbi1ub3J0aC00STEXAMPLE\n"
        "\n"
        "content-type;host;x-project-id;x-sdk-date;x-security-token\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@pytest.mark.parametrize(("seconds", "accepted"), [(900, True), (-900, True), (901, False), (-901, False)])
def test_the_clock_may_differ_by_15_minutes(seconds: int, accepted: bool) -> None:
    request, names, signature = VECTORS["V6"]
    if accepted:
        verify(request, authorization(names, signature), SECRET, NOW + timedelta(seconds=seconds))
    else:
        with pytest.raises(SignatureError) as error:
            verify(request, authorization(names, signature), SECRET, NOW + timedelta(seconds=seconds))
        assert error.value.skewed


@pytest.mark.parametrize(
    "text",
    ["", "Bearer x", "SDK-HMAC-SHA256 Access=a", "SDK-HMAC-SM3 Access=a, SignedHeaders=b, Signature=c",
     "SDK-HMAC-SHA256 Access=a, SignedHeaders=b, Signature=XYZ"],
)  # fmt: skip
def test_other_authorization_headers_are_malformed(text: str) -> None:
    with pytest.raises(SignatureError):
        parse_authorization(text)


def signed_by_sdk(
    method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: str
) -> tuple[Signed, Authorization]:
    """The request as the SDK would put it on the wire."""
    sent = SdkRequest(
        method=method,
        schema="http",
        host="cloud.test",
        resource_path=path,
        query_params=query,
        header_params=dict(headers) | {"X-Sdk-Date": "20261025T120000Z"},
        body=body,
    )
    sent = Signer(BasicCredentials(ACCESS, SECRET, PROJECT)).sign(sent)
    arrived = {name.lower(): value.encode("iso-8859-1").decode("utf-8") for name, value in sent.header_params.items()}
    raw_path, _, raw_query = sent.uri.partition("?")
    content = sent.body if isinstance(sent.body, bytes) else (sent.body or "").encode()
    return Signed(method, raw_path, raw_query, arrived, content), parse_authorization(arrived["authorization"])


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
HEADER_VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=12)
SEGMENTS = st.text("abcXYZ0189-_.~", min_size=1, max_size=12)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.lists(st.tuples(WORDS, WORDS), max_size=4, unique_by=lambda pair: pair[0]),
    st.dictionaries(st.sampled_from(["User-Agent", "Accept", "X-Project-Id", "X-Note"]), HEADER_VALUES).map(
        lambda headers: headers | {"Content-Type": "application/json"}
    ),
    st.one_of(st.just(""), st.dictionaries(WORDS, WORDS, min_size=1, max_size=2).map(json.dumps)),
)


@settings(max_examples=examples(60), deadline=None)
@given(REQUESTS)
def test_what_the_sdk_signs_is_accepted(request: tuple[str, str, list[tuple[str, str]], dict[str, str], str]) -> None:
    signed, auth = signed_by_sdk(*request)
    verify(signed, auth, SECRET, NOW)


@settings(max_examples=examples(60), deadline=None)
@given(REQUESTS, st.data())
def test_what_was_changed_after_signing_is_refused(
    request: tuple[str, str, list[tuple[str, str]], dict[str, str], str], data: st.DataObject
) -> None:
    signed, auth = signed_by_sdk(*request)
    headers = dict(signed.headers)
    match data.draw(st.sampled_from(["method", "path", "query", "header", "missing", "body", "signature", "names"])):
        case "method":
            signed = changed(signed, method="PUT")
        case "path":
            signed = changed(signed, path=signed.path + "x")
        case "query":
            signed = changed(signed, query=signed.query + ("&" if signed.query else "") + "tampered=1")
        case "header":
            name = data.draw(st.sampled_from(auth.signed_headers))
            signed = changed(signed, headers=headers | {name: headers[name] + "0"})
        case "missing":
            del headers[data.draw(st.sampled_from(auth.signed_headers))]
            signed = changed(signed, headers=headers)
        case "body":
            signed = changed(signed, body=signed.body + b" ")
        case "signature":
            place = data.draw(st.integers(0, 63))
            other = "0" if auth.signature[place] != "0" else "1"
            auth = Authorization(
                auth.access, auth.signed_headers, auth.signature[:place] + other + auth.signature[place + 1 :]
            )
        case _:
            auth = Authorization(
                auth.access, tuple(each for each in auth.signed_headers if each != "host"), auth.signature
            )
    with pytest.raises(SignatureError):
        verify(signed, auth, SECRET, NOW)


def changed(signed: Signed, **fields: object) -> Signed:
    return Signed(**{**vars(signed), **fields})


def test_a_body_goes_unsigned_only_where_it_is_not_json() -> None:
    signed, auth = signed_by_sdk("POST", "/a", [], {"Content-Type": "text/plain"}, "hello")
    assert signed.headers["x-sdk-content-sha256"] == "UNSIGNED-PAYLOAD"
    verify(changed(signed, body=b"other"), auth, SECRET, NOW)
    signed, auth = signed_by_sdk("POST", "/a", [], {"Content-Type": "application/json"}, "{}")
    headers = {**signed.headers, "x-sdk-content-sha256": "UNSIGNED-PAYLOAD"}
    with pytest.raises(SignatureError):
        verify(changed(signed, headers=headers), auth, SECRET, NOW)


def test_the_date_must_be_signed_and_a_date() -> None:
    request, _, signature = VECTORS["V6"]
    with pytest.raises(SignatureError):
        verify(request, authorization("host", signature), SECRET, NOW)
    for date in ("20261325T120000Z", "2026-10-25T12:00:00Z", "٢٠261025T120000Z"):
        with pytest.raises(SignatureError):
            verify(changed(request, headers={"x-sdk-date": date}), authorization("x-sdk-date", signature), SECRET, NOW)
