"""Finds and reads files: regular files of UTF-8 text and of bounded size, and nothing that a link leads to elsewhere.

A stranger's pull request may hold anything under a manifest's name: a link to a key of the runner (an error would print
a line of it), a FIFO (reading it would hang), a device (it never ends).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from reconciler.manifest.nodes import Source
from reconciler.manifest.problems import Problems

MAX_BYTES = 10 * 1024 * 1024
# The file whose variables and defaults reach all files of a folder.
ROOT_FILE = "imgctl.yaml"

_SUFFIXES = (".yaml", ".yml", ".json")
# What imgctl itself writes beside a manifest.
_OURS = re.compile(r"\.(?:state|world|tfvars|plan)\.json$|\.state\.json\.")
# Control characters, and characters that make text look different from what it is: line breaks that editors do not show
# as such, changes of direction, a byte order mark amid the text.
_FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def find_files(path: Path, problems: Problems) -> list[Path]:
    """The manifest files that a path names, sorted by name.

    A folder's are its `*.yaml`, `*.yml` and `*.json`, folders in it not included. Hidden files and what imgctl writes
    itself (`*.state.json` and its companions, `*.world.json`, `*.plan.json`, `*.tfvars.json`) are no manifests.
    """
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - Path.is_dir() hides why it failed
            return [path]
        if not _stays(path, problems):
            return []
        names = sorted(entry.name for entry in path.iterdir())
    except (OSError, ValueError) as error:
        _unreadable(path, error, problems)
        return []
    found = [
        path / name
        for name in names
        if name.endswith(_SUFFIXES) and not name.startswith(".") and not _OURS.search(name)
    ]
    if not found:
        problems.without_place(
            f"the folder {path} holds no manifest",
            f"A manifest is a file *.yaml, *.yml or *.json; `imgctl init` writes a first {ROOT_FILE}.",
        )
    return found


def read_source(path: Path, problems: Problems) -> tuple[Source, str] | None:
    """The text of a file without its byte order mark, None where it cannot be used and `problems` says why."""
    try:
        raw = _read(path, problems)
    except (OSError, ValueError) as error:
        _unreadable(path, error, problems)
        return None
    if raw is None:
        return None
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode("utf-8").removeprefix("\ufeff"))
        readable = raw.decode("utf-8", "replace").removeprefix("\ufeff")
        problems.at_position(
            Source(str(path), tuple(_LINE_BREAK.split(readable))),
            line,
            column,
            f"this is not UTF-8: the byte 0x{raw[error.start]:02x} cannot stand here",
            "Save the file as UTF-8.",
        )
        return None
    source = Source(str(path), tuple(_LINE_BREAK.split(text)))
    return (source, text) if _printable(source, text, problems) else None


def forbidden_character(text: str) -> str | None:
    """The first character that no text may hold as it is, as U+XXXX; None where there is none."""
    found = _FORBIDDEN.search(text)
    return f"U+{ord(found[0]):04X}" if found else None


def _read(path: Path, problems: Problems) -> bytes | None:
    if not _stays(path, problems):
        return None
    # The links were followed and judged above; without them, what is opened is what was judged. O_NONBLOCK: a FIFO
    # without a writer would keep us waiting forever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(os.path.realpath(path), flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            problems.without_place(f"{path} is not a regular file", "A manifest is a plain file, or a folder of them.")
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MAX_BYTES:
        problems.without_place(f"{path} has more than 10 MiB", "Split it: one file per ring or team, in one folder.")
        return None
    return raw


def _stays(path: Path, problems: Problems) -> bool:
    """False, with a problem, where a symbolic link on the way leads out of the folder that it stands in.

    The folders above an absolute path are the machine's own business (`/tmp` is a link on macOS).
    """
    on_the_way = [path] if path.is_absolute() else [path, *path.parents]
    for step in on_the_way:
        if not step.is_symlink():
            continue
        folder = Path(os.path.realpath(step.parent))
        if folder not in Path(os.path.realpath(step)).parents:
            problems.without_place(
                f"{step} is a symbolic link that leaves its folder",
                "Name what it points to, or put the file itself here: a link could make errors show lines of any file.",
            )
            return False
    return True


def _printable(source: Source, text: str, problems: Problems) -> bool:
    found = _FORBIDDEN.search(text)
    if found is None:
        return True
    line, column = _position(text[: found.start()])
    code = f"{ord(found[0]):04X}"
    problems.at_position(
        source,
        line,
        column,
        f"the character U+{code} cannot stand in a manifest: it is invisible or changes how the text looks",
        f'Remove it; where it is meant, write "\\u{code.lower()}" in double quotes.'
        if found[0] != "\0"
        else "Remove it.",
    )
    return False


def _position(before: str) -> tuple[int, int]:
    lines = _LINE_BREAK.split(before)
    return len(lines), len(lines[-1]) + 1


def _unreadable(path: Path, error: OSError | ValueError, problems: Problems) -> None:
    if isinstance(error, FileNotFoundError):
        what = "file or folder" if path.suffix not in _SUFFIXES else "manifest"
        problems.without_place(
            f"there is no {what} {path}", "`imgctl init` writes a first manifest; -f names a file or folder elsewhere."
        )
    else:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.without_place(f"{path} cannot be read: {reason}", "Check the path and its permissions.")
