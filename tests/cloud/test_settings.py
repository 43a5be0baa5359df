"""Endpoints, credentials and settings from an environment."""

import pytest

from reconciler.cloud.credentials import (
    KeyCredentials,
    PasswordCredentials,
    Secret,
    TokenCredentials,
)
from reconciler.cloud.endpoints import Endpoints, Service, is_loopback, nearest
from reconciler.cloud.settings import Given, resolve_settings
from reconciler.cloud.sources import find_credentials
from reconciler.errors import UsageError
from reconciler.model.regions import WORKSPACEAPP_REGIONS
from tests.cloud.conftest import PROJECT

KEYS = {"HW_ACCESS_KEY": "AK", "HW_SECRET_KEY": "SK"}


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("cn-north-4", "https://appstream.cn-north-4.myhuaweicloud.com"),
        ("cn-southwest-2", "https://appstream.cn-southwest-2.myhuaweicloud.com"),
        ("cn-east-5", "https://workspace.cn-east-5.myhuaweicloud.com"),
        ("ap-southeast-1", "https://workspace.ap-southeast-1.myhuaweicloud.com"),
        ("na-mexico-1", "https://workspace.na-mexico-1.myhuaweicloud.com"),
    ],
)
def test_hosts_of_a_region(region: str, url: str) -> None:
    endpoints = Endpoints.for_region(region, {})
    assert endpoints.workspaceapp == url
    assert endpoints.url(Service.IMS) == f"https://ims.{region}.myhuaweicloud.com"
    assert endpoints.url(Service.IAM) == f"https://iam.{region}.myhuaweicloud.com"
    assert endpoints.overridden == {}


def test_every_region_has_endpoints() -> None:
    assert len(WORKSPACEAPP_REGIONS) == 18
    for region in WORKSPACEAPP_REGIONS:
        Endpoints.for_region(region, {})


def test_one_override_is_for_all_and_a_special_one_wins() -> None:
    environ = {"IMGCTL_ENDPOINT": "http://127.0.0.1:8080/", "IMGCTL_ENDPOINT_IMS": "https://ims.example.com"}
    assert Endpoints.for_region("cn-north-4", environ) == Endpoints(
        "http://127.0.0.1:8080",
        "https://ims.example.com",
        "http://127.0.0.1:8080",
        {
            Service.WORKSPACEAPP: "IMGCTL_ENDPOINT",
            Service.IMS: "IMGCTL_ENDPOINT_IMS",
            Service.IAM: "IMGCTL_ENDPOINT",
        },
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://2130706433",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "http://[fe80::1]",
        "https://user:hunter2@example.com",
        "https://user@127.0.0.1",
        "http://127.0.0.1@example.com",
        "http://127.0.0.1#@example.com",
        "https://example.com/v1",
        "https://example.com?a=b",
        "https://example.com/#x",
        "https://exa mple.com",
        "https://example.com\n",
        "https://example.com\\@evil.com",
        "https://example.com:99999",
        "ftp://example.com",
        "example.com",
        "https://",
        "https://...",
        "https://a..b",
        "https://-a.b",
        "https://a.b.",
        "https://xn--a.b",
        "https://a.XN--80ak6aa92e.com",
        "https://[1.2.3.4]",
        "https://[::::]",
        "https://[1]",
        "https://256.256.256.256",
        "https://1.2.3",
        "http://localhost.",
        "http://[::ffff:10.0.0.1]",
        "https://example.com:0",
        f"https://{'a' * 64}.com",
    ],
)
def test_unusable_endpoints(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoints.for_region("cn-north-4", {"IMGCTL_ENDPOINT": url})
    assert "IMGCTL_ENDPOINT" in caught.value.summary
    assert "hunter2" not in caught.value.summary + caught.value.hint


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9:80", "http://[::1]:80", "http://169.254.169.254"],
)
def test_no_tls_to_this_machine_and_the_metadata_service(url: str) -> None:
    assert Endpoints.for_region("cn-north-4", {"IMGCTL_ENDPOINT": url}).ims == url
    assert is_loopback(url) == ("169" not in url)


