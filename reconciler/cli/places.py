"""Where a state is: as the flag, the environment or the manifest says it, and with which credentials it is asked for.

A manifest comes with a pull request, whose author may be anybody. So a host that only the manifest names is asked for
nothing, let alone sent credentials, unless IMGCTL_STATE_HOST names that very host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.cli.state_credentials import DATABASE_PAIRS, HTTP_PAIRS, from_netrc, from_variables
from reconciler.errors import UsageError
from reconciler.state.address import DATABASE_SCHEMES, DatabasePlace, HttpAddress, ObjectPlace
from reconciler.state.open import database_store, http_store, local_store, object_store
from reconciler.state.store import Store

STATE_NAME = "imgctl.state.json"
# As a path it would be a state that nobody finds again.
_NEARLY_A_URL = re.compile(r"(https?|postgres(ql)?|s3):(?!//)", re.IGNORECASE)
HOST_VARIABLE = "IMGCTL_STATE_HOST"


@dataclass(frozen=True, slots=True)
class Place:
    """A state's place. `local_path` is its file, or where that would be: what is kept beside it is found by it."""

    store: Store
    local_path: Path


def find_place(environ: Mapping[str, str], file: Path, state: str | None, declared: str | None = None) -> Place:
    """The place that `state` asks for, a path or a URL, or the manifest's own, otherwise beside the manifest.

    `file` is the manifest. Nothing is opened. Raises UsageError.
    """
    _check_expanded(environ, state)
    folder = file if file.is_dir() else file.parent
    if state and _NEARLY_A_URL.match(state):
        raise UsageError(
            f"the place of the state begins like a URL, and is none: {state.split(':')[0]}: and no two slashes",
            hint="A path of that name is ./ and the name.",
        )
    if state and "://" not in state:
        path = Path(state)
        return Place(local_store(path, home(environ)), path)
    if not state and not declared:
        path = folder / STATE_NAME
        return Place(local_store(path, home(environ)), path)
    where = state or declared or ""
    if where.startswith("s3://"):
        place = ObjectPlace.parse(where)
        if not state:
            # A bucket can have the name of somebody's host; then only the form that says what it is will do.
            names = {f"s3://{place.bucket}", *([] if "." in place.bucket else [place.bucket])}
            _check_allowed(f"s3://{place.bucket}", environ, environ.get(HOST_VARIABLE) in names)
        return Place(object_store(place, environ, folder, home(environ)), folder / STATE_NAME)
    if where.split("://")[0] in DATABASE_SCHEMES:
        database = DatabasePlace.parse(where)
        if not state:
            _check_allowed(database.place, environ, database.is_at(environ.get(HOST_VARIABLE, "")))
        store = database_store(database, from_variables(environ, DATABASE_PAIRS), environ, folder, home(environ))
        return Place(store, folder / STATE_NAME)
    address = HttpAddress.parse(where)
    if not state:
        _check_allowed(address.place, environ, address.is_at(environ.get(HOST_VARIABLE, "")))
    credentials = from_variables(environ, HTTP_PAIRS) or from_netrc(environ, address.host)
    store = http_store(address, credentials, folder, home(environ))
    return Place(store, folder / STATE_NAME)


def _check_expanded(environ: Mapping[str, str], state: str | None) -> None:
    """Raise UsageError for what a workflow leaves of a variable that is not there: elsewhere is another state."""
    if not state and environ.get("IMGCTL_STATE") == "":
        raise UsageError(
            "IMGCTL_STATE is set, and empty",
            hint="A variable of the workflow may be missing. Name the state in it, or unset it for the one beside the "
            "manifest.",
        )
    if state and ("${" in state or state.startswith("$")):
        raise UsageError(
            f"the state's place {state} has a variable in it that nothing has put a value for",
            hint="Set that variable, or name the place itself.",
        )


def same_host(one: Store, other: Store) -> bool:
    """False where the same credentials would reach two hosts."""
    urls = [urlsplit(str(store)) for store in (one, other)]
    return len({url.netloc for url in urls if url.scheme in ("https", "http", *DATABASE_SCHEMES)}) < 2


def home(environ: Mapping[str, str]) -> Path | None:
    """The user's home folder, as far as the environment names one."""
    found = Path(environ.get("HOME") or "")
    return found if found.is_absolute() else None


def _check_allowed(place: str, environ: Mapping[str, str], is_it: bool) -> None:
    """Raise UsageError where the environment does not allow the host, or the bucket, that only a manifest names."""
    allowed = environ.get(HOST_VARIABLE)
    if not allowed:
        raise UsageError(
            f"only the manifest says that the state is at {place}",
            hint=f"So that a pull request cannot send credentials elsewhere, nothing is sent there before the "
            f"environment allows that host: {HOST_VARIABLE}={place}\n"
            "Or name the state yourself, with --state or IMGCTL_STATE.",
        )
    if not is_it:
        raise UsageError(
            f"the manifest keeps the state at {place}, and {HOST_VARIABLE} allows only {allowed}",
            hint=f"Correct the manifest, or {HOST_VARIABLE}.",
        )
