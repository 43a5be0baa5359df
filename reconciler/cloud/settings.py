"""Region, project, endpoints and credentials, each with where it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.cloud.credentials import Credentials
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.location import PROJECT_VARIABLES, REGION_VARIABLES
from reconciler.errors import UsageError

# A region may have projects of its own, which are named `REGION_NAME`.
PROJECT_NAME_VARIABLE = "HW_PROJECT_NAME"
_PROJECT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was found, in words: `--region`, `imgctl.yaml:2`, a variable's name."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """All that is needed to reach one project in one region.

    `project` None: ask IAM, which knows it by `project_name`, or by the region's name where that is None too.
    """

    region: Given
    project: Given | None
    endpoints: Endpoints
    credentials: Credentials
    project_name: Given | None = None


def resolve_settings(
    environ: Mapping[str, str], *, region: Given | None = None, project_id: Given | None = None
) -> CloudSettings:
    """Settings from an environment; `region` and `project_id` come from a flag or the manifest and win.

    IMGCTL_PROJECT_ID is also a pin: a workflow sets it so that no manifest can lead it to another project, hence a
    `project_id` that differs is an error. A profile's project counts only where its keys do: it belongs to their
    account. Raises UsageError, as `search` and Endpoints.for_region do.
    """
    place = region or find_region(environ)
    if place is None:
        raise UsageError(
            "no region given",
            hint=f"write `region:` in the manifest, or set {' or '.join(REGION_VARIABLES)}; init and doctor also take "
            "--region",
        )
    pin = _first(environ, PROJECT_VARIABLES[:1])
    if project_id and pin and project_id.value != pin.value:
        raise UsageError(
            f"project {project_id.value} ({project_id.source}) is not the one that {pin.source} allows: {pin.value}",
            hint=f"correct the project, or unset {pin.source}",
        )
    project = project_id or _first(environ, PROJECT_VARIABLES)
    project_name = _first(environ, (PROJECT_NAME_VARIABLE,)) if project is None else None
    _check_project_name(project_name, place)
    # First what needs no file: a region that is not known is not hidden by a profile that cannot be read.
    Endpoints.for_region(place.value, environ)
    _check_project(project)
    from reconciler.cloud.sources import search

    found = search(environ)
    iam = None
    if found.profile is not None:
        if project is None and project_name is None and found.profile.project_id:
            project = Given(found.profile.project_id, found.profile.place)
            _check_project(project)
        if found.profile.iam_endpoint:
            iam = (found.profile.iam_endpoint, f"iam_endpoint in {found.profile.place}")
    endpoints = Endpoints.for_region(place.value, environ, profile_iam=iam)
    return CloudSettings(place, project, endpoints, found.credentials, project_name)


def find_region(environ: Mapping[str, str]) -> Given | None:
    """The region that the environment or a profile names."""
    from reconciler.cloud.sources import region_of_profiles

    named = _first(environ, REGION_VARIABLES)
    if named is None and (of_profile := region_of_profiles(environ)) is not None:
        named = Given(*of_profile)
    return named


def _check_project(project: Given | None) -> None:
    if project and not _PROJECT_ID.fullmatch(project.value):
        raise UsageError(
            f"{project.value[:64]!r} ({project.source}) is not a project id",
            hint="a project id has 32 digits of 0-9 and a-f",
        )


def _check_project_name(name: Given | None, region: Given) -> None:
    if name and name.value != region.value and not name.value.startswith(f"{region.value}_"):
        raise UsageError(
            f"{name.source} is {name.value[:64]!r}, which is no project of region {region.value} ({region.source})",
            hint=f"unset {name.source}, or give an id: {PROJECT_VARIABLES[0]}, or `project_id:` in the manifest",
        )


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> Given | None:
    return next((Given(environ[name], name) for name in names if environ.get(name)), None)
