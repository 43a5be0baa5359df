"""The road from inputs to a plan, the same for every command that plans."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from reconciler.cli.flags import PlanFlags
from reconciler.cli.inputs import Inputs
from reconciler.errors import UsageError
from reconciler.model.observed import Observation
from reconciler.model.plan import Plan
from reconciler.model.record import Binding
from reconciler.model.spec import Limits
from reconciler.planning.guards import tighten
from reconciler.planning.places import CONCURRENT_IMAGE_TASKS
from reconciler.planning.planner import DOCUMENTED_BUILD_SECONDS, Options, make_plan
from reconciler.planning.selection import Selection

NOBODY: Mapping[str, str] = MappingProxyType({})


def effective_limits(limits: Limits, flags: PlanFlags) -> Limits:
    """The limits that hold: the manifest's, tightened by flags; as many builds at one time as IMS allows by default."""
    in_flight = flags.max_in_flight
    if in_flight is None and not limits.max_in_flight:
        in_flight = CONCURRENT_IMAGE_TASKS
    return tighten(limits, flags.max_changes, flags.max_prunes, in_flight)


def selection(flags: PlanFlags) -> Selection:
    """Which servers the flags are about. Raises UsageError."""
    return Selection.parse(flags.targets, flags.excludes, flags.labels)


def plan_for(
    inputs: Inputs,
    observed: Observation | None,
    binding: Binding,
    flags: PlanFlags,
    busy: Mapping[str, str] = NOBODY,
) -> Plan:
    """The plan for these inputs. `busy` says which servers other runs have, and who. Raises StateError, UsageError."""
    return make_plan(inputs.manifest, inputs.recorded, observed, binding, options_for(inputs, flags, busy))


def options_for(inputs: Inputs, flags: PlanFlags, busy: Mapping[str, str] = NOBODY) -> Options:
    """How a plan is asked for by these flags. Raises UsageError."""
    if flags.refresh_only and flags.replace:
        raise UsageError(
            "--refresh-only builds nothing, and --replace asks for a build", hint="Leave one of them away."
        )
    simulator = inputs.manifest.simulator
    return Options(
        selection=selection(flags),
        replace=frozenset(flags.replace),
        allowed=frozenset(flags.allow),
        allow_empty=flags.allow_empty,
        refresh_only=flags.refresh_only,
        limits=effective_limits(inputs.manifest.limits, flags),
        busy=busy,
        build_seconds=simulator.build_time if simulator is not None else DOCUMENTED_BUILD_SECONDS,
    )
