"""The signature, against vectors and against the official SDK."""

import string

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cloud import signing
from tests.cloud.conftest import PROJECT
from tests.support import examples

AK = "AKEXAMPLE0000000001"
SK = "SKExample/0000000000000000000000000000001"
DATE = "20261025T120000Z"
APPSTREAM = "appstream.cn-north-4.myhuaweicloud.com"
JSON = {"Content-Type": "application/json"}
PROJECT_HEADER = {"X-Project-Id": PROJECT}
SUB_JOBS_QUERY = [("job_type", "CREATE_SERVER_IMAGE"), ("limit", "100"), ("offset", "0"), ("status", "RUNNING")]
IMAGES_QUERY = [
    ("name", "Office 镜像+1~a"),
    ("__imagetype", "private"),
    ("limit", "50"),
    ("enterprise_project_id", "all_granted_eps"),
]
SERVER = f"/v1/{PROJECT}/image-servers/"

# Facts 3.3: method, host, path, query, headers, body, signature.
VECTORS = {
    "V1": (
        "GET",
        APPSTREAM,
        f"/v1/{PROJECT}/image-server-sub-jobs",
        SUB_JOBS_QUERY,
        JSON | PROJECT_HEADER,
        b"",
        "2d63f97a17d343207de8da9c2d1d43cabb01601827a01ac19f1373eb84c462df",
    ),
    "V2": (
        "POST",
        APPSTREAM,
        f"{SERVER}25b1dd14-0c84-4558-aa57-03a6c54b8e75/actions/recreate-image",
        [],
        JSON | PROJECT_HEADER,
        b'{"name": "image_name_0508", "description": "This is an image recreate desc."}',
        "3e36e2c640d3756181c3a8c460d330ecac387b5b71bf2ec3a969fe68f302c2c9",
    ),
    "V3": (
        "GET",
        "ims.cn-north-4.myhuaweicloud.com",
        "/v2/cloudimages",
        IMAGES_QUERY,
        JSON | PROJECT_HEADER | {"X-Security-Token": "gQpjbi1ub3J0aC00STEXAMPLE"},
        b"",
        "93bb32b52ddb6f6d26c9365476a008852f9e8eaac0b12f394c0d224a46dac8e5",
    ),
    "V4": (
        "POST",
        "workspace.ap-southeast-3.myhuaweicloud.com",
        f"{SERVER}697612196993040384/actions/recreate-image",
        [],
        {"Content-Type": "application/json;charset=utf8"} | PROJECT_HEADER,
        '{"name":"镜像 2026","description":"制作","execute_sysprep":true}'.encode(),
        "3a9f36d0c67773db09d5af0e6405bad7ddd63c22042cf0780d0a8a383248b205",
    ),
    "V5": (
        "GET",
        "iam.cn-north-4.myhuaweicloud.com",
        "/v3/projects",
        [("name", "cn-north-4")],
        {"User-Agent": "imgctl/0"},
        b"",
        "43a3ff09ad5976252a2c89007cb17c804336644418c5a28d4d66bdf344d99ac2",
    ),
    "V6": (
        "GET",
        "ims.cn-north-4.myhuaweicloud.com",
        "/v1/cloudimages/quota",
        [],
        {},
        b"",
        "fb2f63b9c14029345baccccf1de3de7a4014634dcbd0fe5fbe7014c243aee11d",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name: str) -> None:
    method, host, path, query, headers, body, signature = VECTORS[name]
    signed = {**headers, "Host": host, "X-Sdk-Date": DATE}
    canonical = signing.canonical_request(method, path, query, signed, body)
    assert signing.authorization(AK, SK, signed, canonical) == (
        f"SDK-HMAC-SHA256 Access={AK}, SignedHeaders={';'.join(sorted(name.lower() for name in signed))}, "
        f"Signature={signature}"
    )


def test_canonical_request_is_the_documented_text() -> None:
    method, host, path, query, headers, body, _ = VECTORS["V3"]
    signed = {**headers, "Host": host, "X-Sdk-Date": DATE}
    assert signing.canonical_request(method, path, query, signed, body) == (
        "GET\n"
        "/v2/cloudimages/\n"
        "__imagetype=private&enterprise_project_id=all_granted_eps&limit=50"
        "&name=Office%20%E9%95%9C%E5%83%8F%2B1~a\n"
        "content-type:application/json\n"
        "host:ims.cn-north-4.myhuaweicloud.com\n"
        f"x-project-id:{PROJECT}\n"
        "x-sdk-date:20261025T120000Z\n"
        "x-security-token:gQpjbi1ub3J0aC00STEXAMPLE\n"
        "\n"
        "content-type;host;x-project-id;x-sdk-date;x-security-token\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.text(string.ascii_letters + string.digits + "-._~ +%&=/镜", min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@settings(max_examples=examples(400), deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "get"]),
    segments=st.lists(st.text(string.ascii_letters + string.digits + "-._~%2F 镜+", max_size=8), max_size=5),
    query=st.dictionaries(words, texts, max_size=5),
    extra=st.dictionaries(st.sampled_from(["X-Project-Id", "X-Security-Token", "User-Agent", "X-A"]), values),
    body=st.binary(max_size=60),
    secret=st.text(string.printable.strip(), min_size=1, max_size=40),
)
def test_agrees_with_the_official_signer(
    method: str, segments: list[str], query: dict[str, str], extra: dict[str, str], body: bytes, secret: str
) -> None:
    path = "/" + "/".join(segments)
    headers = {**extra, "Content-Type": "application/json", "Host": APPSTREAM, "X-Sdk-Date": DATE}
    canonical = signing.canonical_request(method, path, list(query.items()), headers, body)
    ours = signing.authorization(AK, secret, headers, canonical)
    request = SdkRequest(method, "https", APPSTREAM, path, None, list(query.items()), dict(headers), body)
    theirs = Signer(BasicCredentials(AK, secret, PROJECT)).sign(request)
    assert ours == theirs.header_params["Authorization"]
    # The URL must carry what was signed.
    assert theirs.uri == (f"{path}?{signing.canonical_query(query.items())}" if query else path)


def test_headers_with_an_underscore_are_not_signed() -> None:
    headers = {"Host": "h", "X-Sdk-Date": DATE, "X_Odd": "1"}
    canonical = signing.canonical_request("GET", "/", [], headers, b"")
    assert "x_odd" not in canonical
    assert "SignedHeaders=host;x-sdk-date," in signing.authorization(AK, SK, headers, canonical)
