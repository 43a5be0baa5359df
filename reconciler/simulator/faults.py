"""Faults that can be asked for: `KIND=RATE[:SECONDS][@OPERATION][*TIMES]`.

RATE is the share of requests it hits, 0 to 1. SECONDS belongs to some kinds only. OPERATION narrows it to the requests
whose `METHOD /path-template` contains the text; TIMES ends it after so many hits. Three kinds are written otherwise:
`latency=SECONDS` and `rate-limit=N:SECONDS` have no rate, and `garbage=RATE:VARIANT` has a word in place of seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from reconciler.simulator.catalogue import chance
from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.garbage import VARIANTS
from reconciler.simulator.records import Fate

# What each fault does, for help texts and docs/simulator.md. SECONDS where the text says so, in brackets what they are
# where none are given.
FAULT_KINDS = {
    "throttle": "429 from the gateway; SECONDS is the window that the message names (1)",
    "throttle-retry-after": "429 with the header Retry-After: SECONDS (1); the message names no window",
    "throttle-retry-date": "the same, with the time in SECONDS (1) as an HTTP date",
    "throttle-bare": "429 that does not say how long to wait",
    "rate-limit": "429 beyond N requests of a user in SECONDS (1); written rate-limit=N:SECONDS",
    "ims-flow-control": "400 IMG.0060 from IMS: too many tasks at one time; nothing was done",
    "error-5xx": "500, 502, 503 or 504 from the gateway; nothing was done",
    "forbidden": "403 from the service: the user lacks the permission; narrow it with @OPERATION",
    "latency": "every request takes so many SECONDS longer; written latency=SECONDS",
    "drop-before": "the connection is lost before the request took effect",
    "drop-after": "the connection is lost after the request took effect",
    "late-effect": "recreate-image answers 504 and takes effect SECONDS later (1)",
    "garbage": "the request takes effect, its answer is broken; garbage=RATE:VARIANT, or garbage=RATE for any of them",
    "lag": "a build is accepted, but nothing shows it for SECONDS (1)",
    "accept-while-building": "recreate-image is accepted although a build runs on the server",
    "blank-resource-name": "a sub job does not tell the image's name until it ends",
    "refuse-job-list": "the lists of jobs and sub jobs answer 404 APIGW.0101",
    "hide-windows-images": "IMS does not list Windows images, private ones included; asked for by id it shows them",
    "delete-lag": "IMS answers 204 to a DELETE, and goes on showing the image for SECONDS (1)",
    "job-failed": "the build fails",
    "job-stuck": "the build never ends",
    "job-abnormal": "the sub job turns ABNORMAL half-way; ends SECONDS late, never where none are given",
    "job-rollback": "the sub job turns ROLLBACK half-way, and SECONDS later the job is FAILED (half of a build)",
    "job-aborting": "the sub job turns ABORTING half-way, and SECONDS later the job is FAILED (half of a build)",
    "job-waiting": "the job stays WAITING for SECONDS before it runs (as long as a build takes)",
    "job-unknown-status": "the same with a status that no page documents",
}
# The word of job-unknown-status.
UNKNOWN_STATUS = "PREPARING"
# Statuses of a sub job whose job goes on RUNNING.
_TROUBLES = ("ABNORMAL", "ROLLBACK", "ABORTING")
_WITH_SECONDS = frozenset(
    {
        "throttle",
        "throttle-retry-after",
        "throttle-retry-date",
        "rate-limit",
        "late-effect",
        "lag",
        "delete-lag",
        "job-abnormal",
        "job-rollback",
        "job-aborting",
        "job-waiting",
        "job-unknown-status",
    }
)
_FORM = re.compile(
    r"(?P<kind>[a-z0-9-]+)=(?P<rate>[0-9.]+)(:(?P<detail>[a-z0-9.-]+))?(@(?P<only>[^*]+))?(\*(?P<times>[0-9]+))?"
)
_MOST_SECONDS = 1e6
_Item = TypeVar("_Item")


@dataclass
class Fault:
    """One fault. `seconds` None: not said. `left`: how many more times it strikes, None for ever.

    `variant` is garbage's, empty where any will do. `passed` counts what a rate limit let through in the window that
    ends at `ends_at`.
    """

    kind: str
    rate: float
    seconds: float | None = None
    variant: str = ""
    only: str = ""
    left: int | None = None
    passed: int = 0
    ends_at: datetime | None = None

    @property
    def window(self) -> float:
        """A rate limit's window in seconds."""
        return 1.0 if self.seconds is None else self.seconds

    def __str__(self) -> str:
        detail = f":{self.variant}" if self.variant else "" if self.seconds is None else f":{self.seconds:g}"
        only = f"@{self.only}" if self.only else ""
        left = "" if self.left is None else f"*{self.left}"
        return f"{self.kind}={self.rate:g}{detail}{only}{left}"