def test_unknown_region_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        Endpoints.for_region("ap-southeast-9", {})
    assert "did you mean ap-southeast-" in caught.value.hint
    assert nearest("cn-nort-4") == "cn-north-4"
    assert nearest("moon") == ""


@pytest.mark.parametrize(
    ("environ", "iam"),
    [
        ({"HW_AUTH_URL": "https://iam.myhuaweicloud.com/v3"}, "https://iam.myhuaweicloud.com"),
        ({"HW_AUTH_URL": "https://iam.example.com:443/v3/"}, "https://iam.example.com:443"),
        ({"HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.example.com"}, "https://iam.example.com"),
        ({"HW_AUTH_URL": "https://a.com/v3", "IMGCTL_ENDPOINT_IAM": "https://b.com"}, "https://b.com"),
        ({"HW_AUTH_URL": "https://a.com/v3", "HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://b.com"}, "https://a.com"),
    ],
)
def test_iam_is_where_terraform_and_the_sdk_have_it(environ: dict[str, str], iam: str) -> None:
    """Otherwise a password would go to another cloud's IAM than its own."""
    endpoints = Endpoints.for_region("cn-north-4", environ)
    assert endpoints.iam == iam
    assert endpoints.ims == "https://ims.cn-north-4.myhuaweicloud.com"
    assert list(endpoints.overridden) == [Service.IAM]


@pytest.mark.parametrize(
    "url", ["http://iam.example.com/v3", "https://u:hunter2@a.com/v3", "https://a.com/v3.0", "/v3"]
)
def test_unusable_urls_of_others(url: str) -> None:
    with pytest.raises(UsageError, match="HW_AUTH_URL") as caught:
        Endpoints.for_region("cn-north-4", {"HW_AUTH_URL": url})
    assert "hunter2" not in caught.value.summary + caught.value.hint


def test_the_version_is_taken_off_the_urls_of_others_only() -> None:
    with pytest.raises(UsageError, match="IMGCTL_ENDPOINT is not the URL of a host"):
        Endpoints.for_region("cn-north-4", {"IMGCTL_ENDPOINT": "https://example.com/v3"})


def test_another_cloud_needs_its_endpoints() -> None:
    environ = {"HW_CLOUD": "cloud.example.com"}
    with pytest.raises(UsageError, match="HW_CLOUD asks for another cloud") as caught:
        Endpoints.for_region("cn-north-4", environ | {"HW_AUTH_URL": "https://iam.example.com/v3"})
    assert "set IMGCTL_ENDPOINT_WORKSPACEAPP, IMGCTL_ENDPOINT_IMS to" in caught.value.hint
    url = "https://all.example.com"
    assert Endpoints.for_region("cn-north-4", environ | {"IMGCTL_ENDPOINT": url}).iam == url
    assert Endpoints.for_region("cn-north-4", {"HW_CLOUD": "myhuaweicloud.com"}).overridden == {}


def test_region_outside_the_table_needs_an_endpoint() -> None:
    assert Endpoints.for_region("eu-new-1", {"IMGCTL_ENDPOINT_WORKSPACEAPP": "https://w.example.com"}).ims == (
        "https://ims.eu-new-1.myhuaweicloud.com"
    )


@pytest.mark.parametrize(
    "region", ["", "cn", "CN-north-4", "cn-north-4.evil.com", "cn-north-4/", "cn-north-4\n", "-a-b"]
)
def test_what_is_no_region_never_becomes_a_host(region: str) -> None:
    with pytest.raises(UsageError):
        Endpoints.for_region(region, {"IMGCTL_ENDPOINT_WORKSPACEAPP": "https://w.example.com"})


