"""What holds a plan back: protections, limits, images that nobody recorded. Guards fail closed, and hide nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.observed import Observation
from reconciler.model.plan import Action, Change
from reconciler.model.record import Record, Recorded
from reconciler.model.spec import DeclaredServer, Limits, Manifest

# What a limit on changes counts: everything that alters an image, or what is managed.
_COUNTED = frozenset({Action.BUILD, Action.REBUILD, Action.UPDATE, Action.FORGET})
# A first build takes nothing away; a resume was approved when it was issued.
_PROTECTED = frozenset({Action.REBUILD, Action.UPDATE, Action.FORGET})


def tighten(limits: Limits, max_changes: int | None, max_prunes: int | None, max_in_flight: int | None) -> Limits:
    """The manifest's limits and the flags', whichever is stricter: a flag never loosens what a review has seen.

    `max_in_flight` 0 means no bound.
    """
    return Limits(
        max_changes=_least(limits.max_changes, max_changes),
        max_prunes=_least(limits.max_prunes, max_prunes),
        max_in_flight=_least(limits.max_in_flight or None, max_in_flight or None),
    )


def protection(change: Change, declared: DeclaredServer | None, record: Record | None) -> str:
    """Why a change to a protected server is gated; empty where it is not."""
    if change.action not in _PROTECTED:
        return ""
    protected = declared.protect if declared is not None else record is not None and record.protect
    return "protected (protect: true)" if protected else ""


def unrecorded_image(change: Change, record: Record | None, observed: Observation | None) -> str:
    """Why a first build is gated where its server already shows an image of which this state knows nothing."""
    server = observed.servers.get(change.server_id) if observed is not None else None
    if change.action is not Action.BUILD or server is None or not server.image_id:
        return ""
    if record is not None and any(build.image_id == server.image_id for build in record.builds):
        return ""
    return f"the server already shows image {server.image_id}, which is not recorded here"


def limit_changes(changes: Iterable[Change], limits: Limits, allowed: frozenset[str]) -> tuple[Change, ...]:
    """The changes, all counted ones gated where there are more of them than `limits.max_changes`."""
    changes = tuple(changes)
    if limits.max_changes is None:
        return changes
    counted = [change for change in changes if change.action in _COUNTED and change.name not in allowed]
    if len(counted) <= limits.max_changes:
        return changes
    why = f"{len(counted)} changes, and max_changes is {limits.max_changes}"
    names = {change.name for change in counted}
    return tuple(
        replace(change, gated=change.gated or why) if change.name in names and change.action in _COUNTED else change
        for change in changes
    )


def loosened(manifest: Manifest, recorded: Recorded) -> list[Diagnostic]:
    """A caution for every guard that the last apply knew and this manifest loosens."""
    found = []
    for field in ("max_changes", "max_prunes", "max_in_flight"):
        before, now = getattr(recorded.limits, field), getattr(manifest.limits, field)
        if before is not None and (now is None or now > before):
            found.append(
                Diagnostic(
                    Severity.CAUTION,
                    f"limits.{field} is loosened: {before} at the last apply, now {'none' if now is None else now}",
                )
            )
    for declared in manifest.servers.values():
        record = recorded.servers.get(declared.server_id)
        if record is not None and record.protect and not declared.protect:
            found.append(
                Diagnostic(
                    Severity.CAUTION,
                    f"{declared.name} is no longer protected",
                    hint="It was at the last apply (protect: true).",
                    origin=declared.origin,
                    name=declared.name,
                )
            )
    return found


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
