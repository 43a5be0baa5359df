"""Which source of credentials wins, and that two never mix."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cloud.credentials import AgencyCredentials, KeyCredentials
from reconciler.cloud.endpoints import Service
from reconciler.cloud.settings import Given, resolve_settings
from reconciler.cloud.sources import find_credentials, search, sources
from reconciler.errors import UsageError
from tests.cloud.conftest import PROJECT

# In the order of the search: each source holds keys that carry its name.
ORDER = ("IMGCTL", "HW", "SDK", "sdkfile", "koocli")
VARIABLES = {
    "IMGCTL": ("IMGCTL_ACCESS_KEY", "IMGCTL_SECRET_KEY", "IMGCTL_SECURITY_TOKEN"),
    "HW": ("HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN"),
    "SDK": ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
}


def write_sdk_file(home: Path, text: str) -> None:
    (home / ".huaweicloud").mkdir(exist_ok=True)
    (home / ".huaweicloud" / "credentials").write_text(text, encoding="utf-8")


def write_koocli_file(home: Path, *profiles: Mapping[str, object], current: object = "default") -> None:
    (home / ".hcloud").mkdir(exist_ok=True)
    document = {"current": current, "profiles": list(profiles)}
    (home / ".hcloud" / "config.json").write_text(json.dumps(document), encoding="utf-8")


def parts(name: str) -> tuple[str, str, str]:
    return f"AK{name}", f"SK-{name}", f"token-{name}"


def put(name: str, home: Path, given_parts: tuple[bool, bool, bool]) -> dict[str, str]:
    """Fill a source with some of its three parts; what must be in the environment for it."""
    values = [value if there else "" for value, there in zip(parts(name), given_parts, strict=True)]
    if name in VARIABLES:
        return {variable: value for variable, value in zip(VARIABLES[name], values, strict=True) if value}
    if name == "sdkfile":
        options = zip(("ak", "sk", "security_token"), values, strict=True)
        write_sdk_file(home, "[basic]\n" + "".join(f"{option} = {value}\n" for option, value in options if value))
    else:
        fields = dict(zip(("accessKeyId", "secretAccessKey", "securityToken"), values, strict=True))
        write_koocli_file(home, {"name": "default", "mode": "AKSK", **fields})
    return {}


@pytest.mark.parametrize("first", range(len(ORDER) + 1))
def test_the_first_source_wins(first: int, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    for name in ORDER[first:]:
        environ |= put(name, tmp_path, (True, True, False))
    found = find_credentials(environ)
    if first == len(ORDER):
        assert isinstance(found, AgencyCredentials)
        assert found.looked == tuple(source.name for source in sources(environ))
        assert len(found.looked) == len(ORDER)
    else:
        assert isinstance(found, KeyCredentials)
        assert (found.access_key, found.secret_key.reveal(), found.security_token) == (*parts(ORDER[first])[:2], None)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=len(ORDER), max_size=len(ORDER)))
def test_sources_never_mix(tmp_path_factory: pytest.TempPathFactory, filled: list[tuple[bool, bool, bool]]) -> None:
    home = tmp_path_factory.mktemp("home")
    environ = {"HOME": str(home)}
    for name, there in zip(ORDER, filled, strict=True):
        environ |= put(name, home, there)
    first = next((index for index, there in enumerate(filled) if any(there)), None)
    if first is None:
        assert isinstance(find_credentials(environ), AgencyCredentials)
    elif not (filled[first][0] and filled[first][1]):
        with pytest.raises(UsageError) as caught:
            find_credentials(environ)
        said = caught.value.summary + caught.value.hint
        assert not [value for name in ORDER for value in parts(name)[1:] if value in said]
    else:
        found = find_credentials(environ)
        assert isinstance(found, KeyCredentials)
        expected = parts(ORDER[first])
        assert (found.access_key, found.secret_key.reveal()) == expected[:2]
        token = found.security_token.reveal() if found.security_token else None
        assert token == (expected[2] if filled[first][2] else None)


def test_what_is_asked_for_by_name_comes_before_what_lies_there(tmp_path: Path) -> None:
    put("sdkfile", tmp_path, (True, True, False))
    write_koocli_file(
        tmp_path,
        {"name": "default", "accessKeyId": "AKDEFAULT", "secretAccessKey": "s"},
        {"name": "ops", "accessKeyId": "AKOPS", "secretAccessKey": "s"},
    )
    other = tmp_path / "other.json"
    other.write_text(
        json.dumps({"current": "x", "profiles": [{"name": "x", "accessKeyId": "AKX", "secretAccessKey": "s"}]})
    )
    home = {"HOME": str(tmp_path)}
    expected: dict[str, dict[str, str]] = {
        "AKsdkfile": {},
        "AKOPS": {"HW_PROFILE": "ops"},
        "AKDEFAULT": {"HW_PROFILE": "ops", "IMGCTL_PROFILE": "default"},
        "AKX": {"HW_SHARED_CONFIG_FILE": "~/other.json"},
        # Variables with keys come before a profile that the same family's variable asks for.
        "AKHW": {"HW_PROFILE": "ops", **put("HW", tmp_path, (True, True, False))},
    }
    for access_key, environ in expected.items():
        found = find_credentials(home | environ)
        assert isinstance(found, KeyCredentials)
        assert found.access_key == access_key


@pytest.mark.parametrize(
    ("asking", "later"),
    [
        ({"IMGCTL_PROFILE": "ops"}, ["HW", "SDK", "sdkfile"]),
        ({"HW_PROFILE": "ops"}, ["SDK", "sdkfile"]),
        ({"HW_SHARED_CONFIG_FILE": "~/.hcloud/config.json"}, ["SDK", "sdkfile"]),
    ],
)
def test_a_profile_that_is_asked_for_comes_where_its_variable_does(
    asking: dict[str, str], later: list[str], tmp_path: Path
) -> None:
    """Keys that are exported for Terraform do not win over the profile that IMGCTL_PROFILE names for imgctl."""
    write_koocli_file(
        tmp_path, {"name": "ops", "accessKeyId": "AKOPS", "secretAccessKey": "s"}, {"name": "x"}, current="ops"
    )
    environ = {"HOME": str(tmp_path), **asking}
    for name in later:
        environ |= put(name, tmp_path, (True, True, False))
    found = find_credentials(environ)
    assert isinstance(found, KeyCredentials)
    assert found.access_key == "AKOPS"
    names = [source.name for source in sources(environ)]
    assert len(names) == len(set(names)) == 5


@pytest.mark.parametrize(
    ("variable", "before"),
    [
        ("HW_ASSUME_ROLE_AGENCY_NAME", "IMGCTL"),
        ("HW_ASSUME_ROLE_IDP_ID", "IMGCTL"),
        ("HUAWEICLOUD_SDK_IDP_ID", "HW"),
        ("HUAWEICLOUD_OIDC_PROVIDER_URN", "HW"),
    ],
)
def test_keys_are_not_used_where_another_identity_is_asked_for(variable: str, before: str, tmp_path: Path) -> None:
    """Terraform and the SDK would work as an agency, in its account; the keys alone are somebody else's."""
    environ = {"HOME": str(tmp_path), variable: "role-of-another-account"}
    for name in ORDER[ORDER.index(before) + 1 :]:
        environ |= put(name, tmp_path, (True, True, False))
    with pytest.raises(UsageError, match=f"{variable} asks for another identity") as caught:
        find_credentials(environ)
    assert "IMGCTL_ACCESS_KEY" in caught.value.hint
    # Keys of an earlier source are imgctl's own affair.
    found = find_credentials(environ | put(before, tmp_path, (True, True, False)))
    assert isinstance(found, KeyCredentials)
    assert found.access_key == f"AK{before}"


