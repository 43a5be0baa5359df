"""Profile files: what is in them, and everything that should not be."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cloud import profiles
from reconciler.cloud.credentials import AgencyCredentials, KeyCredentials
from reconciler.cloud.koocli_profile import parse as parse_koocli
from reconciler.cloud.profiles import Profile, profile_files
from reconciler.cloud.sdk_profile import parse as parse_sdk
from reconciler.cloud.sources import find_credentials
from reconciler.errors import UsageError
from tests.cloud.test_sources import write_koocli_file, write_sdk_file

SECRET = "hunter2-very-secret"
# As KooCLI leaves them: much longer than a key, and of other characters.
ENCRYPTED = "U2FsdGVkX1" + "9pC5b+QmFzZTY0/" * 6


def keys_of(content: str | bytes, *, koocli: bool = False, wanted: tuple[str, str] | None = None) -> KeyCredentials:
    data = content.encode() if isinstance(content, str) else content
    profile = parse_koocli(data, "file", wanted) if koocli else parse_sdk(data, "file")
    assert profile is not None
    found = profile.credentials()
    assert isinstance(found, KeyCredentials)
    return found


def koocli(*entries: dict[str, object], current: object = "p") -> str:
    return json.dumps({"current": current, "profiles": list(entries)})


def entry(**fields: object) -> dict[str, object]:
    return {"name": "p", "mode": "AKSK", "accessKeyId": "AK", "secretAccessKey": SECRET} | fields


# --- The SDK's file


@pytest.mark.parametrize(
    "text",
    [
        "[basic]\nak = AK\nsk = SK\n",
        "\ufeff[basic]\r\nAK=AK\r\nsk: SK\r\n",
        "# mine\n[global]\nak = other\nsk = other\n\n[basic]\nak=AK\nsk=SK\n",
        "[basic]\nak = AK\nsk = SK\nunknown = %(interpolation)s %\n",
    ],
)
def test_the_sdks_file(text: str) -> None:
    found = keys_of(text)
    assert (found.access_key, found.secret_key.reveal(), found.security_token) == ("AK", "SK", None)
    assert found.source == "file [basic]"


def test_every_option_of_the_sdks_file() -> None:
    text = "[basic]\nak = AK\nsk = SK\nsecurity_token = STS\nproject_id = p\niam_endpoint = https://x\n"
    profile = parse_sdk(text.encode(), "file")
    assert profile is not None
    assert (profile.project_id, profile.iam_endpoint, profile.security_token.reveal()) == ("p", "https://x", "STS")


@pytest.mark.parametrize("text", ["", "[global]\nak = a\nsk = b\n", "[basic]\n", "[basic]\nproject_id = p\n"])
def test_a_file_without_keys_is_no_source(text: str) -> None:
    profile = parse_sdk(text.encode(), "file")
    assert profile is None or profile.credentials() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"sk = {SECRET}\n", "file line 1"),
        (f"[basic]\nak = AK\n{SECRET}\n", "file line 3"),
        (f"[basic]\nak = AK\nsk = {SECRET}\nsk = {SECRET}\n", "file line 4"),
        (f"[basic]\nak = AK\nsk = {SECRET}\n[basic]\n", "file line 4"),
        (f"[basic\nak = {SECRET}", "file line 1"),
        (f"[basic]\nak = AK\nsk = {SECRET} {SECRET}\n", "the secret key in file [basic]"),
        (f"[basic]\nsk = {SECRET}\n", "has no access key"),
        (f"[basic]\nak = {SECRET}\n", "has no secret key"),
        (f"[basic]\nsecurity_token = {SECRET}\n", "has no access key"),
        (f"[basic]\nidp_id = x\nid_token_file = {SECRET}\nak = AK\nsk = {SECRET}\n", "federated sign-in"),
    ],
)
def test_bad_sdk_files_are_told_without_their_content(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        keys_of(text)
    assert words in caught.value.summary
    assert SECRET not in caught.value.summary + caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_not_utf8() -> None:
    with pytest.raises(UsageError, match="not what the SDK's profile file looks like"):
        parse_sdk(b"[basic]\nak = \xff\xfe\n", "file")


# --- KooCLI's file


def test_the_current_profile_and_a_wanted_one() -> None:
    text = koocli(entry(), entry(name="q", accessKeyId="AKQ"))
    assert keys_of(text, koocli=True).access_key == "AK"
    assert keys_of(text, koocli=True, wanted=("HW_PROFILE", "q")).access_key == "AKQ"


def test_single_sign_on() -> None:
    token = {
        "accessKeyId": "AKSSO",
        "secretAccessKey": SECRET,
        "securityToken": "STS",
        "expiresAt": "2026-11-08 00:52:50",
    }
    text = koocli(entry(mode="SSO", accessKeyId="", secretAccessKey="", ssoAuth={"stsToken": token}))
    found = keys_of(text, koocli=True)
    assert (found.access_key, found.expires_at) == ("AKSSO", datetime(2026, 11, 8, 0, 52, 50, tzinfo=UTC))
    assert found.security_token is not None


def test_the_agency_of_this_instance() -> None:
    profile = parse_koocli(koocli(entry(mode="ecsAgency")).encode(), "file", None)
    assert profile is not None
    assert isinstance(profile.credentials(), AgencyCredentials)


@pytest.mark.parametrize("text", ["{}", '{"profiles": []}', '{"profiles": null, "current": "x"}'])
def test_a_file_without_profiles_is_no_source(text: str) -> None:
    assert parse_koocli(text.encode(), "file", None) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not what KooCLI writes: it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is no JSON object"),
        ('{"profiles": {}, "x": 1}', None),
        ('{"profiles": "x"}', "`profiles` is no list"),
        ('{"profiles": [1]}', "`profiles` is no list"),
        (koocli(entry(), current=""), "names no profile as its current one"),
        (koocli(entry(), current="gone"), "names no profile as its current one"),
        (koocli(entry(), current=["p"]), "names no profile as its current one"),
        (koocli(entry(accessKeyId=[SECRET])), "accessKeyId is no text"),
        (koocli(entry(secretAccessKey="")), "has no secret key"),
        (koocli(entry(accessKeyId="")), "has no access key"),
        (koocli(entry(mode="token")), "has a mode that imgctl does not know"),
        (koocli(entry(mode="SSO")), "has no keys of a single sign-on yet"),
        (koocli(entry(mode="SSO", ssoAuth={"stsToken": SECRET})), "has no keys of a single sign-on yet"),
        (koocli(entry(agencyName="other", agencyDomainName="x")), "another account's agency"),
        (koocli(entry(accessKeyId=ENCRYPTED, secretAccessKey=ENCRYPTED + SECRET)), "keys that cannot be keys"),
        (koocli(entry(secretAccessKey=ENCRYPTED + SECRET)), "keys that cannot be keys"),
    ],
)
def test_bad_koocli_files_are_told_without_their_content(text: str, words: str | None) -> None:
    if words is None:
        assert parse_koocli(text.encode(), "file", None) is None
        return
    with pytest.raises(UsageError) as caught:
        keys_of(text, koocli=True)
    said = caught.value.summary + caught.value.hint
    assert words in said
    assert SECRET not in said
    assert ENCRYPTED not in said


def test_encrypted_keys_name_the_command_that_writes_them_plainly() -> None:
    with pytest.raises(UsageError) as caught:
        keys_of(koocli(entry(accessKeyId=ENCRYPTED)), koocli=True)
    assert "hcloud configure set --cli-auth-encrypt=false" in caught.value.hint


def test_a_wanted_profile_that_is_not_there_lists_the_others() -> None:
    text = koocli(entry(), entry(name="q\x1b[31m"))
    with pytest.raises(UsageError) as caught:
        keys_of(text, koocli=True, wanted=("IMGCTL_PROFILE", "r"))
    assert "IMGCTL_PROFILE asks for profile 'r'" in caught.value.summary
    assert "'p', 'q\\x1b[31m'" in caught.value.hint


# --- Whatever is in them

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["name", "mode", "accessKeyId", "secretAccessKey", "securityToken", "region", "projectId", "ssoAuth", "agencyName"]
)
PROFILES = st.dictionaries(FIELDS, JSON_VALUES | st.sampled_from(["p", "SSO", "AKSK", "ecsAgency", {"stsToken": {}}]))


def harmless(parse: object) -> None:
    """Parsing gives a profile, nothing, or a UsageError."""
    try:
        profile = parse()  # type: ignore[operator]
        if isinstance(profile, Profile):
            profile.credentials()
    except UsageError:
        pass


@given(st.binary(max_size=300))
def test_any_bytes_are_harmless(content: bytes) -> None:
    harmless(lambda: parse_sdk(content, "file"))
    harmless(lambda: parse_sdk(b"[basic]\n" + content, "file"))
    harmless(lambda: parse_koocli(content, "file", None))


@given(st.text(alphabet="[]basic=:;#%\n\r\t \\aksk\x00é\u2028", max_size=80))
def test_anything_like_an_ini_file_is_harmless(text: str) -> None:
    harmless(lambda: parse_sdk(text.encode(), "file"))
    harmless(lambda: parse_sdk(f"[basic]\nak = AK\n{text}".encode(), "file"))


@given(
    st.lists(PROFILES, max_size=3), JSON_VALUES | st.just("p"), st.none() | st.tuples(st.just("HW_PROFILE"), st.text())
)
def test_anything_like_a_koocli_file_is_harmless(
    entries: list[dict[str, object]], current: object, wanted: tuple[str, str] | None
) -> None:
    content = json.dumps({"current": current, "profiles": entries}).encode()
    harmless(lambda: parse_koocli(content, "file", wanted))


@given(
    # No word of a message is that long.
    st.text(min_size=16, max_size=30, alphabet="abcdefghijkmnopqrstuvwxyz"),
    st.sampled_from(["sk", "ak", "security_token"]),
)
def test_no_value_shows_in_a_message(secret: str, option: str) -> None:
    for text in (f"[basic]\n{option} = {secret}\n", f"{option} = {secret}\n[basic]", f"[basic]\n{option} {secret}\n"):
        with pytest.raises(UsageError) as caught:
            keys_of(text)
        assert secret not in f"{caught.value.summary} {caught.value.hint} {caught.value!r}"


# --- The file itself


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".huaweicloud").mkdir()
    path = tmp_path / ".huaweicloud" / "credentials"
    path.mkdir()
    with pytest.raises(UsageError, match="is not a regular file"):
        find_credentials({"HOME": str(tmp_path)})
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is not a regular file"):
        find_credentials({"HOME": str(tmp_path)})


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    write_sdk_file(tmp_path, "[basic]\n" + "#" * (profiles.LARGEST_FILE + 1))
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        find_credentials({"HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="is not a regular file"):
        find_credentials({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "/dev/zero"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_sdk_file(tmp_path, "[basic]\n")
    (tmp_path / ".huaweicloud" / "credentials").chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        find_credentials({"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "/nowhere/x"}, "HUAWEICLOUD_SDK_CREDENTIALS_FILE asks for it"),
        ({"HW_SHARED_CONFIG_FILE": "/nowhere/x"}, "HW_SHARED_CONFIG_FILE asks for it"),
        ({"HW_PROFILE": "ops"}, "HW_PROFILE asks for it"),
        ({"IMGCTL_PROFILE": "ops"}, "IMGCTL_PROFILE asks for it"),
        ({"HW_SHARED_CONFIG_FILE": "a\0b"}, "cannot be read"),
    ],
)
def test_what_is_asked_for_must_be_there(environ: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_credentials({"HOME": str(tmp_path)} | environ)
    assert words in caught.value.summary


def test_who_else_may_read_the_file(tmp_path: Path) -> None:
    write_sdk_file(tmp_path, "[basic]\nak = AK\nsk = SK\n")
    write_koocli_file(tmp_path, entry(), current="p")
    for mode, exposed in ((0o600, False), (0o640, True), (0o604, True), (0o400, False)):
        for path in (tmp_path / ".huaweicloud" / "credentials", tmp_path / ".hcloud" / "config.json"):
            path.chmod(mode)
        loaded = [file.load("") for file in profile_files({"HOME": str(tmp_path)})]
        assert [profile is not None and profile.exposed for profile in loaded] == [exposed, exposed]


def test_a_link_to_a_file_elsewhere_is_followed(tmp_path: Path) -> None:
    """As dotfile managers make them."""
    real = tmp_path / "dotfiles"
    real.write_text("[basic]\nak = AK\nsk = SK\n")
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "credentials").symlink_to(real)
    assert isinstance(find_credentials({"HOME": str(tmp_path)}), KeyCredentials)


def test_read_again_is_the_same_profile_whichever_is_current_by_then(tmp_path: Path) -> None:
    write_koocli_file(tmp_path, entry(), entry(name="q", accessKeyId="AKQ"), current="p")
    found = find_credentials({"HOME": str(tmp_path)})
    assert isinstance(found, KeyCredentials)
    assert found.read_again is not None
    write_koocli_file(tmp_path, entry(accessKeyId="AKNEW"), entry(name="q", accessKeyId="AKQ"), current="q")
    again = found.read_again()
    assert again.access_key == "AKNEW"
    assert again.read_again is not None
    write_koocli_file(tmp_path, entry(name="q", accessKeyId="AKQ"), current="q")
    with pytest.raises(UsageError):
        again.read_again()
