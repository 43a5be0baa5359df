"""What holds a plan back: protections, limits, images that nobody recorded. Guards fail closed, and hide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.model.plan import Action, Change
from reconciler.model.spec import Limits
from reconciler.planning.subjects import Subject

# The gate that no name opens.
EMPTY_MANIFEST = "image_servers is empty: to forget takes --allow-empty"

# What a limit on changes counts: everything that alters an image, or what is managed.
_COUNTED = frozenset({Action.BUILD, Action.REBUILD, Action.UPDATE, Action.FORGET})
# A first build takes nothing away; a resume was approved when it was issued.
_PROTECTED = frozenset({Action.REBUILD, Action.UPDATE, Action.FORGET, Action.PRUNE})


def tighten(limits: Limits, max_changes: int | None, max_prunes: int | None, max_in_flight: int | None) -> Limits:
    """The manifest's limits and the flags', whichever is stricter: a flag never loosens what a review has seen.

    `max_in_flight` 0 means no bound.
    """
    return Limits(
        max_changes=_least(limits.max_changes, max_changes),
        max_prunes=_least(limits.max_prunes, max_prunes),
        max_in_flight=_least(limits.max_in_flight or None, max_in_flight or None),
    )


def gate(changes: Iterable[Change], subjects: Mapping[str, Subject], limits: Limits) -> tuple[Change, ...]:
    """The changes with every gate that a name can open; `subjects` by server id."""
    changes = tuple(changes)
    too_many, too_many_prunes = _too_many(changes, limits), _too_many_prunes(changes, limits)
    gated = []
    for change in changes:
        subject = subjects[change.server_id]
        gates = [
            _protection(change, subject),
            _unrecorded_image(change, subject),
            too_many if _counts(change) else "",
            too_many_prunes if change.action is Action.PRUNE and not change.unavailable else "",
        ]
        gated.append(replace(change, gated="; ".join(filter(None, gates))) if any(gates) else change)
    return tuple(gated)


def open_gates(changes: Iterable[Change], allowed: frozenset[str]) -> tuple[Change, ...]:
    """The changes, those without their gates that are allowed by name."""
    return tuple(replace(change, gated="") if change.name in allowed else change for change in changes)


def gate_forgetting(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The changes of a manifest without servers: an empty file is more often an accident than a decision."""
    return tuple(
        replace(change, gated="; ".join(filter(None, (EMPTY_MANIFEST, change.gated))))
        if change.action is Action.FORGET
        else change
        for change in changes
    )


def _protection(change: Change, subject: Subject) -> str:
    return "protected (protect: true)" if change.action in _PROTECTED and subject.protected else ""


def _unrecorded_image(change: Change, subject: Subject) -> str:
    """A first build of a server that already shows an image of which this state knows nothing."""
    server, past = subject.server, subject.past
    if change.action is not Action.BUILD or server is None or not server.image_id:
        return ""
    if past is not None and any(build.image_id == server.image_id for build in past.builds):
        return ""
    return f"the server already shows image {server.image_id}, not recorded here"


def _too_many(changes: Iterable[Change], limits: Limits) -> str:
    """All that the plan would change counts, allowed by name or not: to allow one opens no gate of another."""
    count = sum(map(_counts, changes))
    if limits.max_changes is None or count <= limits.max_changes:
        return ""
    return f"{count} change{'' if count == 1 else 's'}, and max_changes is {limits.max_changes}"


def _too_many_prunes(changes: Iterable[Change], limits: Limits) -> str:
    count = sum(change.action is Action.PRUNE and not change.unavailable for change in changes)
    if limits.max_prunes is None or count <= limits.max_prunes:
        return ""
    return f"{count} prune{'' if count == 1 else 's'}, and max_prunes is {limits.max_prunes}"


def _counts(change: Change) -> bool:
    return change.action in _COUNTED and not change.unavailable


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