def parse(text: str) -> Fault:
    """A fault from its text. Raises SimulatorError saying what is allowed."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise SimulatorError(f"the fault {text!r} is not of the form KIND=RATE[:SECONDS][@OPERATION][*TIMES]")
    kind = match["kind"]
    if kind not in FAULT_KINDS:
        raise SimulatorError(f"there is no fault {kind!r}; there are:{_listed(FAULT_KINDS)}")
    rate = _rate(kind, match["rate"], text)
    seconds, variant = None, ""
    if kind == "garbage":
        variant = match["detail"] or ""
        if variant and variant not in VARIANTS:
            raise SimulatorError(f"there is no garbage {variant!r}; there are:{_listed(VARIANTS)}")
    elif match["detail"] is not None:
        seconds = _seconds(kind, match["detail"], text)
    return Fault(kind, rate, seconds, variant, match["only"] or "", int(match["times"]) if match["times"] else None)


def _listed(texts: Mapping[str, str]) -> str:
    width = max(map(len, texts))
    return "".join(f"\n{name:<{width}}  {text}" for name, text in texts.items())


def _rate(kind: str, text: str, whole: str) -> float:
    rate = _number(text, whole)
    if kind == "rate-limit":
        if rate < 1 or rate != int(rate) or rate > _MOST_SECONDS:
            raise SimulatorError(f"the fault {whole!r}: rate-limit takes a whole number of requests, 1 or more")
        return rate
    limit = _MOST_SECONDS if kind == "latency" else 1.0
    if rate > limit:
        raise SimulatorError(f"the fault {whole!r}: {kind} is 0 to {limit:g}")
    return rate


def _seconds(kind: str, text: str, whole: str) -> float:
    if kind == "latency":
        raise SimulatorError(f"the fault {whole!r}: latency is written latency=SECONDS")
    if kind not in _WITH_SECONDS:
        raise SimulatorError(f"the fault {whole!r}: {kind} takes no seconds")
    seconds = _number(text, whole)
    if not 0 <= seconds <= _MOST_SECONDS:
        raise SimulatorError(f"the fault {whole!r}: the seconds of {kind} are 0 to {_MOST_SECONDS:g}")
    return seconds


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SimulatorError(f"the fault {whole!r}: {text!r} is no number")
    return number


class Faults:
    """The faults in force, and the dice. The same seed and the same requests give the same faults."""

    def __init__(self, texts: Iterable[str] = (), *, seed: int = 0) -> None:
        self._seed = seed
        self._faults: dict[str, list[Fault]] = {}
        self.replace(texts)

    def replace(self, texts: Iterable[str], *, seed: int | None = None) -> None:
        """Put these faults in force instead of all others. Raises SimulatorError, and then nothing has changed."""
        faults: dict[str, list[Fault]] = {}
        for text in texts:
            fault = parse(text)
            faults.setdefault(fault.kind, []).append(fault)
        self._seed = self._seed if seed is None else seed
        self._faults = faults
        # Dice of its own for each kind: asking for one fault does not move when another strikes.
        self._dice = {kind: chance(self._seed, "fault", kind) for kind in FAULT_KINDS}

    def __iter__(self) -> Iterator[str]:
        return (str(fault) for faults in self._faults.values() for fault in faults)

    def strike(self, kind: str, operation: str) -> Fault | None:
        """Roll the dice: the fault if it hits this request, None otherwise. `operation`: `METHOD /path-template`."""
        for fault in self._faults.get(kind, ()):
            if fault.only not in operation or fault.left == 0:
                continue
            if self._dice[kind].random() < fault.rate:
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def latency(self, operation: str) -> float:
        """Seconds by which this request is delayed."""
        delay = 0.0
        for fault in self._faults.get("latency", ()):
            if fault.only in operation and fault.left != 0:
                delay += fault.rate
                if fault.left is not None:
                    fault.left -= 1
        return delay

    def seconds(self, kind: str, operation: str, default: float) -> float | None:
        """As `strike`, but the fault's seconds, `default` where it was given none; None where it does not hit."""
        fault = self.strike(kind, operation)
        if fault is None:
            return None
        return default if fault.seconds is None else fault.seconds

    def pick(self, kind: str, among: tuple[_Item, ...]) -> _Item:
        """One of several, by the fault's own dice."""
        return self._dice[kind].choice(among)

    def over_limit(self, operation: str, now: datetime) -> Fault | None:
        """Count a request; the rate limit that it is beyond, None where it may pass.

        A window begins with the first request after the last one has ended.
        """
        for fault in self._faults.get("rate-limit", ()):
            if fault.only not in operation or fault.left == 0:
                continue
            if fault.ends_at is None or now >= fault.ends_at:
                fault.passed, fault.ends_at = 0, now + timedelta(seconds=fault.window)
            if fault.passed >= fault.rate:
                if fault.left is not None:
                    fault.left -= 1
                return fault
            fault.passed += 1
        return None

    def garbage(self, operation: str) -> str:
        """The variant that breaks this request's answer, empty where none does."""
        fault = self.strike("garbage", operation)
        if fault is None:
            return ""
        return fault.variant or self.pick("garbage", tuple(VARIANTS))

    def fate(self, operation: str, build_time: float) -> Fate:
        """What becomes of the build that a recreate-image request asks for."""
        waiting, waits_as = self.seconds("job-waiting", operation, build_time), "WAITING"
        unknown = self.seconds("job-unknown-status", operation, build_time)
        if unknown is not None:
            waiting, waits_as = unknown, UNKNOWN_STATUS
        troubles = {status: self.strike(f"job-{status.lower()}", operation) for status in _TROUBLES}
        trouble, fault = next(((status, fault) for status, fault in troubles.items() if fault), ("", None))
        return Fate(
            lag=self.seconds("lag", operation, 1.0) or 0.0,
            waiting=waiting or 0.0,
            waits_as=waits_as,
            trouble=trouble,
            trouble_seconds=fault.seconds if fault else None,
            stuck=self.strike("job-stuck", operation) is not None,
            failed=self.strike("job-failed", operation) is not None,
            blank_name=self.strike("blank-resource-name", operation) is not None,
            accept_busy=self.strike("accept-while-building", operation) is not None,
        )
