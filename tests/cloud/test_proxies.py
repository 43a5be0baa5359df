"""Which proxy a host is reached through: as httpx, which sends, sees it."""

import httpx
import pytest

from reconciler.cloud.connect import _http_client
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.proxies import proxy_for
from tests.cloud.conftest import REGION

IMS = "https://ims.cn-north-4.myhuaweicloud.com"
PROXY = "http://user:hunter2@proxy.example.com:3128"


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https_proxy"),
        ({"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "myhuaweicloud.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": " x.y , .myhuaweicloud.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "ims.cn-north-4.myhuaweicloud.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "huaweicloud.com"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "", "NO_PROXY": "myhuaweicloud.com"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "other.com", "NO_PROXY": "myhuaweicloud.com"}, "HTTPS_PROXY"),
    ],
)
@pytest.mark.anyio
async def test_as_it_is_sent(environ: dict[str, str], variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(IMS, environ)
    assert found == (("http://proxy.example.com:3128", variable) if variable else None)
    async with _http_client(Endpoints.for_region(REGION, {}), None, 1) as http:
        assert (http._transport_for_url(httpx.URL(IMS)) is not http._transport) == (found is not None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "http://169.254.169.254"])
def test_never_to_this_machine(url: str) -> None:
    assert proxy_for(url, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}) is None


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("user:hunter2@proxy", "http://proxy"),
        ("https://u:hunter2@[::1]:9/x?hunter2#hunter2", "https://[::1]:9"),
        ("http://proxy:hunter2", "(not a URL)"),
        ("http://[hunter2", "(not a URL)"),
        ("http://user:123/hunter2@proxy", "(not a URL)"),
        ("http://user:123#hunter2@proxy", "(not a URL)"),
    ],
)
def test_no_password_shows(proxy: str, shown: str) -> None:
    assert proxy_for(IMS, {"HTTPS_PROXY": proxy}) == (shown, "HTTPS_PROXY")
