"""From the place of a state, as it is named, to its store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from reconciler.state.emergency import EmergencyFiles
from reconciler.state.local import LocalState
from reconciler.state.store import Store


def local_store(path: Path, home: Path | None = None) -> Store:
    """A state in local files. `home` is where an emergency is kept if the state's own folder takes nothing any more."""
    # The same state by any spelling of its path; the file itself is never a link.
    key = os.fsencode(path.parent.resolve() / path.name)
    places = (path.with_name(path.name + ".emergency"), *_in_home(home, key))
    return Store(LocalState(path), EmergencyFiles(*places))


def _in_home(home: Path | None, key: bytes) -> tuple[Path, ...]:
    if home is None:
        return ()
    return (home / ".local/state/imgctl" / f"{hashlib.sha256(key).hexdigest()[:16]}.emergency",)
