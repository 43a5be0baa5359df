"""Credentials in the environment: families of variables that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.cloud.credentials import (
    Credentials,
    KeyCredentials,
    PasswordCredentials,
    Secret,
    TokenCredentials,
    header_safe,
    in_words,
    text_safe,
)
from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Family:
    """One family of variables, and how it is looked through: a token first, then keys, then a password (facts 4.1).

    Without a `prefix` it has keys only. `not_supported` are variables with which the family's own tools do not work as
    whom the keys belong to: without them imgctl would work as somebody else, in another account maybe.
    """

    access_key: str
    secret_key: str
    security_token: str
    prefix: str = ""
    not_supported: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """What the names of all its variables begin with."""
        return self.prefix or self.access_key.removesuffix("AK")

    @property
    def name(self) -> str:
        """The family in words."""
        return f"{self.named}* variables"

    def find(self, environ: Mapping[str, str]) -> Credentials | None:
        """What the family holds, None where it holds nothing. Raises UsageError where it holds half of something."""
        if self.prefix:
            return self._token(environ) or self._keys(environ) or self._password(environ)
        return self._keys(environ)

    def _token(self, environ: Mapping[str, str]) -> Credentials | None:
        name = f"{self.prefix}AUTH_TOKEN"
        if not environ.get(name):
            return None
        return TokenCredentials(Secret(header_safe(environ[name], name)), name)

    def _keys(self, environ: Mapping[str, str]) -> Credentials | None:
        names = (self.access_key, self.secret_key, self.security_token)
        given = [name for name in names if environ.get(name)]
        if not given:
            return None
        for name in names[:2]:
            if name not in given:
                raise UsageError(f"{given[0]} is set, {name} is not", hint=f"set {name}, or unset {given[0]}")
        values = [header_safe(environ[name], name) for name in given]
        security_token = Secret(values[2]) if len(values) > 2 else None
        return KeyCredentials(values[0], Secret(values[1]), in_words(given), security_token)

    def _password(self, environ: Mapping[str, str]) -> Credentials | None:
        user_name, user_id, password, domain_name, domain_id = names = [
            self.prefix + name for name in ("USER_NAME", "USER_ID", "USER_PASSWORD", "DOMAIN_NAME", "DOMAIN_ID")
        ]
        given = [name for name in names if environ.get(name)]
        users = [name for name in (user_id, user_name) if name in given]
        # A domain alone says nothing: Terraform uses it beside access keys too.
        if not users and password not in given:
            return None
        if password not in given:
            raise UsageError(f"{users[0]} is set, {password} is not", hint=f"set {password}, or unset {users[0]}")
        if not users:
            raise UsageError(
                f"{password} is set, {user_name} and {user_id} are not", hint=f"set {user_name} or {user_id}"
            )
        if user_id not in given and domain_name not in given and domain_id not in given:
            raise UsageError(
                f"{user_name} is set, {domain_name} and {domain_id} are not",
                hint=f"set {domain_name}: the account that the user belongs to",
            )
        for name in given:
            text_safe(environ[name], name)
        return PasswordCredentials(
            password=Secret(environ[password]),
            source=in_words(given),
            user_name=environ.get(user_name, ""),
            user_id=environ.get(user_id, ""),
            domain_name=environ.get(domain_name, ""),
            domain_id=environ.get(domain_id, ""),
        )


# In the order of the search.
FAMILIES = (
    Family("IMGCTL_ACCESS_KEY", "IMGCTL_SECRET_KEY", "IMGCTL_SECURITY_TOKEN", "IMGCTL_"),
    Family(
        "HW_ACCESS_KEY",
        "HW_SECRET_KEY",
        "HW_SECURITY_TOKEN",
        "HW_",
        not_supported=("HW_ASSUME_ROLE_AGENCY_NAME", "HW_ASSUME_ROLE_IDP_ID"),
    ),
    Family(
        "HUAWEICLOUD_SDK_AK",
        "HUAWEICLOUD_SDK_SK",
        "HUAWEICLOUD_SDK_SECURITY_TOKEN",
        not_supported=("HUAWEICLOUD_OIDC_PROVIDER_URN", "HUAWEICLOUD_SDK_IDP_ID"),
    ),
)
