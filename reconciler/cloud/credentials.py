"""What we may have to prove who we are: the kinds of credentials. Where they are found: `sources`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.errors import UsageError

# What a header can carry. A stray newline from a CI secret is the usual offender.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")
# Control characters, and what an environment's bytes become that are no UTF-8.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Secret:
    """A text that shows in no repr, message or log; `reveal` gives it to the code that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True)
class TokenCredentials:
    """A token that somebody else obtained. `source` says in words where it was found."""

    token: Secret
    source: str

    @property
    def kind(self) -> str:
        """What it is, in words that may be shown."""
        return "a token"

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        return f"check {self.source}: a token lives for 24 hours, and one of a regional IAM is good for its region only"


@dataclass(frozen=True, slots=True)
class KeyCredentials:
    """An access key; with `security_token` a temporary one, which ends at `expires_at` where that is known.

    `read_again` looks once more where the key was found, for who can: a file may hold a newer one by now. It raises
    UsageError where there is none any more.
    """

    access_key: str
    secret_key: Secret
    source: str
    security_token: Secret | None = None
    # The same key with another end is the same key.
    expires_at: datetime | None = field(default=None, compare=False)
    read_again: Callable[[], KeyCredentials] | None = field(default=None, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """What it is, in words that may be shown: of the key's id the beginning only."""
        lasting = "temporary" if self.security_token else "permanent"
        return f"{lasting} access key {abbreviated(self.access_key)}"

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        lock = "more than five failures in a row lock an access key for five minutes"
        if not self.security_token:
            return f"check {self.source}; {lock}"
        if self.read_again is not None:
            return (
                f"check {self.source}; the temporary key there may have expired: renew it, and imgctl reads it again; "
                f"{lock}"
            )
        return (
            f"check {self.source}; a temporary key may have expired, and one that a variable holds cannot be renewed: "
            f"set a new one, or let imgctl find it in a profile file or on an ECS instance with an agency; {lock}"
        )


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
    def kind(self) -> str:
        """What it is, in words that may be shown."""
        return "an IAM user and its password"

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        return (
            f"check {self.source}; a HUAWEI ID cannot be used, an IAM user can; "
            "repeated wrong passwords lock the account, so the request is not repeated"
        )


@dataclass(frozen=True, slots=True)
class AgencyCredentials:
    """Temporary keys of the agency that an ECS instance has, from its metadata service.

    `looked` says what was looked at before, in words; empty where a profile asks for the agency by name.
    """

    source: str = "the ECS metadata service"
    looked: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it is, in words that may be shown."""
        return "temporary keys of this ECS instance's agency"

    @property
    def advice(self) -> str:
        """What to check when the cloud does not accept it."""
        return f"the keys came from {self.source}: check this ECS instance's agency and its permissions"


Credentials = TokenCredentials | KeyCredentials | PasswordCredentials | AgencyCredentials


def abbreviated(access_key: str) -> str:
    """The beginning of an access key's id: enough to tell two apart, too little to be of use."""
    return f"{access_key[: min(4, len(access_key) // 3)]}…"


def header_safe(value: str, name: str) -> str:
    """The value, fit for a header. `name` says where it was found, for the UsageError, which never shows the value."""
    if not _HEADER_SAFE.fullmatch(value):
        raise UsageError(
            f"{name} holds a blank, a line break or a character outside ASCII",
            hint="a secret pasted with its line break looks like this; store it again without",
        )
    return value


def text_safe(value: str, name: str) -> str:
    """The value, fit for a request's body, with blanks and letters of every script. Raises UsageError."""
    if _NO_TEXT.search(value):
        raise UsageError(
            f"{name} holds a line break, a control character or bytes that are no UTF-8",
            hint="a secret pasted with its line break looks like this; store it again without",
        )
    return value


def in_words(names: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
