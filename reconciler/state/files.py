"""The system calls that a state on disk consists of, one function each.

They stand apart so that a test can put itself before and after each of them: a crash between any two must lose nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import StateError

_PRIVATE = 0o600
# What Windows does not know is left out there: reading a state works on it.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read(path: Path) -> bytes | None:
    """A whole regular file, opened without following links; None where there is none. Raises OSError, StateError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
    except FileNotFoundError:
        return None
    check_regular(descriptor, path)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def create(path: Path) -> int:
    """A descriptor of a new file, 0600; there must be none of that name. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, _PRIVATE)


def open_to_append(path: Path) -> int:
    """A descriptor at the end of an existing regular file. Raises OSError, StateError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _SAFE)
    check_regular(descriptor, path)
    return descriptor


def open_lock(path: Path) -> int:
    """A descriptor of a lock file, made where it is missing. Raises OSError, StateError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, _PRIVATE)
    check_regular(descriptor, path)
    return descriptor


def write(descriptor: int, content: bytes) -> None:
    """All of `content`. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(descriptor: int) -> None:
    """Make what was written durable. Raises OSError."""
    os.fsync(descriptor)


def rename(source: Path, target: Path) -> None:
    """Put `source` in `target`'s place, at once. Raises OSError."""
    source.rename(target)


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises OSError."""
    path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make what was renamed, made or removed in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Take the exclusive lock, or raise BlockingIOError at once. Raises StateError on Windows."""
    try:
        import fcntl
    except ImportError:
        raise StateError(
            "this system has no lock that dies with its owner",
            hint="On Windows imgctl reads states only: use WSL to write.",
        ) from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(descriptor: int) -> None:
    """Give the lock back; the end of the process does the same."""
    os.close(descriptor)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep others that say the same out of a folder for a moment, if it knows locks at all. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_regular(descriptor: int, path: Path) -> None:
    """Raise StateError, with the descriptor closed, where it is no regular file: a pipe would never end."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StateError(f"{path} is not a regular file", hint="A state is a plain file; name another with --state.")
