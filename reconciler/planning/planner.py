"""The planner: a pure function of what is declared, recorded and observed. It reads no clock, no disk, no network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from statistics import median

from reconciler.errors import StateError, UsageError
from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.observed import Observation, ObservedJob
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding, BuildStatus, Record, Recorded
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits, Manifest
from reconciler.planning.availability import why_unavailable
from reconciler.planning.decisions import declared_change, forget, resume
from reconciler.planning.guards import limit_changes, loosened, protection, unrecorded_image
from reconciler.planning.selection import Selection, labels_by_name, unknown_name

# What the API page's example took: 23 min 35 s (facts sheet, 2.4).
DOCUMENTED_BUILD_SECONDS = 1414.6

_ORDER = {action: position for position, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Options:
    """How a plan is asked for. `replace` and `allowed` are names; `limits` the manifest's, tightened by flags.

    `build_seconds` is what a build is assumed to take where history has none.
    """

    selection: Selection = field(default_factory=Selection)
    replace: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    allow_empty: bool = False
    limits: Limits = field(default_factory=Limits)
    build_seconds: float = DOCUMENTED_BUILD_SECONDS


def make_plan(
    manifest: Manifest, recorded: Recorded, observed: Observation | None, binding: Binding, options: Options
) -> Plan:
    """Decide what to do. `observed` None plans from manifest and state alone.

    Raises StateError where the state is bound elsewhere, UsageError where a selector or a name matches nothing.
    """
    binding = resolve_binding(binding, recorded)
    labels = labels_by_name(manifest, recorded)
    selected = options.selection.select(labels)
    _check_names(manifest, recorded, options, labels.keys(), selected)

    changes: list[Change] = []
    unchanged = 0
    for declared in manifest.servers.values():
        record = recorded.servers.get(declared.server_id)
        # A renamed server can be selected by either name.
        if declared.name in selected or (
            record is not None and record.name in selected and record.name not in manifest.servers
        ):
            change = declared_change(
                declared,
                record,
                recorded.retired.get(declared.server_id),
                _job(record, observed),
                forced=declared.name in options.replace,
            )
            if change is None:
                unchanged += 1
            else:
                changes.append(_checked(change, declared, record, observed, options))
    changes += _undeclared(manifest, recorded, observed, options, selected)
    # Stable: within one action, the manifest's order.
    changes.sort(key=lambda change: _ORDER[change.action])
    limited = limit_changes(changes, options.limits, options.allowed)

    build_seconds = _build_seconds(recorded) or options.build_seconds
    return Plan(
        plan_id=_plan_id(binding, recorded.lineage, limited),
        lineage=recorded.lineage,
        serial=recorded.serial,
        bound_to=binding,
        changes=limited,
        unchanged=unchanged,
        refreshed=observed is not None,
        expected_seconds=_expected_seconds(limited, build_seconds, options.limits.max_in_flight),
        build_seconds=build_seconds,
        overrides=manifest.overrides,
        diagnostics=(*manifest.diagnostics, *_stateless(manifest, recorded, observed), *loosened(manifest, recorded)),
        limits=manifest.limits,
        protect={declared.server_id: declared.protect for declared in manifest.servers.values()},
    )


def resolve_binding(binding: Binding, recorded: Recorded) -> Binding:
    """Where this plan belongs; what is not known without asking the cloud is taken from the state.

    Raises StateError where the state belongs to another provider, region or project.
    """
    bound = recorded.bound_to
    if bound is None:
        return binding
    complete = Binding(binding.provider, binding.region or bound.region, binding.project_id or bound.project_id)
    if complete != bound:
        raise StateError(
            f"this state belongs elsewhere: it is bound to {bound}; this run is for {complete}",
            hint="Check region and project_id in the manifest and the environment, or name another state with --state.",
        )
    return complete


def _check_names(
    manifest: Manifest, recorded: Recorded, options: Options, known: Iterable[str], selected: frozenset[str]
) -> None:
    for name in sorted(options.allowed.difference(known)):
        raise unknown_name("--allow", name, known)
    for name in sorted(options.replace):
        declared = manifest.servers.get(name)
        if declared is None:
            raise unknown_name("--replace", name, manifest.servers)
        if name not in selected:
            raise UsageError(f"--replace {name}: the selectors leave this server out")
        record = recorded.servers.get(declared.server_id)
        if record is not None and record.in_flight:
            raise UsageError(
                f"--replace {name}: a build of this server is in flight", hint="Let it end first: imgctl wait."
            )


def _job(record: Record | None, observed: Observation | None) -> ObservedJob | None:
    attempt = record.attempt if record is not None else None
    return observed.jobs.get(attempt.job_id) if observed is not None and attempt is not None else None


def _undeclared(
    manifest: Manifest,
    recorded: Recorded,
    observed: Observation | None,
    options: Options,
    selected: frozenset[str],
) -> Iterator[Change]:
    """A resume or a forget for every recorded server that no file declares any more."""
    declared_ids = {declared.server_id for declared in manifest.servers.values()}
    for record in recorded.servers.values():
        if record.server_id in declared_ids or record.name not in selected:
            continue
        if record.in_flight:
            yield resume(None, record, _job(record, observed))
            continue
        change = _checked(forget(record), None, record, observed, options)
        if not manifest.servers and not options.allow_empty:
            change = replace(change, gated="image_servers is empty: --allow-empty forgets every server")
        yield change


def _checked(
    change: Change,
    declared: DeclaredServer | None,
    record: Record | None,
    observed: Observation | None,
    options: Options,
) -> Change:
    """The change with the reasons why it cannot, or must not, start."""
    unavailable = gated = ""
    if change.action.builds:
        forced = change.name in options.replace
        unavailable = why_unavailable(change, record, observed, forced=forced)
    if change.name not in options.allowed:
        gated = protection(change, declared, record) or unrecorded_image(change, record, observed)
    return replace(change, unavailable=unavailable, gated=gated) if unavailable or gated else change


def _stateless(manifest: Manifest, recorded: Recorded, observed: Observation | None) -> Iterator[Diagnostic]:
    """A caution where a state may have been lost: none was found, yet images are there."""
    if observed is None or recorded.exists:
        return
    showing = [
        declared.name
        for declared in manifest.servers.values()
        if (server := observed.servers.get(declared.server_id)) is not None and server.image_id
    ]
    if showing:
        yield Diagnostic(
            Severity.CAUTION,
            f"no state was found, yet {len(showing)} of the declared servers already show an image",
            hint="If there was a state, restore it. Otherwise --allow NAME builds these servers anew.",
        )


def _build_seconds(recorded: Recorded) -> float | None:
    """The median duration of the servers' latest builds, of those that succeeded."""
    seconds = [
        (build.finished_at - build.requested_at).total_seconds()
        for record in recorded.servers.values()
        if (build := record.attempt) is not None
        and build.status is BuildStatus.SUCCEEDED
        and build.finished_at is not None
    ]
    return median(seconds) if seconds else None


def _expected_seconds(changes: Iterable[Change], build_seconds: float, max_in_flight: int | None) -> float:
    waiting = sum(change.starts and (change.action.builds or change.action is Action.RESUME) for change in changes)
    return math.ceil(waiting / (max_in_flight or waiting)) * build_seconds if waiting else 0.0


def _plan_id(binding: Binding, lineage: str, changes: Iterable[Change]) -> str:
    """A digest of the decisions. What only explains them (reasons, availability at this minute) is left out."""

    def spec(value: ImageSpec | None) -> object:
        if value is None:
            return None
        return [value.name, value.description, value.execute_sysprep, sorted(value.triggers.items())]

    decisions = [
        [change.name, change.server_id, change.action.value, spec(change.before), spec(change.after), change.old_name]
        for change in changes
    ]
    text = json.dumps([str(binding), lineage, decisions], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