@pytest.mark.parametrize("home", ["", "relative/home"])
def test_without_a_home_there_are_no_files(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("sdkfile", tmp_path, (True, True, False))
    assert [source.name for source in sources({"HOME": home})] == [
        "IMGCTL_* variables",
        "HW_* variables",
        "HUAWEICLOUD_SDK_* variables",
    ]


def test_region_and_project_of_a_profile(tmp_path: Path) -> None:
    profile = {
        "name": "ops",
        "mode": "AKSK",
        "accessKeyId": "AK",
        "secretAccessKey": "s",
        "region": "cn-east-3",
        "projectId": PROJECT,
    }
    write_koocli_file(tmp_path, profile, current="ops")
    environ = {"HOME": str(tmp_path)}
    settings = resolve_settings(environ)
    place = "profile 'ops' of ~/.hcloud/config.json"
    assert (settings.region, settings.project) == (Given("cn-east-3", place), Given(PROJECT, place))
    # Everything that is said elsewhere wins.
    settings = resolve_settings(environ | {"HW_REGION_NAME": "cn-north-4", "HUAWEICLOUD_SDK_PROJECT_ID": "b" * 32})
    assert (settings.region.value, settings.project) == (
        "cn-north-4",
        Given("b" * 32, "HUAWEICLOUD_SDK_PROJECT_ID"),
    )
    # A project belongs to the account of its keys: with other keys it does not count.
    settings = resolve_settings(environ | put("HW", tmp_path, (True, True, False)))
    assert (settings.region.source, settings.project) == (place, None)


def test_a_profile_may_not_choose_what_a_workflow_pins(tmp_path: Path) -> None:
    profile = {"name": "ops", "accessKeyId": "AK", "secretAccessKey": "s", "region": "cn-east-3", "projectId": "b" * 32}
    write_koocli_file(tmp_path, profile, current="ops")
    settings = resolve_settings({"HOME": str(tmp_path), "IMGCTL_PROJECT_ID": PROJECT})
    assert settings.project == Given(PROJECT, "IMGCTL_PROJECT_ID")


def test_a_broken_profile_does_not_hide_that_the_region_is_missing(tmp_path: Path) -> None:
    (tmp_path / ".hcloud").mkdir()
    (tmp_path / ".hcloud" / "config.json").write_text("{")
    with pytest.raises(UsageError, match="no region given"):
        resolve_settings({"HOME": str(tmp_path)} | put("HW", tmp_path, (True, True, False)))


@pytest.mark.parametrize("project", ["x", "../../" + "a" * 26, "A" * 32])
def test_a_profiles_project_is_checked(project: str, tmp_path: Path) -> None:
    profile = {"name": "d", "accessKeyId": "AK", "secretAccessKey": "s", "region": "cn-east-3", "projectId": project}
    write_koocli_file(tmp_path, profile, current="d")
    with pytest.raises(UsageError, match="is not a project id"):
        resolve_settings({"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://iam.cn-north-4.myhuaweicloud.com", True),
        ("https://iam.eu-west-101.myhuaweicloud.eu", True),
        ("http://127.0.0.1:8080", True),
        ("https://127.0.0.1:8080", True),
        ("http://iam.cn-north-4.myhuaweicloud.com", False),
        ("https://iam.myhuaweicloud.com.evil.com", False),
        ("https://evil-myhuaweicloud.com", False),
        ("https://myhuaweicloud.com", False),
        ("https://iam.myhuaweicloud.com@evil.com", False),
        ("https://evil.com/.myhuaweicloud.com", False),
        ("http://169.254.169.254", False),
        ("https://hunter2:hunter2@iam.myhuaweicloud.com", False),
        ("iam.myhuaweicloud.com", False),
    ],
)
def test_a_profile_names_hosts_of_huawei_cloud_only(url: str, good: bool, tmp_path: Path) -> None:
    write_sdk_file(tmp_path, f"[basic]\nak = AK\nsk = SK\niam_endpoint = {url}\n")
    environ = {"HOME": str(tmp_path), "HW_REGION_NAME": "cn-north-4"}
    if good:
        endpoints = resolve_settings(environ).endpoints
        assert endpoints.iam == url
        assert endpoints.overridden == {Service.IAM: "iam_endpoint in ~/.huaweicloud/credentials [basic]"}
        assert endpoints.ims == "https://ims.cn-north-4.myhuaweicloud.com"
    else:
        with pytest.raises(UsageError) as caught:
            resolve_settings(environ)
        assert "iam_endpoint in ~/.huaweicloud/credentials" in caught.value.summary
        assert "hunter2" not in caught.value.summary + caught.value.hint
    # A variable wins, and then nobody looks at what the file says.
    settings = resolve_settings(environ | {"IMGCTL_ENDPOINT_IAM": "https://iam.example.com"})
    assert settings.endpoints.iam == "https://iam.example.com"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://169.254.169.254", True),
        ("http://169.254.169.254:80", True),
        ("http://127.0.0.1:9000", True),
        ("http://169.254.169.254:8080", False),
        ("https://169.254.169.254", False),
        ("https://metadata.example.com", False),
        ("https://10.0.0.1", False),
    ],
)
def test_the_metadata_service_is_at_one_address(url: str, good: bool) -> None:
    environ = {"HW_REGION_NAME": "cn-north-4", "IMGCTL_ENDPOINT_METADATA": url}
    if good:
        assert resolve_settings(environ).endpoints.metadata == url
    else:
        with pytest.raises(UsageError, match="IMGCTL_ENDPOINT_METADATA"):
            resolve_settings(environ)


def test_one_endpoint_for_all_does_not_move_the_metadata_service() -> None:
    environ = {"HW_REGION_NAME": "cn-north-4", "IMGCTL_ENDPOINT": "https://proxy.example.com"}
    assert resolve_settings(environ).endpoints.metadata == "http://169.254.169.254"


def test_the_agency_of_a_profile_is_no_last_resort(tmp_path: Path) -> None:
    write_koocli_file(tmp_path, {"name": "ecs", "mode": "ecsAgency", "region": "cn-east-3"}, current="ecs")
    found = search({"HOME": str(tmp_path)})
    assert isinstance(found.credentials, AgencyCredentials)
    assert found.credentials.looked == ()
    assert "profile 'ecs'" in found.credentials.source
