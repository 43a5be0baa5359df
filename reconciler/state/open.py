"""From the place of a state, as it is named, to its store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.state.address import Credentials, DatabasePlace, HttpAddress, ObjectPlace
from reconciler.state.emergency import EmergencyFiles
from reconciler.state.local import LocalState
from reconciler.state.store import Store


def local_store(path: Path, home: Path | None = None) -> Store:
    """A state in local files. `home` is where an emergency is kept if the state's own folder takes nothing any more."""
    # The same state by any spelling of its path; the file itself is never a link.
    key = os.fsencode(path.parent.resolve() / path.name)
    places = (path.with_name(path.name + ".emergency"), *_in_home(home, key))
    return Store(LocalState(path), EmergencyFiles(*places))


def http_store(address: HttpAddress, credentials: Credentials | None, folder: Path, home: Path | None = None) -> Store:
    """A state on a server. Its emergencies are kept in `folder`, or in `home`: the server is what has failed then.

    Raises UsageError where the environment's proxy or certificate settings cannot be used.
    """
    from reconciler.state.http import StateServer
    from reconciler.state.http_state import HttpState

    key = str(address).encode()
    places = (folder / f"imgctl-{_digest(key)}.emergency", *_in_home(home, key))
    return Store(HttpState(StateServer(address, credentials)), EmergencyFiles(*places))


def object_store(place: ObjectPlace, environ: Mapping[str, str], folder: Path, home: Path | None = None) -> Store:
    """A state in object storage; where that is, and the keys, are in the environment. For emergencies see http_store.

    Raises UsageError, and StateError where the library for it is not installed.
    """
    from reconciler.state.objects import ObjectState
    from reconciler.state.s3 import Bucket

    key = str(place).encode()
    places = (folder / f"imgctl-{_digest(key)}.emergency", *_in_home(home, key))
    return Store(ObjectState(Bucket(place.bucket, environ), place), EmergencyFiles(*places))


def database_store(
    place: DatabasePlace,
    credentials: Credentials | None,
    environ: Mapping[str, str],
    folder: Path,
    home: Path | None = None,
) -> Store:
    """A state in PostgreSQL. What `credentials` does not say, libpq's own variables do. For emergencies see http_store.

    Raises StateError where the library for it is not installed.
    """
    from reconciler.state.database import Database
    from reconciler.state.postgres import PostgresState

    key = str(place).encode()
    places = (folder / f"imgctl-{_digest(key)}.emergency", *_in_home(home, key))
    return Store(PostgresState(Database(place, credentials, environ)), EmergencyFiles(*places))


def _in_home(home: Path | None, key: bytes) -> tuple[Path, ...]:
    if home is None:
        return ()
    return (home / ".local/state/imgctl" / f"{_digest(key)}.emergency",)


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]