def test_order_of_sources_and_methods() -> None:
    environ = {
        "IMGCTL_AUTH_TOKEN": "t1",
        "IMGCTL_ACCESS_KEY": "a1",
        "IMGCTL_SECRET_KEY": "s1",
        "HW_AUTH_TOKEN": "t2",
        "HW_ACCESS_KEY": "a2",
        "HW_SECRET_KEY": "s2",
        "HW_USER_NAME": "u",
        "HW_USER_PASSWORD": "p",
        "HW_DOMAIN_NAME": "d",
        "HUAWEICLOUD_SDK_AK": "a3",
        "HUAWEICLOUD_SDK_SK": "s3",
    }
    sources = []
    for spent in (
        [],
        ["IMGCTL_AUTH_TOKEN"],
        ["IMGCTL_ACCESS_KEY", "IMGCTL_SECRET_KEY"],
        ["HW_AUTH_TOKEN"],
        ["HW_ACCESS_KEY", "HW_SECRET_KEY"],
        ["HW_USER_NAME", "HW_USER_PASSWORD", "HW_DOMAIN_NAME"],
    ):
        for name in spent:
            del environ[name]
        sources.append(find_credentials(environ).source)
    assert sources == [
        "IMGCTL_AUTH_TOKEN",
        "IMGCTL_ACCESS_KEY and IMGCTL_SECRET_KEY",
        "HW_AUTH_TOKEN",
        "HW_ACCESS_KEY and HW_SECRET_KEY",
        "HW_USER_NAME, HW_USER_PASSWORD and HW_DOMAIN_NAME",
        "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
    ]


