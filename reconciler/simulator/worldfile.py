"""A world on disk: one JSON document, every record under its own name, times in ISO 8601."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.files import write_private
from reconciler.simulator.records import Image, Job, Key, Late, Ledger, Server, Token

FORMAT = "imgctl-simulator-world"
VERSION = 2
# Every number of a world that is no whole number is a number of seconds.
MOST_SECONDS = 1e9


@dataclass
class Content:
    """What a world's file holds."""

    seed: int
    build_time: float
    region: str
    project_id: str
    quota: int
    serial: int
    servers: list[Server]
    jobs: list[Job]
    images: list[Image]
    tokens: list[Token]
    keys: list[Key]
    late: list[Late]
    ledger: Ledger


class _Damaged(Exception):  # noqa: N818
    """A value that cannot be; the text says where."""


def stamp(path: Path) -> object:
    """What tells one version of a file from another; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def write(path: Path, content: Content) -> None:
    """Replace the file at once, 0600. Raises SimulatorError where it cannot be written."""
    document = {"format": FORMAT, "version": VERSION, **vars(content)}
    write_private(path, json.dumps(document, ensure_ascii=False, default=_plain).encode() + b"\n")


def read(path: Path) -> Content:
    """The file's content, every value checked. Raises SimulatorError, naming the file and the place in it."""
    try:
        document = json.loads(path.read_bytes())
        # Half of a surrogate pair can be written in JSON, but not be saved again.
        json.dumps(document, ensure_ascii=False).encode()
    except OSError as error:
        raise SimulatorError(f"the simulator's world {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SimulatorError(_damaged(path, f"it is not JSON: {error}")) from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise SimulatorError(_damaged(path, f"it is no {FORMAT} file"))
    version = document.pop("version", None)
    if version != VERSION:
        raise SimulatorError(_damaged(path, f"it has version {version!r}, this program reads {VERSION}"))
    try:
        content: Content = _record(Content, document, "world")
        _check(content)
    except _Damaged as damage:
        raise SimulatorError(_damaged(path, str(damage))) from None
    return content


def _check(content: Content) -> None:
    """What the types cannot say."""
    records: tuple[Sequence[Server | Job | Image], ...] = (content.servers, content.jobs, content.images)
    for name, each in zip(("servers", "jobs", "images"), records, strict=True):
        if len({record.id for record in each}) != len(each):
            raise _Damaged(f"world.{name} has the same id twice")
    for job in content.jobs:
        if job.outcome not in ("SUCCESS", "FAILED") or (job.settled and job.ends_at is None):
            raise _Damaged(f"the job {job.id} has an end that cannot be")


def _damaged(path: Path, why: str) -> str:
    return f"the simulator's world {path} is damaged: {why}; delete the file to begin a new world"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return vars(value)


@cache
def _hints(kind: type) -> dict[str, typing.Any]:
    return typing.get_type_hints(kind)


def _record(kind: type, value: object, where: str) -> typing.Any:
    if not isinstance(value, dict):
        raise _Damaged(f"{where} is no object")
    hints = _hints(kind)
    names = [each.name for each in fields(kind)]
    if set(value) != set(names):
        odd = sorted(set(value) ^ set(names))
        raise _Damaged(f"{where} lacks or should not have {', '.join(odd)}")
    return kind(**{name: _value(hints[name], value[name], f"{where}.{name}") for name in names})


def _value(hint: typing.Any, value: object, where: str) -> object:
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(each for each in typing.get_args(hint) if each is not types.NoneType)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        if not isinstance(value, list):
            raise _Damaged(f"{where} is no list")
        return [_value(arguments[0], each, f"{where}[{index}]") for index, each in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise _Damaged(f"{where} is no object")
        return {key: _value(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: type, value: object, where: str) -> object:
    if hint is datetime and isinstance(value, str):
        return _time(value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < MOST_SECONDS:
            raise _Damaged(f"{where} is no number of seconds: {value!r}")
        return float(value)
    # A bool is an int to Python, and a number where a flag belongs is a damage all the same.
    if type(value) is not hint:
        raise _Damaged(f"{where} is no {hint.__name__}: {value!r}")
    return value


def _time(value: str, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _Damaged(f"{where} is no time: {value!r}") from None
    if moment.tzinfo is None:
        raise _Damaged(f"{where} is a time without a zone: {value!r}")
    # Far enough from both ends of the calendar to be reckoned with.
    if not 1970 <= moment.year <= 9000:
        raise _Damaged(f"{where} is a time that cannot be: {value!r}")
    return moment.astimezone(UTC)
