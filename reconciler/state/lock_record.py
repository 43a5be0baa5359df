"""The record of a lock that outlives its owner: what is left with the server, and what it says of the owner later.

Terraform's seven fields, of which servers keep different ones. GitLab keeps the ID, the user and the time; asked who
holds a lock, it answers the other fields with what the asker has just sent. So the ID itself says who we are:

    apply.runner-7.4711.jobs-12345.20261124T101500Z.4f2a9c01d3e8     operation, host, process, CI run, since, random
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from urllib.parse import urlsplit

from reconciler import __version__
from reconciler.state.store import HeldLock, LockHolder

_LONGEST_PART = 60
_LONGEST_ID = 255
_OURS = re.compile(
    r"(?P<operation>[A-Za-z-]+)\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.(?P<run>[A-Za-z0-9-]+)"
    r"\.(?P<since>\d{8}T\d{6}Z)\.[0-9a-f]{12}"
)
_NO_RUN = "-"


def new_record(holder: LockHolder, path: str) -> dict[str, str]:
    """The record to lock with; its ID was never used before."""
    run = "-".join(part for part in urlsplit(holder.run).path.split("/")[-2:] if part)
    since = holder.since.replace("-", "").replace(":", "")
    parts = (_part(holder.operation), _part(holder.host), str(holder.pid), _part(run), since, token_hex(6))
    return {
        "ID": ".".join(parts),
        "Operation": holder.operation,
        "Info": holder.run,
        "Who": f"{holder.who}@{holder.host}",
        "Version": __version__,
        "Created": holder.since,
        "Path": path,
    }


def held_lock(told: Mapping[str, object], now: datetime, *, keeps_all: bool) -> HeldLock:
    """A lock as a server tells of it. `keeps_all` is False for a server that mixes it with what the asker sent."""
    lock_id = _printable(told.get("ID"), _LONGEST_ID)
    who = _printable(told.get("Who")) or "somebody"
    created = _time(_printable(told.get("Created")))
    ours = _OURS.fullmatch(lock_id)
    operation = run = ""
    if ours is not None:
        operation = ours["operation"].replace("-", " ")
        run = "" if ours["run"] == _NO_RUN else ours["run"].replace("-", " ")
        who += f" on {ours['host']} (process {ours['pid']})"
        created = created or _time(ours["since"])
    elif keeps_all:
        operation = _printable(told.get("Operation"))
    if keeps_all and told.get("Info"):
        run = _printable(told["Info"])
    words = [who]
    if created is not None:
        words.append(f"since {created:%Y-%m-%d %H:%M:%S} UTC ({_age(now - created)})")
    words += [text for text in (f"for {operation}" if operation else "", f"run {run}" if run else "") if text]
    return HeldLock(lock_id, ", ".join(words), {str(key): value for key, value in told.items()})


def way_out(lock_id: str) -> str:
    """The command that takes a lock away; safe to be copied into a shell, whoever chose the ID."""
    return f"imgctl state force-unlock {shlex.quote(lock_id)}"


def _part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text)[:_LONGEST_PART].strip("-") or _NO_RUN


def _printable(value: object, longest: int = 200) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(char for char in text if char.isprintable())[:longest]


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _age(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "less than a minute ago"