def test_sources_never_mix() -> None:
    found = find_credentials({"IMGCTL_ACCESS_KEY": "a", "IMGCTL_SECRET_KEY": "s", "HW_SECURITY_TOKEN": "other"})
    assert isinstance(found, KeyCredentials)
    assert found.security_token is None
    temporary = find_credentials({**KEYS, "HW_SECURITY_TOKEN": "sts"})
    assert isinstance(temporary, KeyCredentials)
    assert temporary.security_token is not None
    assert temporary.security_token.reveal() == "sts"


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({"HW_ACCESS_KEY": "a"}, "HW_SECRET_KEY is not"),
        ({"HW_SECRET_KEY": "s"}, "HW_ACCESS_KEY is not"),
        ({"HW_SECURITY_TOKEN": "t"}, "HW_ACCESS_KEY is not"),
        ({"IMGCTL_ACCESS_KEY": "a", **KEYS}, "IMGCTL_SECRET_KEY is not"),
        ({"HUAWEICLOUD_SDK_AK": "a"}, "HUAWEICLOUD_SDK_SK is not"),
        ({"HW_USER_NAME": "u", "HW_DOMAIN_NAME": "d"}, "HW_USER_PASSWORD is not"),
        ({"HW_USER_PASSWORD": "p"}, "HW_USER_NAME and HW_USER_ID are not"),
        ({"HW_USER_NAME": "u", "HW_USER_PASSWORD": "p"}, "HW_DOMAIN_NAME and HW_DOMAIN_ID are not"),
    ],
)
def test_half_a_source_is_an_error(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(UsageError, match=missing):
        find_credentials(environ)


def test_user_id_needs_no_domain() -> None:
    found = find_credentials({"HW_USER_ID": "uid", "HW_USER_PASSWORD": "p"})
    assert isinstance(found, PasswordCredentials)
    assert found.user_id == "uid"


@pytest.mark.parametrize("value", ["SK\n", " SK", "S K", "SK\r\nX-Evil: 1", "schlüssel"])
def test_secrets_that_no_header_can_carry(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_credentials({**KEYS, "HW_SECRET_KEY": value})
    assert "HW_SECRET_KEY" in caught.value.summary
    assert value.strip() not in caught.value.summary


@pytest.mark.parametrize("name", ["HW_USER_PASSWORD", "HW_USER_NAME", "HW_DOMAIN_NAME"])
@pytest.mark.parametrize("value", ["geheim\n", "gehe\x00im", "geheim\udce9", "\x1b[31mgeheim"])
def test_passwords_that_cannot_be_meant_are_not_sent(name: str, value: str) -> None:
    """A password with a line break is refused, and some of those lock the account."""
    environ = {"HW_USER_PASSWORD": "p", "HW_USER_NAME": "u", "HW_DOMAIN_NAME": "d", name: value}
    with pytest.raises(UsageError, match=name) as caught:
        find_credentials(environ)
    assert "geheim" not in caught.value.summary + caught.value.hint


def test_a_password_may_have_blanks_and_letters_of_every_script() -> None:
    found = find_credentials({"HW_USER_PASSWORD": " pässwörd\u3000密码 ", "HW_USER_ID": "u"})
    assert isinstance(found, PasswordCredentials)
    assert found.password.reveal() == " pässwörd\u3000密码 "


def test_no_secret_shows() -> None:
    shown = [
        f"{found!r} {found} {found.advice}"
        for found in (
            TokenCredentials(Secret("hunter2"), "x"),
            KeyCredentials("ak", Secret("hunter2"), "x", Secret("hunter2")),
            PasswordCredentials(Secret("hunter2"), "x", "user"),
        )
    ]
    assert "hunter2" not in " ".join([*shown, f"{Secret('hunter2')} {Secret('hunter2')!r}"])


def test_settings_from_the_environment() -> None:
    environ = {**KEYS, "HW_REGION_NAME": "cn-north-4", "HUAWEICLOUD_SDK_PROJECT_ID": PROJECT}
    settings = resolve_settings(environ)
    assert settings.region == Given("cn-north-4", "HW_REGION_NAME")
    assert settings.project == Given(PROJECT, "HUAWEICLOUD_SDK_PROJECT_ID")
    assert settings.credentials.source == "HW_ACCESS_KEY and HW_SECRET_KEY"
    assert "SK" not in repr(settings).replace("HUAWEICLOUD_SDK", "").replace("HW_SECRET_KEY", "")


def test_what_is_given_wins() -> None:
    environ = {**KEYS, "IMGCTL_REGION": "cn-east-3", "HW_REGION_NAME": "cn-north-4", "HW_PROJECT_ID": PROJECT}
    assert resolve_settings(environ).region.value == "cn-east-3"
    given = Given("la-south-2", "imgctl.yaml:2")
    other = Given("b" * 32, "imgctl.yaml:3")
    settings = resolve_settings(environ, region=given, project_id=other)
    assert (settings.region, settings.project) == (given, other)


def test_project_is_pinned_by_the_environment() -> None:
    environ = {**KEYS, "IMGCTL_REGION": "cn-east-3", "IMGCTL_PROJECT_ID": PROJECT}
    with pytest.raises(UsageError, match="IMGCTL_PROJECT_ID allows"):
        resolve_settings(environ, project_id=Given("b" * 32, "imgctl.yaml:3"))
    assert resolve_settings(environ, project_id=Given(PROJECT, "imgctl.yaml:3")).project is not None


def test_a_projects_name() -> None:
    environ = {**KEYS, "HW_REGION_NAME": "cn-north-4", "HW_PROJECT_NAME": "cn-north-4_team"}
    settings = resolve_settings(environ)
    assert (settings.project, settings.project_name) == (None, Given("cn-north-4_team", "HW_PROJECT_NAME"))
    # An id says it all.
    settings = resolve_settings(environ | {"HW_PROJECT_ID": PROJECT, "HW_PROJECT_NAME": "elsewhere"})
    assert (settings.project, settings.project_name) == (Given(PROJECT, "HW_PROJECT_ID"), None)


@pytest.mark.parametrize("name", ["cn-east-3", "cn-east-3_team", "cn-north-4x", "MOS"])
def test_another_regions_project_is_not_built_in(name: str) -> None:
    with pytest.raises(UsageError, match="which is no project of region cn-north-4"):
        resolve_settings({**KEYS, "HW_REGION_NAME": "cn-north-4", "HW_PROJECT_NAME": name})


@pytest.mark.parametrize(
    "environ", [KEYS, {**KEYS, "HW_REGION_NAME": "cn-north-4", "HW_PROJECT_ID": "../x"}], ids=["region", "project"]
)
def test_unusable_settings(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        resolve_settings(environ)
