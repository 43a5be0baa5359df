"""Writing a file that must not exist yet."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from uuid import uuid4

from reconciler.errors import UsageError


def check_new(file: Path) -> None:
    """Raise UsageError where something has this name already, a link that leads nowhere included, or has no folder."""
    if os.path.lexists(file):
        raise _exists(file)
    if not file.parent.is_dir():
        make = f"mkdir -p {shlex.quote(str(file.parent))}"
        raise UsageError(f"there is no folder {file.parent}", hint=f"Create it first: {make}")


def write_new(file: Path, text: str) -> None:
    """Write the file, which has its name only once it is whole: half a manifest may be valid too. Raises UsageError."""
    draft = file.with_name(f".{file.name}.{uuid4().hex[:8]}.new")
    try:
        try:
            with draft.open("x", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            _name(draft, file)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def _name(draft: Path, file: Path) -> None:
    """Give a file its name, which nothing has. Raises FileExistsError, OSError."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if os.path.lexists(file):
            raise FileExistsError(file) from None
        draft.rename(file)


def _exists(file: Path) -> UsageError:
    return UsageError(
        f"{file} exists already",
        hint="Nothing was changed. Name another file with -f, or record what its servers show: imgctl import --all",
    )
