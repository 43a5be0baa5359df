"""From the place of a state, as it is named, to its store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.state.emergency import EmergencyFiles
from reconciler.state.local import LocalState
from reconciler.state.store import Store


def local_store(path: Path, home: Path | None = None) -> Store:
    """A state in local files. `home` is where an emergency is kept if the state's own folder takes nothing any more."""
    # The same state by any spelling of its path; the file itself is never a link.
    key = os.fsencode(path.parent.resolve() / path.name)
    places = (path.with_name(path.name + ".emergency"), *_in_home(home, key))
    return Store(LocalState(path), EmergencyFiles(*places))


def object_store(url: str, beside: Path, environ: Mapping[str, str], home: Path | None = None) -> Store:
    """A state in object storage, at `s3://bucket/key`. Raises UsageError, StateError.

    `beside` is where the state's file would be if it were local: an emergency is kept next to it, or at `home`.
    """
    from reconciler.state import s3
    from reconciler.state.objects import ObjectState

    place = s3.parse(url)
    places = (beside.with_name(beside.name + ".emergency"), *_in_home(home, url.encode()))
    return Store(ObjectState(s3.Bucket(place.bucket, environ), place), EmergencyFiles(*places))


def check_named_by_manifest(url: str, environ: Mapping[str, str]) -> None:
    """Raise UsageError where a manifest names a bucket that the operator has not named too.

    Whoever can propose a change of a manifest could otherwise put the operator's keys to work on a bucket of their own,
    and have a state that was made up there be believed.
    """
    from reconciler.state import s3

    bucket = s3.parse(url).bucket
    allowed = environ.get("IMGCTL_STATE_HOST", "")
    if allowed != bucket:
        says = f"allows only {allowed}" if allowed else "is not set"
        raise UsageError(
            f"the manifest names the state {url}, and IMGCTL_STATE_HOST {says}",
            hint=f"If that bucket is yours, set IMGCTL_STATE_HOST={bucket}, or name the state with --state.",
        )


def _in_home(home: Path | None, key: bytes) -> tuple[Path, ...]:
    if home is None:
        return ()
    return (home / ".local/state/imgctl" / f"{hashlib.sha256(key).hexdigest()[:16]}.emergency",)
