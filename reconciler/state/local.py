"""A state in a local file: read whole, replaced whole, guarded by a lock that dies with its owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from reconciler.errors import StateError, StateLocked

_MODE = 0o600


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds a lock, for messages only: the kernel's lock is what counts. `since` is UTC, ISO 8601."""

    who: str
    host: str
    pid: int
    since: str
    operation: str

    def __str__(self) -> str:
        return f"{self.who} on {self.host} (process {self.pid}), since {self.since}, for {self.operation}"


class LocalFile:
    """The bytes of a state at `path`. The lock beside it, `path.lock`, is never renamed or removed.

    State and lock are regular files, opened without following links; both are readable by their owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._lock_path = path.with_name(path.name + ".lock")

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> bytes | None:
        """The whole document as it is now; None where there is no file. Takes no lock: a replacement is atomic."""
        with self._translated("read"):
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                _assert_regular(descriptor, self.path)
                return file.read()

    def replace(self, content: bytes) -> None:
        """Put `content` in the document's place, durable on return. For the holder of the lock only.

        A crash at any instant leaves the old document or the new one, whole.
        """
        with self._translated("write"):
            # A crash may have left one behind; the lock says that nobody else is writing it.
            self._temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                descriptor = os.open(self._temporary, flags, _MODE)
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    _write_all(file.fileno(), content)
                    os.fsync(file.fileno())
                self._temporary.rename(self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    self._temporary.unlink(missing_ok=True)
                raise
            self._sync_folder()

    def lock(self, holder: LockHolder) -> LocalLock:
        """The exclusive lock, held until it is closed or the process ends.

        Raises StateLocked, naming the holder, where another process has it.
        """
        with self._translated("lock"):
            # A lock file that was replaced between open and flock guards nothing: look again, a few times.
            for _ in range(10):
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(self._lock_path, flags, _MODE)
                try:
                    _assert_regular(descriptor, self._lock_path)
                    self._acquire(descriptor)
                    if _same_file(descriptor, self._lock_path):
                        lock = LocalLock(descriptor)
                        lock.describe(holder)
                        return lock
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
            raise StateError(
                f"{self._lock_path} keeps being replaced", hint="Nothing may rename or remove the lock file."
            )

    def _acquire(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateLocked(
                f"{self.path} is locked by {_read_holder(descriptor)}",
                hint="Wait until that run has ended. The lock goes with its process; nothing needs to be unlocked.",
            ) from None

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"cannot {verb} the state {self.path}: {error.strerror}", hint=_hint(error)) from error


class LocalLock:
    """A held lock. Closing it lets others in; so does the end of the process, however it comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def describe(self, holder: LockHolder) -> None:
        """Write down who holds the lock; that it could not be written does not weaken the lock."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(asdict(holder), ensure_ascii=False).encode() + b"\n", 0)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _assert_regular(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StateError(f"{path} is not a regular file", hint="The state must be a plain file in a folder of its own.")


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _read_holder(descriptor: int) -> str:
    try:
        return str(LockHolder(**json.loads(os.pread(descriptor, 4096, 0))))
    except (OSError, ValueError, TypeError):
        return "another process"


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _hint(error: OSError) -> str:
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
