"""Writing a file that may exist already, and that nobody but its owner is to read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from reconciler.errors import UsageError

# Windows has neither.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def check_replaceable(file: Path) -> None:
    """Raise UsageError where no file of this name can be written: what is there is no file, or it has no folder."""
    if os.path.lexists(file) and not (file.is_file() and not file.is_symlink()):
        raise UsageError(f"{file} is not a regular file", hint="It would be replaced: name another.")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}", hint="Create it first.")


def write_private(file: Path, text: str) -> None:
    """Write the file, 0600, in place of what has its name, which it gets only once it is whole. Raises UsageError."""
    draft = file.with_name(f".{file.name}.{uuid4().hex[:8]}.new")
    try:
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
