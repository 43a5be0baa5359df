"""A state in local files: a document, the journal beside it, and a lock that dies with its owner."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from reconciler.errors import StateError, StateLocked
from reconciler.state import files
from reconciler.state.store import LockHolder

_REPLACED_LOCKS = 10


class LocalState:
    """The files of the state at `path`: `path` itself, `.journal`, `.lock` and, after an emergency, `.emergency`.

    All are regular files that only their owner can read, opened without following links. The lock file is never renamed
    or removed. `home` is where an emergency is kept if the state's own folder takes nothing any more.
    """

    def __init__(self, path: Path, home: Path | None = None) -> None:
        self.path = path
        self._journal_path = _beside(path, ".journal")
        self._lock_path = _beside(path, ".lock")
        # The same state by any spelling of its path; the file itself is never a link.
        name = hashlib.sha256(os.fsencode(path.parent.resolve() / path.name)).hexdigest()[:16]
        self._emergencies = [_beside(path, ".emergency")]
        if home is not None:
            self._emergencies.append(home / ".local/state/imgctl" / f"{name}.emergency")
        # The journal, once something has been appended to it; closed with the lock.
        self._journal: int | None = None
        self._locked: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    def read_document(self) -> bytes | None:
        """See Backend."""
        with _translated("read", self.path):
            return files.read(self.path)

    def read_journal(self) -> bytes | None:
        """See Backend."""
        with _translated("read", self._journal_path):
            return files.read(self._journal_path)

    def replace_document(self, content: bytes) -> None:
        """See Backend."""
        with _translated("write", self.path):
            self._check_owned()
            _write_new(self.path, content)

    def replace_journal(self, content: bytes) -> None:
        """See Backend."""
        self._close_journal()
        with _translated("write", self._journal_path):
            self._check_owned()
            _write_new(self._journal_path, content)

    def append(self, frame: bytes) -> None:
        """See Backend."""
        with _translated("write", self._journal_path):
            self._check_owned()
            if self._journal is None:
                self._journal = files.open_to_append(self._journal_path)
                # Whoever named it may have been killed before it synced the folder: the frames would lose their file.
                files.sync_folder(self._journal_path.parent)
            files.write(self._journal, frame)
            files.sync(self._journal)

    def lock(self, holder: LockHolder, wait: Callable[[StateError], None] | None = None) -> LocalLock:
        """See Backend."""
        with _translated("lock", self._lock_path):
            replaced = 0
            while replaced < _REPLACED_LOCKS:
                descriptor = files.open_lock(self._lock_path)
                try:
                    files.lock(descriptor)
                    # A lock file that was replaced between open and lock guards nothing: once more.
                    if _same_file(descriptor, self._lock_path):
                        _describe(descriptor, holder)
                        self._locked = descriptor
                        return LocalLock(descriptor, self._close_journal)
                except BlockingIOError:
                    refusal = StateLocked(
                        f"{self.path} is locked by {_read_holder(descriptor)}",
                        hint="Wait until that run has ended, or use --lock-timeout. "
                        "The lock goes with its process; nothing needs to be unlocked.",
                    )
                    os.close(descriptor)
                    if wait is None:
                        raise refusal from None
                    wait(refusal)
                    continue
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
                replaced += 1
            raise StateError(
                f"{self._lock_path} keeps being replaced", hint="Nothing may rename or remove the lock file."
            )

    def save_emergency(self, content: bytes) -> str:
        """See Backend."""
        problem: OSError | None = None
        for path in self._emergencies:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # What an earlier emergency left is added to: nobody has folded it in yet.
                earlier = files.read(path) or b""
                _write_new(path, earlier + content)
            except OSError as error:
                problem = error
            else:
                return str(path)
        raise StateError(f"no place takes an emergency file: {problem}") from problem

    def read_emergencies(self) -> list[tuple[str, bytes]]:
        """See Backend."""
        found = []
        for path in self._emergencies:
            try:
                content = files.read(path)
            except OSError as error:
                # A home that is no folder, or not ours, holds nothing of ours.
                if path != self._emergencies[0] and error.errno in (errno.ENOTDIR, errno.EACCES):
                    continue
                raise StateError(f"cannot read {path}: {error.strerror}", hint=_hint(error)) from error
            if content is not None:
                found.append((str(path), content))
        return found

    def remove_emergency(self, place: str) -> None:
        """See Backend."""
        path = Path(place)
        with _translated("write", path):
            files.remove(path)
            files.sync_folder(path.parent)

    def _check_owned(self) -> None:
        """Raise StateError where the lock or the journal is not the file any more that this writer opened."""
        for descriptor, path in ((self._locked, self._lock_path), (self._journal, self._journal_path)):
            if descriptor is not None and not _same_file(descriptor, path):
                raise StateError(
                    f"{path} was removed or replaced while it was in use",
                    hint="Another run may be writing this state. Nothing may rename or remove these files.",
                )

    def _close_journal(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None


class LocalLock:
    """A held lock. Leaving it lets others in; so does the end of the process, however it comes."""

    def __init__(self, descriptor: int, closing: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._closing = closing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing()
        files.unlock(self._descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _write_new(path: Path, content: bytes) -> None:
    """Put a file in `path`'s place: a crash at any instant leaves the old one or the new one, whole. Raises OSError."""
    temporary = _beside(path, ".tmp")
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


def _describe(descriptor: int, holder: LockHolder) -> None:
    """Write down who holds the lock; that it could not be written does not weaken the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder), ensure_ascii=False).encode() + b"\n", 0)


def _read_holder(descriptor: int) -> str:
    try:
        return str(LockHolder(**json.loads(os.pread(descriptor, 4096, 0))))
    except (OSError, ValueError, TypeError):
        return "another process"


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


@contextlib.contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"cannot {verb} {path}: {error.strerror}", hint=_hint(error)) from error


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
