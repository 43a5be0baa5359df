"""Plans that were approved before they are applied: saved in a file, or known by their id."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from reconciler import __version__
from reconciler.cli.flags import ManifestFlags, PlanFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.plan_files import read_plan_file, write_plan_file
from reconciler.cli.planning import options_for, plan_for, selection
from reconciler.errors import StalePlan, StateError, UsageError
from reconciler.model.observed import Observation
from reconciler.model.plan import Change, Plan
from reconciler.model.record import Binding
from reconciler.planning.approval import (
    Approval,
    Asked,
    Moved,
    approve,
    as_approved,
    done_before,
    elsewhere,
    options_again,
    remainder,
)
from reconciler.planning.planner import make_plan
from reconciler.planning.rewind import begun, rewound
from reconciler.planning.subjects import selected_servers
from reconciler.render.saved_plan import SavedPlan, decode, encode
from reconciler.render.terminal import clean, plural

_MOVED_SHOWN = 50
_PLAN_ID = re.compile(r"[0-9a-f]{64}")
_ID_SHOWN = 12


class Approved(Protocol):
    """What apply has instead of a person to ask."""

    def servers(self, inputs: Inputs) -> frozenset[str]:
        """The ids of the servers that it is about. Raises UsageError where selectors say it, and match nothing."""
        ...

    def before_looking(self, inputs: Inputs) -> None:
        """Raise StalePlan where it is certain, without asking the cloud, that the approval is for something else."""
        ...

    def plan(self, inputs: Inputs, observed: Observation, binding: Binding, busy: Mapping[str, str]) -> Plan:
        """What is left to be done of what was approved. Raises StalePlan where something else would be done."""
        ...

    @property
    def heading(self) -> str:
        """What is being applied, in one line."""
        ...

    @property
    def settled(self) -> str:
        """What to say where nothing is left to be done."""
        ...


def save(path: Path, plan: Plan, source: ManifestFlags, flags: PlanFlags, inputs: Inputs) -> None:
    """Save a plan for review and apply. Raises UsageError."""
    approval = approve(plan, asked_for(source, flags), inputs.manifest, inputs.recorded)
    write_plan_file(path, encode(SavedPlan(approval, datetime.now(UTC), __version__)))


def load(path: Path) -> SavedPlan:
    """A saved plan. Raises PlanFileError."""
    return decode(read_plan_file(path), str(path))


def asked_for(source: ManifestFlags, flags: PlanFlags) -> Asked:
    """What these flags ask for. What opens gates is not part of it: that is said when the plan is applied."""
    return Asked(
        str(source.file),
        flags.targets,
        flags.excludes,
        flags.labels,
        flags.replace,
        flags.max_changes,
        flags.max_prunes,
        flags.max_in_flight,
    )


def next_step(path: Path, source: ManifestFlags, state: str | None, flags: PlanFlags) -> str:
    """The command that applies a saved plan."""
    words = ["imgctl", "apply", str(path)]
    if source.file != Path("imgctl.yaml"):
        words += ["-f", str(source.file)]
    if state:
        words += ["--state", state]
    for name in flags.allow:
        words += ["--allow", name]
    if flags.allow_empty:
        words.append("--allow-empty")
    return shlex.join(words)


def check_beside_file(source: ManifestFlags, flags: PlanFlags) -> None:
    """Raise UsageError where a flag asks for something else than the saved plan: what it was asked for is in it."""
    given = {
        "--target": flags.targets,
        "--exclude": flags.excludes,
        "--label": flags.labels,
        "--replace": flags.replace,
        "--refresh-only": flags.refresh_only,
        "--var": source.variables,
        "--var-file": source.variable_files,
    }
    for flag, value in given.items():
        if value:
            raise UsageError(
                f"{flag} cannot stand beside a saved plan, which was made with its own",
                hint="Plan again with it, and have that plan approved: imgctl plan --out FILE",
            )


class SavedApproval:
    """The approval that a saved plan is. `label` names it: its file, or what proved it; `flags` are this run's."""

    def __init__(self, approval: Approval, flags: PlanFlags, label: str) -> None:
        self._approval = approval
        self._flags = flags
        self._label = label
        self._done: tuple[Change, ...] = ()

    def servers(self, inputs: Inputs) -> frozenset[str]:
        """See Approved."""
        del inputs
        return frozenset(change.server_id for change in self._approval.plan.changes)

    def is_done(self, inputs: Inputs) -> bool:
        """True where the records show that earlier runs have done all of it. Raises StalePlan."""
        self.before_looking(inputs)
        changes = self._approval.plan.changes
        self._done = done_before(self._approval, inputs.recorded)
        return bool(changes) and len(self._done) == len(changes)

    def before_looking(self, inputs: Inputs) -> None:
        """See Approved."""
        plan, recorded = self._approval.plan, inputs.recorded
        self._check_binding(inputs.binding)
        # A plan that was made before there was a state is bound to none: then its servers have no records either.
        if plan.lineage and not recorded.exists:
            raise StalePlan(
                f"{self._label} was made with a state, and there is none at {inputs.store}",
                hint="Name the state that it was made with: --state, or IMGCTL_STATE.",
            )
        if plan.lineage and plan.lineage != recorded.lineage:
            raise StalePlan(
                f"{self._label} was made with another state than the one at {inputs.store}",
                hint=f"Its lineage is {plan.lineage}, that of this state {recorded.lineage}. Name the right one with "
                "--state, or plan again.",
            )

    def plan(self, inputs: Inputs, observed: Observation, binding: Binding, busy: Mapping[str, str]) -> Plan:
        """See Approved."""
        self._check_binding(binding)
        approval = self._approval
        asked = options_for(inputs, self._flags, busy)
        options = options_again(approval, inputs.manifest, inputs.recorded, observed, asked)
        fresh = make_plan(inputs.manifest, inputs.recorded, observed, binding, options)
        left = remainder(approval, fresh, inputs.manifest, inputs.recorded, observed)
        if left.moved:
            raise self._stale(left.moved)
        self._done = left.done
        return as_approved(approval, fresh, left.changes, inputs.manifest, inputs.recorded)

    @property
    def heading(self) -> str:
        """See Approved."""
        plan_id = self._approval.plan.plan_id[:_ID_SHOWN]
        if not self._done:
            return f"Plan {plan_id}, approved as {clean(self._label)}."
        changes = plural(len(self._approval.plan.changes), "change")
        return f"Plan {plan_id}, approved as {clean(self._label)}: {len(self._done)} of {changes} done before."

    @property
    def settled(self) -> str:
        """See Approved."""
        plan = self._approval.plan
        if not plan.changes:
            return f"Plan {plan.plan_id[:_ID_SHOWN]} has no changes: there is nothing to do."
        changes = "its change is" if len(plan.changes) == 1 else f"its {len(plan.changes)} changes are"
        return f"Plan {plan.plan_id[:_ID_SHOWN]} was applied already: {changes} done."

    def _check_binding(self, binding: Binding) -> None:
        approved = self._approval.plan.bound_to
        if elsewhere(approved, binding):
            raise StalePlan(
                f"{self._label} was made for {approved}; this run is for {binding}",
                hint="Check region, project_id and provider in the manifest and the environment, or plan again.",
            )

    def _stale(self, moved: Iterable[Moved]) -> StalePlan:
        moved = tuple(moved)
        lines = [f"{one.name}: {'; '.join(one.how)}" for one in moved[:_MOVED_SHOWN]]
        if len(moved) > _MOVED_SHOWN:
            lines.append(f"and {len(moved) - _MOVED_SHOWN} more")
        made_of = self._approval.asked.manifest
        return StalePlan(
            f"{self._label} is stale: {plural(len(moved), 'server')} moved since, so nothing was started",
            hint="\n".join((*lines, f"It was made of {made_of}. Plan again, and have that plan approved.")),
        )


