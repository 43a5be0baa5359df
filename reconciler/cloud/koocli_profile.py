"""KooCLI's configuration file: JSON with named profiles, which other tools share with it (facts 4.1, 4.4).

KooCLI encrypts the keys in it unless it is told not to, with a key of its own: nobody else can read those.
"""

from __future__ import annotations

import json
import re
from typing import Any

from reconciler.cloud.answers import parse_time
from reconciler.cloud.credentials import Secret
from reconciler.cloud.profiles import Profile
from reconciler.errors import UsageError

# An access key's id has 20 letters and digits, its secret 40 characters. What is much longer was encrypted.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_LONGEST_SECRET_KEY = 64
_UNENCRYPTED = "hcloud configure set --cli-auth-encrypt=false"
_MODES = ("AKSK", "SSO", "ecsAgency")


def parse(content: bytes, name: str, wanted: tuple[str, str] | None) -> Profile | None:
    """The wanted profile, or the one that is `current`; None in a file without profiles.

    `wanted` is the variable that asks for a profile, and the profile's name. Raises UsageError for a file that is no
    such one, and where the profile is not in it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _unusable(name, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _unusable(name, "it is no JSON object")
    profiles = document.get("profiles") or []
    if not isinstance(profiles, list) or not all(isinstance(each, dict) for each in profiles):
        raise _unusable(name, "`profiles` is no list of objects")
    if not profiles and wanted is None:
        return None
    chosen = wanted[1] if wanted else document.get("current")
    found = next((each for each in profiles if chosen and each.get("name") == chosen), None)
    if found is None:
        raise _missing(name, profiles, wanted)
    return _Reader(found, f"profile {_shown(chosen)} of {name}").profile()


class _Reader:
    """One profile's object."""

    def __init__(self, values: dict[str, Any], place: str) -> None:
        self._values = values
        self._place = place

    def profile(self) -> Profile:
        mode = self._text("mode") or _MODES[0]
        keys: dict[str, Any] = self._values
        refused = None
        if mode.lower() == "sso":
            keys = self._object(self._object(self._values, "ssoAuth"), "stsToken")
            if not keys.get("accessKeyId"):
                refused = self._refused("has no keys of a single sign-on yet", "sign in: hcloud configure sso")
        elif mode.lower() not in ("aksk", "ecsagency"):
            refused = self._refused("has a mode that imgctl does not know", f"the known ones are {', '.join(_MODES)}")
        if any(self._text(part) for part in ("agencyName", "agencyDomainName", "agencyDomainId")):
            refused = self._refused(
                "asks for another account's agency, which imgctl does not do: its keys alone would be somebody else's",
                "obtain temporary keys of the agency, and set HW_ACCESS_KEY, HW_SECRET_KEY and HW_SECURITY_TOKEN",
            )
        access_key, secret_key = self._text("accessKeyId", keys), self._text("secretAccessKey", keys)
        agency = mode.lower() == "ecsagency"
        if refused is None and not agency and _is_encrypted(access_key, secret_key):
            refused = self._refused(
                "holds keys that cannot be keys: KooCLI encrypts them unless it is told not to",
                f"run {_UNENCRYPTED}, then set the keys again; or set HW_ACCESS_KEY and HW_SECRET_KEY",
            )
        return Profile(
            place=self._place,
            name=self._text("name"),
            access_key=access_key,
            secret_key=Secret(secret_key),
            security_token=Secret(self._text("securityToken", keys)),
            expires_at=parse_time(keys.get("expiresAt")),
            agency=agency,
            region=self._text("region"),
            project_id=self._text("projectId"),
            refused=refused,
        )

    def _text(self, field: str, values: dict[str, Any] | None = None) -> str:
        value = (self._values if values is None else values).get(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._refused(f"is unusable: {field} is no text", "hcloud configure test checks the file")
        return value.strip() if field != "name" else value

    def _object(self, values: dict[str, Any], field: str) -> dict[str, Any]:
        value = values.get(field)
        return value if isinstance(value, dict) else {}

    def _refused(self, why: str, hint: str) -> UsageError:
        return UsageError(f"{self._place} {why}", hint=hint)


def _is_encrypted(access_key: str, secret_key: str) -> bool:
    odd = bool(access_key) and not _ACCESS_KEY.fullmatch(access_key)
    return odd or len(secret_key) > _LONGEST_SECRET_KEY


def _shown(name: object) -> str:
    return repr(name[:64]) if isinstance(name, str) else "?"


def _missing(name: str, profiles: list[dict[str, Any]], wanted: tuple[str, str] | None) -> UsageError:
    names = [each["name"] for each in profiles if isinstance(each.get("name"), str)]
    known = f"it has {', '.join(_shown(each) for each in names[:10])}" if names else "it has none"
    if wanted is not None:
        return UsageError(f"{wanted[0]} asks for profile {_shown(wanted[1])}, which is not in {name}", hint=known)
    return UsageError(f"{name} names no profile as its current one", hint=f"choose one with IMGCTL_PROFILE: {known}")


def _unusable(name: str, why: str) -> UsageError:
    return UsageError(f"{name} is not what KooCLI writes: {why}", hint="hcloud configure test checks it")
