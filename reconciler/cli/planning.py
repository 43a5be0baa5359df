"""The road from inputs to a plan, the same for every command that plans."""

from __future__ import annotations

from reconciler.cli.flags import PlanFlags
from reconciler.cli.inputs import Inputs
from reconciler.model.observed import Observation
from reconciler.model.plan import Plan
from reconciler.model.record import Binding
from reconciler.model.spec import Limits
from reconciler.planning.guards import tighten
from reconciler.planning.planner import DOCUMENTED_BUILD_SECONDS, Options, make_plan
from reconciler.planning.selection import Selection

# The cloud runs so many image tasks at one time (facts sheet, 1.16).
DEFAULT_IN_FLIGHT = 40


def effective_limits(limits: Limits, flags: PlanFlags) -> Limits:
    """The limits that hold: the manifest's, tightened by flags; 40 builds at one time where neither says."""
    in_flight = flags.max_in_flight
    if in_flight is None and not limits.max_in_flight:
        in_flight = DEFAULT_IN_FLIGHT
    return tighten(limits, flags.max_changes, None, in_flight)


def plan_for(inputs: Inputs, observed: Observation | None, binding: Binding, flags: PlanFlags) -> Plan:
    """The plan for these inputs. Raises StateError, UsageError."""
    simulator = inputs.manifest.simulator
    options = Options(
        selection=Selection.parse(flags.targets, flags.excludes, flags.labels),
        replace=frozenset(flags.replace),
        allowed=frozenset(flags.allow),
        allow_empty=flags.allow_empty,
        limits=effective_limits(inputs.manifest.limits, flags),
        build_seconds=simulator.build_time if simulator is not None else DOCUMENTED_BUILD_SECONDS,
    )
    return make_plan(inputs.manifest, inputs.recorded, observed, binding, options)