class ExpectedId:
    """The approval that a plan's id is: it holds for this run's flags, or for what is left of the plan once begun."""

    def __init__(self, plan_id: str, source: ManifestFlags, flags: PlanFlags) -> None:
        if not _PLAN_ID.fullmatch(plan_id):
            raise UsageError(
                f"--expect {plan_id} is no plan id",
                hint="An id has 64 hexadecimal digits; imgctl plan --format json prints it as plan_id.",
            )
        self._plan_id = plan_id
        self._asked = asked_for(source, flags)
        self._flags = flags
        self._begun: SavedApproval | None = None

    def servers(self, inputs: Inputs) -> frozenset[str]:
        """See Approved."""
        try:
            return selected_servers(inputs.manifest, inputs.recorded, selection(self._flags))
        except UsageError:
            # A selector may not fit any more what it fitted when the plan was begun.
            if not begun(inputs.recorded, self._plan_id):
                raise
            return frozenset()

    def before_looking(self, inputs: Inputs) -> None:
        """See Approved."""

    def plan(self, inputs: Inputs, observed: Observation, binding: Binding, busy: Mapping[str, str]) -> Plan:
        """See Approved."""
        builds = begun(inputs.recorded, self._plan_id)
        found = ""
        try:
            fresh = plan_for(inputs, observed, binding, self._flags, busy)
        except UsageError:
            # --replace, or a selector, may not fit any more what it fitted when the plan was begun.
            if not builds:
                raise
        else:
            if fresh.plan_id == self._plan_id:
                return fresh
            found = fresh.plan_id
        for past, seen in rewound(inputs.recorded, observed, self._plan_id) if builds else ():
            try:
                approved = plan_for(replace(inputs, recorded=past), seen, binding, self._flags, busy)
            except (UsageError, StateError):
                continue
            if approved.plan_id == self._plan_id:
                approval = approve(approved, self._asked, inputs.manifest, past)
                self._begun = SavedApproval(approval, self._flags, "--expect")
                return self._begun.plan(inputs, observed, binding, busy)
        raise self._stale(found, builds)

    @property
    def heading(self) -> str:
        """See Approved."""
        return self._begun.heading if self._begun is not None else f"Plan {self._plan_id[:_ID_SHOWN]}, as expected."

    @property
    def settled(self) -> str:
        """See Approved."""
        if self._begun is not None:
            return self._begun.settled
        return f"Plan {self._plan_id[:_ID_SHOWN]} has no changes: there is nothing to do."

    def _stale(self, found: str, builds: int) -> StalePlan:
        lines = [f"expected {self._plan_id}", f"found    {found or 'none: these flags do not fit any more'}"]
        if builds:
            lines.append(
                f"{plural(builds, 'build')} of the expected plan {'is' if builds == 1 else 'are'} recorded, but that "
                "the rest is what is left of it cannot be proven: a saved plan can be continued, imgctl apply FILE."
            )
        lines.append("imgctl plan shows what would be done now; have that approved.")
        return StalePlan("another plan comes out than the expected one, so nothing was started", hint="\n".join(lines))
