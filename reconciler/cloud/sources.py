"""Where credentials are looked for, in order: variables, profile files, the ECS metadata service.

The first source that holds anything decides: a key of one and a secret of another never mix, and half a source is an
error rather than a reason to look further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.cloud.credentials import AgencyCredentials, Credentials
from reconciler.cloud.profiles import Profile, ProfileFile, profile_files
from reconciler.cloud.variables import FAMILIES, Family
from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Found:
    """Credentials, and the profile that they are of, where they are of one."""

    credentials: Credentials
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One place to look. `find` gives None where it holds nothing, and raises UsageError where it cannot be used."""

    name: str
    find: Callable[[], Found | None]


def sources(environ: Mapping[str, str]) -> tuple[Source, ...]:
    """Everything that is looked at, in order, before the ECS metadata service is asked.

    A file that a family's variable asks for comes right after what the family itself holds.
    """
    files = profile_files(environ)
    found: list[Source] = []
    for family in FAMILIES:
        found += [Source(name, _not_supported(name)) for name in family.not_supported if environ.get(name)][:1]
        found.append(Source(family.name, _in_variables(family, environ)))
        asked, files = _split(files, family.named)
        found += [Source(file.name, _in_file(file)) for file in asked]
    return (*found, *(Source(file.name, _in_file(file)) for file in files))


def search(environ: Mapping[str, str]) -> Found:
    """The first source's credentials; those of the ECS metadata service, which may not be there, where nothing else is.

    An empty variable counts as unset. Raises UsageError where a source is half given or cannot be used.
    """
    looked = []
    for source in sources(environ):
        found = source.find()
        if found is not None:
            return found
        looked.append(source.name)
    return Found(AgencyCredentials(looked=tuple(looked)))


def find_credentials(environ: Mapping[str, str]) -> Credentials:
    """The same, without the profile."""
    return search(environ).credentials


def region_of_profiles(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The first profile's region and where it stands; None where no profile names one."""
    for file in profile_files(environ):
        try:
            profile = file.load("")
        except UsageError:
            # It is the region that is missing; what else is wrong with the file shows when its keys are needed.
            continue
        if profile is not None and profile.region:
            return profile.region, profile.place
    return None


def _split(files: list[ProfileFile], asked_by: str) -> tuple[list[ProfileFile], list[ProfileFile]]:
    """Those that a variable of this prefix asks for, and the others."""
    asked = [file for file in files if file.asked_by.startswith(asked_by)]
    return asked, [file for file in files if file not in asked]


def _not_supported(name: str) -> Callable[[], Found | None]:
    def find() -> Found | None:
        raise UsageError(
            f"{name} asks for another identity than the keys alone have, which imgctl cannot take on",
            hint="obtain temporary keys of it, and set IMGCTL_ACCESS_KEY, IMGCTL_SECRET_KEY and IMGCTL_SECURITY_TOKEN; "
            f"or unset {name}",
        )

    return find


def _in_variables(family: Family, environ: Mapping[str, str]) -> Callable[[], Found | None]:
    def find() -> Found | None:
        credentials = family.find(environ)
        return Found(credentials) if credentials is not None else None

    return find


def _in_file(file: ProfileFile) -> Callable[[], Found | None]:
    def find() -> Found | None:
        profile = file.load("")
        credentials = profile.credentials(file.reader(profile)) if profile is not None else None
        return Found(credentials, profile) if credentials is not None else None

    return find
