"""Flags as values: what a command line said, grouped by what it is about. No defaults are resolved here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.model.spec import Override


@dataclass(frozen=True, slots=True)
class ManifestFlags:
    """Which manifest, and which variables of it are set from outside.

    `recorded` are those that a saved plan was made with: then nothing else sets any, the environment included.
    """

    file: Path
    variables: tuple[str, ...] = ()
    variable_files: tuple[Path, ...] = ()
    recorded: tuple[Override, ...] | None = None


@dataclass(frozen=True, slots=True)
class LockFlags:
    """How to become the only writer: seconds to wait for another one; whether a network file system will do."""

    lock_timeout: float = 0.0
    allow_network_state: bool = False


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """What to plan, and which guards to tighten or to lift by name."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    allow_empty: bool = False
    refresh_only: bool = False
    max_changes: int | None = None
    max_prunes: int | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class RequestFlags:
    """How to talk to the cloud, and how much to say of it."""

    max_requests: int = 16
    verbose: int = 0


@dataclass(frozen=True, slots=True)
class ApplyFlags:
    """How to carry out a plan. Times are in seconds."""

    auto_approve: bool = False
    strict: bool = False
    no_wait: bool = False
    timeout: float | None = None
    note: str = ""
    quiet_time: float = 180.0
