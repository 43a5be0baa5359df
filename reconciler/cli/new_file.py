"""Writing a file that must not exist yet."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

from reconciler.errors import UsageError


def check_new(file: Path) -> None:
    """Raise UsageError where something has this name already, a link that leads nowhere included, or has no folder."""
    if os.path.lexists(file):
        raise _exists(file)
    if not file.parent.is_dir():
        make = f"mkdir -p {shlex.quote(str(file.parent))}"
        raise UsageError(f"there is no folder {file.parent}", hint=f"Create it first: {make}")


def write_new(file: Path, text: str) -> None:
    """Write the file; a half-written one is not left behind. Raises UsageError."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    file.unlink()
                raise
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def _exists(file: Path) -> UsageError:
    return UsageError(
        f"{file} exists already",
        hint="Nothing was changed. Name another file with -f, or record what its servers show: imgctl import --all",
    )
