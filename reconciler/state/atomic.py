"""Files replaced in one step, and what goes wrong with a file in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import StateError
from reconciler.state import files


def replace(path: Path, content: bytes) -> None:
    """Put a file in `path`'s place: a crash at any instant leaves the old one or the new one, whole. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    # A crash may have left one behind; the lock says that nobody is writing it now.
    files.remove(temporary)
    try:
        descriptor = files.create(temporary)
        try:
            files.write(descriptor, content)
            files.sync(descriptor)
        finally:
            os.close(descriptor)
        files.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            files.remove(temporary)
        raise
    files.sync_folder(path.parent)


@contextlib.contextmanager
def translated(verb: str, path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file as StateError."""
    try:
        yield
    except OSError as error:
        raise StateError(f"cannot {verb} {path}: {error.strerror}", hint=hint(error)) from error


def hint(error: OSError) -> str:
    """What to do about it; empty where nobody knows."""
    match error.errno:
        case errno.ELOOP:
            return "It is a symbolic link; imgctl opens states without following links. Name the file itself."
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room on the disk, then run the command again: nothing that was recorded is lost."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "Give this user the right to write to the folder, or keep the state elsewhere with --state."
        case errno.ENOENT:
            return "Create the folder first, or name another place with --state."
        case _:
            return ""
