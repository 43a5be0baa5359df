"""Who we are to the cloud, found in the environment.

A source is one set of variables that belong together. Sources are tried in order and the first that gives anything
decides: a key of one and a secret of another never mix, and half a source is an error rather than a reason to look
further.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.errors import UsageError

# What a header can carry. A stray newline from a CI secret is the usual offender.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class Secret:
    """A text that shows in no repr, message or log; `reveal` gives it to the code that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class TokenCredentials:
    """A token that somebody else obtained. `source` says in words where it was found."""

    token: Secret
    source: str

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        return f"check {self.source}: a token lives for 24 hours, and one of a regional IAM is good for its region only"


@dataclass(frozen=True, slots=True)
class KeyCredentials:
    """An access key; with `security_token` a temporary one."""

    access_key: str
    secret_key: Secret
    source: str
    security_token: Secret | None = None

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        expiry = "; a temporary key may have expired" if self.security_token else ""
        return f"check {self.source}{expiry}; more than five failures in a row lock an access key for five minutes"


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """An IAM user. Given are `user_id`, or `user_name` with `domain_name` or `domain_id`."""

    password: Secret
    source: str
    user_name: str = ""
    user_id: str = ""
    domain_name: str = ""
    domain_id: str = ""

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        return (
            f"check {self.source}; a HUAWEI ID cannot be used, an IAM user can; "
            "repeated wrong passwords lock the account, so the request is not repeated"
        )


Credentials = TokenCredentials | KeyCredentials | PasswordCredentials


@dataclass(frozen=True, slots=True)
class _Variables:
    """One family of variables, and how it is looked through: a token first, then keys, then a password (facts 4.1)."""

    access_key: str
    secret_key: str
    security_token: str
    prefix: str = ""
    methods: tuple[str, ...] = field(default=())

    def find(self, environ: Mapping[str, str]) -> Credentials | None:
        if self.prefix:
            return self._token(environ) or self._keys(environ) or self._password(environ)
        return self._keys(environ)

    def _token(self, environ: Mapping[str, str]) -> Credentials | None:
        name = f"{self.prefix}AUTH_TOKEN"
        if not environ.get(name):
            return None
        return TokenCredentials(Secret(_header_safe(environ, name)), name)

    def _keys(self, environ: Mapping[str, str]) -> Credentials | None:
        names = (self.access_key, self.secret_key, self.security_token)
        given = [name for name in names if environ.get(name)]
        if not given:
            return None
        for name in names[:2]:
            if name not in given:
                raise UsageError(f"{given[0]} is set, {name} is not", hint=f"set {name}, or unset {given[0]}")
        security_token = Secret(_header_safe(environ, names[2])) if names[2] in given else None
        return KeyCredentials(
            _header_safe(environ, names[0]), Secret(_header_safe(environ, names[1])), _in_words(given), security_token
        )

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
        return PasswordCredentials(
            password=Secret(environ[password]),
            source=_in_words(given),
            user_name=environ.get(user_name, ""),
            user_id=environ.get(user_id, ""),
            domain_name=environ.get(domain_name, ""),
            domain_id=environ.get(domain_id, ""),
        )


def _header_safe(environ: Mapping[str, str], name: str) -> str:
    if not _HEADER_SAFE.fullmatch(environ[name]):
        raise UsageError(
            f"{name} holds a blank, a line break or a character outside ASCII",
            hint="a secret pasted with its line break looks like this; store it again without",
        )
    return environ[name]


def _in_words(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# In the order of the search. A profile file or the metadata service would join at the end.
_SOURCES: tuple[Callable[[Mapping[str, str]], Credentials | None], ...] = (
    _Variables("IMGCTL_ACCESS_KEY", "IMGCTL_SECRET_KEY", "IMGCTL_SECURITY_TOKEN", "IMGCTL_").find,
    _Variables("HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN", "HW_").find,
    _Variables("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN").find,
)


def find_credentials(environ: Mapping[str, str]) -> Credentials:
    """The first source's credentials. An empty variable counts as unset.

    Raises UsageError where a source is half given, and where nothing is.
    """
    for find in _SOURCES:
        found = find(environ)
        if found is not None:
            return found
    raise UsageError(
        "no credentials found",
        hint="set HW_ACCESS_KEY and HW_SECRET_KEY (with HW_SECURITY_TOKEN for a temporary key), "
        "or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or HW_AUTH_TOKEN, "
        "or HW_USER_NAME, HW_USER_PASSWORD and HW_DOMAIN_NAME; names with IMGCTL_ instead of HW_ win over both",
    )
