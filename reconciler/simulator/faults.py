"""Faults that can be asked for: `KIND=RATE[:SECONDS][@OPERATION][*TIMES]`.

RATE is the share of requests it hits, 0 to 1. SECONDS belongs to some kinds only. OPERATION narrows it to the requests
whose `METHOD /path-template` contains the text; TIMES ends it after so many hits. `latency=SECONDS` has no rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from reconciler.simulator.catalogue import chance
from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.records import Fate

# What each fault does, for help texts. SECONDS where the text says so.
FAULT_KINDS = {
    "throttle": "429 from the gateway; SECONDS is the window that the message names (1)",
    "error-5xx": "500, 502, 503 or 504 from the gateway; nothing was done",
    "forbidden": "403 from the service: the user lacks the permission; narrow it with @OPERATION",
    "latency": "every request takes so many SECONDS longer; written latency=SECONDS",
    "drop-before": "the connection is lost before the request took effect",
    "drop-after": "the connection is lost after the request took effect",
    "late-effect": "recreate-image answers 504 and takes effect SECONDS later (1)",
    "lag": "a build is accepted, but nothing shows it for SECONDS (1)",
    "accept-while-building": "recreate-image is accepted although a build runs on the server",
    "blank-resource-name": "a sub job does not tell the image's name until it ends",
    "refuse-job-list": "the lists of jobs and sub jobs answer 404 APIGW.0101",
    "job-failed": "the build fails",
    "job-stuck": "the build never ends",
    "job-abnormal": "the sub job turns ABNORMAL half-way; ends SECONDS late, never where none are given",
    "job-waiting": "the job stays WAITING for SECONDS before it runs (as long as a build takes)",
}
_WITH_SECONDS = frozenset({"throttle", "late-effect", "lag", "job-abnormal", "job-waiting"})
_FORM = re.compile(
    r"(?P<kind>[a-z0-9-]+)=(?P<rate>[0-9.]+)(:(?P<seconds>[0-9.]+))?(@(?P<only>[^*]+))?(\*(?P<times>[0-9]+))?"
)
_MOST_SECONDS = 1e6


@dataclass
class Fault:
    """One fault. `seconds` None: not said. `left`: how many more times it strikes, None for ever."""

    kind: str
    rate: float
    seconds: float | None = None
    only: str = ""
    left: int | None = None

    def __str__(self) -> str:
        seconds = "" if self.seconds is None else f":{self.seconds:g}"
        only = f"@{self.only}" if self.only else ""
        left = "" if self.left is None else f"*{self.left}"
        return f"{self.kind}={self.rate:g}{seconds}{only}{left}"


def parse(text: str) -> Fault:
    """A fault from its text. Raises SimulatorError saying what is allowed."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise SimulatorError(f"the fault {text!r} is not of the form KIND=RATE[:SECONDS][@OPERATION][*TIMES]")
    kind = match["kind"]
    if kind not in FAULT_KINDS:
        raise SimulatorError(f"there is no fault {kind!r}; there are {', '.join(FAULT_KINDS)}")
    rate = _number(match["rate"], text)
    seconds = None if match["seconds"] is None else _number(match["seconds"], text)
    if kind == "latency":
        if seconds is not None:
            raise SimulatorError(f"the fault {text!r}: latency is written latency=SECONDS")
        limit = _MOST_SECONDS
    else:
        limit = 1.0
    if rate > limit:
        raise SimulatorError(f"the fault {text!r}: {kind} is 0 to {limit:g}")
    if seconds is not None and seconds > _MOST_SECONDS:
        raise SimulatorError(f"the fault {text!r}: the seconds of {kind} are 0 to {_MOST_SECONDS:g}")
    if seconds is not None and kind not in _WITH_SECONDS:
        raise SimulatorError(f"the fault {text!r}: {kind} takes no seconds")
    return Fault(kind, rate, seconds, match["only"] or "", int(match["times"]) if match["times"] else None)


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

    def pick(self, kind: str, among: tuple[int, ...]) -> int:
        """One of several, by the fault's own dice."""
        return self._dice[kind].choice(among)

    def fate(self, operation: str, build_time: float) -> Fate:
        """What becomes of the build that a recreate-image request asks for."""
        return Fate(
            lag=self.seconds("lag", operation, 1.0) or 0.0,
            waiting=self.seconds("job-waiting", operation, build_time) or 0.0,
            abnormal=self.seconds("job-abnormal", operation, 0.0),
            stuck=self.strike("job-stuck", operation) is not None,
            failed=self.strike("job-failed", operation) is not None,
            blank_name=self.strike("blank-resource-name", operation) is not None,
            accept_busy=self.strike("accept-while-building", operation) is not None,
        )
