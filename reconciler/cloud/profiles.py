"""Profile files: the official SDK's `~/.huaweicloud/credentials` and KooCLI's `~/.hcloud/config.json` (facts 4).

They are other programs' files: whatever is in them leads to a profile or to a UsageError, and no value of theirs that
could be a secret ever shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from reconciler.cloud.credentials import AgencyCredentials, Credentials, KeyCredentials, Secret, header_safe
from reconciler.errors import UsageError

# Files of a few keys; KooCLI's hold dozens of profiles at most.
LARGEST_FILE = 1024 * 1024
SDK_FILE_VARIABLE = "HUAWEICLOUD_SDK_CREDENTIALS_FILE"
KOOCLI_FILE_VARIABLE = "HW_SHARED_CONFIG_FILE"
PROFILE_VARIABLES = ("IMGCTL_PROFILE", "HW_PROFILE")
_NOTHING = Secret("")


@dataclass(frozen=True, slots=True)
class Profile:
    """What one profile says; texts are empty where it says nothing. `place` names the profile in words, `name` is what
    it has in a file with several.

    `agency`: its keys are those of this ECS instance's agency. `refused`: why its keys cannot be used here. `exposed`:
    others than the owner may read its file.
    """

    place: str
    name: str = ""
    access_key: str = ""
    secret_key: Secret = _NOTHING
    security_token: Secret = _NOTHING
    expires_at: datetime | None = None
    agency: bool = False
    region: str = ""
    project_id: str = ""
    iam_endpoint: str = ""
    refused: UsageError | None = None
    exposed: bool = False

    def credentials(self, read_again: Callable[[], KeyCredentials] | None = None) -> Credentials | None:
        """Its credentials, None where it has none. Raises UsageError for half of them and for what cannot be used."""
        if self.refused is not None:
            raise self.refused
        if self.agency:
            return AgencyCredentials(f"the ECS metadata service, as {self.place} asks")
        named = {"access key": self.access_key, "secret key": self.secret_key.reveal()}
        token = self.security_token.reveal()
        if not token and not any(named.values()):
            return None
        for name, value in named.items():
            if not value:
                raise UsageError(
                    f"{self.place} has no {name}, but other parts of one", hint="complete it, or remove it"
                )
            header_safe(value, f"the {name} in {self.place}")
        if token:
            header_safe(token, f"the security token in {self.place}")
        return KeyCredentials(
            self.access_key,
            self.secret_key,
            self.place,
            self.security_token if token else None,
            self.expires_at,
            read_again,
        )


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A file that may hold a profile. `load` reads it anew; None where the file, or a profile in it, is not there.

    `load` takes the name of a profile, empty for the one that the environment or the file chooses. It raises
    UsageError where the file cannot be read or understood. `asked_by` is the variable that asks for the file or for a
    profile in it; empty where it merely lies there.
    """

    name: str
    load: Callable[[str], Profile | None]
    asked_by: str = ""

    def reader(self, profile: Profile) -> Callable[[], KeyCredentials]:
        """Gives the access key of the same profile as it is then. Raises UsageError where there is none any more.

        The same one, whichever the file calls its current one by then: another may be of another account.
        """

        def read_again() -> KeyCredentials:
            again = self.load(profile.name)
            found = again.credentials(read_again) if again is not None else None
            if not isinstance(found, KeyCredentials):
                raise UsageError(f"{profile.place} has no access key any more")
            return found

        return read_again


def profile_files(environ: Mapping[str, str]) -> list[ProfileFile]:
    """The files that there may be; what is asked for comes before what merely lies there, the SDK's before KooCLI's."""
    asking = next((name for name in (*PROFILE_VARIABLES, KOOCLI_FILE_VARIABLE) if environ.get(name)), "")
    koocli, sdk = _koocli_file(environ, asking), _sdk_file(environ)
    files = [koocli, sdk] if asking else [sdk, koocli]
    return [file for file in files if file is not None]


def _sdk_file(environ: Mapping[str, str]) -> ProfileFile | None:
    def load(_: str, path: Path, name: str, *, named: bool) -> Profile | None:
        from reconciler.cloud.sdk_profile import parse

        content, exposed = _read(path, name, SDK_FILE_VARIABLE if named else "")
        profile = parse(content, name) if content is not None else None
        return replace(profile, exposed=exposed) if profile is not None else None

    asking = SDK_FILE_VARIABLE if environ.get(SDK_FILE_VARIABLE) else ""
    return _file(environ, SDK_FILE_VARIABLE, (".huaweicloud", "credentials"), load, asking)


def _koocli_file(environ: Mapping[str, str], asking: str) -> ProfileFile | None:
    wanted = next(((name, environ[name]) for name in PROFILE_VARIABLES if environ.get(name)), None)

    def load(chosen: str, path: Path, name: str, *, named: bool) -> Profile | None:
        from reconciler.cloud.koocli_profile import parse

        variable = KOOCLI_FILE_VARIABLE if named else ""
        content, exposed = _read(path, name, variable or (wanted[0] if wanted else ""))
        asked = (wanted[0] if wanted else "imgctl", chosen) if chosen else wanted
        profile = parse(content, name, asked) if content is not None else None
        return replace(profile, exposed=exposed) if profile is not None else None

    return _file(environ, KOOCLI_FILE_VARIABLE, (".hcloud", "config.json"), load, asking)


def _file(
    environ: Mapping[str, str],
    variable: str,
    default: tuple[str, str],
    load: Callable[..., Profile | None],
    asking: str,
) -> ProfileFile | None:
    """The file that a variable names, or the one in the home folder; None where there is no home either."""
    home = _home(environ)
    given = environ.get(variable, "")
    if given:
        # As Terraform's provider reads it.
        expanded = home / given[2:] if home is not None and given.startswith("~/") else Path(given)
        return ProfileFile(given, lambda chosen: load(chosen, expanded, given, named=True), asking)
    if home is None:
        return None
    path, name = home.joinpath(*default), "/".join(("~", *default))
    return ProfileFile(name, lambda chosen: load(chosen, path, name, named=False), asking)


def _home(environ: Mapping[str, str]) -> Path | None:
    """The home folder; None where the environment names none, or a place that depends on where we are."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "")
    return home if home.is_absolute() else None


def _read(path: Path, name: str, variable: str) -> tuple[bytes | None, bool]:
    """A file's content, and whether others than its owner may read it.

    `variable` asked for it; empty where nothing did, and then a file that is not there is none: the content is None.
    """
    # Without waiting: what lies there may be a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        if not variable:
            return None, False
        raise UsageError(
            f"{name} is not there, and {variable} asks for it", hint=f"check or unset {variable}"
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{name} is not a regular file, so no credentials are read from it")
        content = b""
        while len(content) <= LARGEST_FILE and (part := os.read(descriptor, LARGEST_FILE + 1 - len(content))):
            content += part
    except OSError as error:
        raise _unreadable(name, error) from None
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{name} is larger than {LARGEST_FILE // 1024**2} MiB: it is no file of credentials")
    return content, os.name == "posix" and bool(status.st_mode & 0o077)


def _unreadable(name: str, error: Exception) -> UsageError:
    why = error.strerror if isinstance(error, OSError) else "the name cannot be"
    return UsageError(f"{name} cannot be read: {why}", hint="correct it, or set the credentials in the environment")
