"""Files that plans are saved in: private, written in one step, and read as what a stranger may have put there."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

from reconciler.cli.private_file import write_private
from reconciler.errors import PlanFileError, UsageError

# More than the largest fleet takes; what is larger is no plan, or meant to fill the memory.
LARGEST_PLAN = 64 * 1024**2
_OTHER = "Nothing was changed. Name another file with --out."
# A FIFO without a writer would keep us waiting forever.
_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
)


def read_plan_file(path: Path) -> bytes:
    """The content of a regular file of bounded size, opened without following a link. Raises PlanFileError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PlanFileError(f"{path} is not a regular file", hint="Name the file that imgctl plan --out wrote.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(LARGEST_PLAN + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise PlanFileError(
            f"there is no plan {path}",
            hint="imgctl plan --out FILE writes one; servers are chosen with --target.",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > LARGEST_PLAN:
        raise PlanFileError(f"{path} has more than {LARGEST_PLAN >> 20} MiB, so it is no plan")
    return content


def check_writable(path: Path) -> None:
    """Raise UsageError where a plan could not be saved, or would take the place of something that is no plan."""
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="Create it first, or name another one with --out.")
    if not os.path.lexists(path):
        return
    try:
        found = read_plan_file(path)
    except PlanFileError as error:
        raise UsageError(f"--out {path}: {error.summary}", hint=_OTHER) from None
    if found.strip() and not _looks_like_a_plan(found):
        raise UsageError(f"--out {path}: this file exists already, and is no plan", hint=_OTHER)


def write_plan_file(path: Path, text: str) -> None:
    """Save a plan, 0600. A crash or a failure leaves what was there before. Raises UsageError."""
    check_writable(path)
    write_private(path, text)


def _unreadable(path: Path, error: OSError) -> PlanFileError:
    if error.errno == errno.ELOOP:
        return PlanFileError(
            f"{path} is a symbolic link", hint="Plans are opened without following links: name the file."
        )
    return PlanFileError(f"{path} cannot be read: {error.strerror}")


def _looks_like_a_plan(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        # Half a plan is no plan either; what else it might be is somebody's.
        return False
    return isinstance(document, dict) and {"format_version", "plan_id", "saved"} <= document.keys()
