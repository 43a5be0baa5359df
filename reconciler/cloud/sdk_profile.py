"""The official SDK's profile file: INI, of which the section [basic] counts (facts 4.2)."""

from __future__ import annotations

import configparser

from reconciler.cloud.credentials import Secret
from reconciler.cloud.profiles import Profile
from reconciler.errors import UsageError

SECTION = "basic"


def parse(content: bytes, name: str) -> Profile | None:
    """The profile in a file; None without a section [basic]. Raises UsageError for a file that is no such one."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(content.decode("utf-8-sig"))
        section = dict(parser.items(SECTION)) if parser.has_section(SECTION) else None
    except configparser.Error as error:
        # Its text quotes the line, which may be the one with the secret.
        raise _unusable(name, _line(error)) from None
    except (ValueError, AttributeError, TypeError, IndexError, KeyError):
        raise _unusable(name, None) from None
    if section is None:
        return None
    place = f"{name} [{SECTION}]"

    def text(option: str) -> str:
        return (section.get(option) or "").strip()

    refused = None
    if text("idp_id") and text("id_token_file"):
        # The SDK takes these before a key.
        refused = UsageError(
            f"{place} asks for federated sign-in (idp_id, id_token_file), which imgctl does not do",
            hint="give it ak and sk instead, with security_token for a temporary key",
        )
    return Profile(
        place=place,
        access_key=text("ak"),
        secret_key=Secret(text("sk")),
        security_token=Secret(text("security_token")),
        project_id=text("project_id"),
        iam_endpoint=text("iam_endpoint"),
        refused=refused,
    )


def _line(error: configparser.Error) -> int | None:
    """The line that the error is about, which only some of these errors have, each in its own way."""
    listed = getattr(error, "errors", None)
    number = listed[0][0] if listed else getattr(error, "lineno", None)
    return number if isinstance(number, int) else None


def _unusable(name: str, line: int | None) -> UsageError:
    where = f" line {line}" if line is not None else ""
    return UsageError(
        f"{name}{where} is not what the SDK's profile file looks like",
        hint=f"it is an INI file in UTF-8: the line [{SECTION}], then ak = …, sk = …; security_token, project_id and "
        "iam_endpoint may follow",
    )
