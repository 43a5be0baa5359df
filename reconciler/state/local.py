"""A state in local files: a document, the journal beside it, and a lock that dies with its owner."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from dataclasses import asdict
from pathlib import Path

from reconciler.errors import StateError, StateLocked
from reconciler.state import atomic, files
from reconciler.state.journaled import Journaled, Lock
from reconciler.state.store import LockHolder, Wait

_REPLACED_LOCKS = 10


class LocalState(Journaled):
    """The files of the state at `path`: `path` itself, `.journal` and `.lock`.

    All are regular files that only their owner can read, opened without following links. The lock file is never renamed
    or removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal_path = _beside(path, ".journal")
        self._lock_path = _beside(path, ".lock")
        # The journal, once something has been appended to it; closed with the lock.
        self._journal: int | None = None
        self._locked: int | None = None

    def __str__(self) -> str:
        return str(self.path)

    def read_document(self) -> bytes | None:
        """See Journaled."""
        with atomic.translated("read", self.path):
            return files.read(self.path)

    def read_journal(self) -> bytes | None:
        """See Journaled."""
        with atomic.translated("read", self._journal_path):
            return files.read(self._journal_path)

    def replace_document(self, content: bytes) -> None:
        """See Journaled."""
        with atomic.translated("write", self.path):
            self._check_owned()
            atomic.replace(self.path, content)

    def replace_journal(self, content: bytes) -> None:
        """See Journaled."""
        self._close_journal()
        with atomic.translated("write", self._journal_path):
            self._check_owned()
            atomic.replace(self._journal_path, content)

    def append(self, frame: bytes) -> None:
        """See Journaled."""
        with atomic.translated("write", self._journal_path):
            self._check_owned()
            if self._journal is None:
                self._journal = files.open_to_append(self._journal_path)
                # Whoever named it may have been killed before it synced the folder: the frames would lose their file.
                files.sync_folder(self._journal_path.parent)
            files.write(self._journal, frame)
            files.sync(self._journal)

    def lock(self, holder: LockHolder, wait: Wait | None = None) -> Lock:
        """See Journaled."""
        with atomic.translated("lock", self._lock_path):
            replaced = 0
            while replaced < _REPLACED_LOCKS:
                descriptor = files.open_lock(self._lock_path)
                try:
                    files.lock(descriptor)
                    # A lock file that was replaced between open and lock guards nothing: once more.
                    if _same_file(descriptor, self._lock_path):
                        _describe(descriptor, holder)
                        self._locked = descriptor
                        return Lock(functools.partial(self._unlock, descriptor))
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

    def _unlock(self, descriptor: int) -> None:
        """Let others in; the end of the process does so too, however it comes."""
        self._close_journal()
        files.unlock(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


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
