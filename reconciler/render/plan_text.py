"""A plan for a terminal: short, aligned, what matters first."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.diagnostics import Severity
from reconciler.model.plan import Action, Change, FieldDiff, Plan
from reconciler.render.diagnostics import render_diagnostics
from reconciler.render.terminal import Style, clean, duration, table

MARKS = {
    Action.RESUME: ">",
    Action.MOVE: "=",
    Action.FORGET: "-",
    Action.REBUILD: "^",
    Action.BUILD: "+",
    Action.UPDATE: "~",
}
_COLOURS = {
    Action.RESUME: "blue",
    Action.MOVE: "blue",
    Action.FORGET: "red",
    Action.REBUILD: "yellow",
    Action.BUILD: "green",
    Action.UPDATE: "yellow",
}
SIMULATED = "SIMULATED: the embedded simulator stands in for the cloud; no image is built."
# Atlantis and tfcmt recognise this sentence, and the `Plan:` line, by their words.
NO_CHANGES = "No changes. Your infrastructure matches the configuration."


def render_plan(plan: Plan, style: Style, *, verbose: bool = False) -> str:
    """The whole plan, ending in a newline. `verbose` shows the fields of first builds and the notes too."""
    lines: list[str] = []
    if plan.simulated:
        lines += [style(SIMULATED, "cyan"), ""]
    shown = [one for one in plan.diagnostics if verbose or one.severity is not Severity.NOTE]
    if shown:
        lines += [*render_diagnostics(shown, style).splitlines(), ""]
    if plan.overrides:
        lines += [f"var.{clean(one.name)} = {_value(one.value)} (from {clean(one.source)})" for one in plan.overrides]
        lines.append("")
    if plan.changes:
        lines += [*_changes(plan.changes, style, verbose=verbose), "", *summary_lines(plan, style)]
    else:
        held = f" {plan.unchanged} image server{' holds its' if plan.unchanged == 1 else 's hold their'} image."
        lines.append(style(NO_CHANGES, "bold") + (held if plan.unchanged else ""))
    if not plan.refreshed:
        lines.append(style("Planned from manifest and state alone (--no-refresh).", "dim"))
    return "\n".join(lines) + "\n"


def plan_line(plan: Plan) -> str:
    """The counts as Terraform words them: a rebuild adds an image, since the old one stays."""
    add, change = plan.count(Action.BUILD, Action.REBUILD), plan.count(Action.UPDATE)
    return f"Plan: {add} to add, {change} to change, 0 to destroy."


def summary_lines(plan: Plan, style: Style) -> Iterable[str]:
    """The counts in our own words, and what holds the plan back."""
    yield style(plan_line(plan), "bold")
    counts = [f"{count} {name}" for name, count in plan.summary.items() if count and name != "gated"]
    about = f"; about {duration(plan.expected_seconds)}" if plan.expected_seconds else ""
    yield ", ".join(counts) + about
    if plan.gated:
        names = " ".join(f"--allow {change.name}" for change in plan.gated[:3])
        more = " …" if len(plan.gated) > 3 else ""
        yield style(f"{len(plan.gated)} gated: nothing starts unless allowed ({clean(names)}{more}).", "yellow", "bold")


def _changes(changes: Iterable[Change], style: Style, *, verbose: bool) -> Iterable[str]:
    changes = list(changes)
    # The table aligns plain text; the mark is coloured afterwards, since colour codes have no width.
    heads = table([(MARKS[one.action], clean(one.name), _what(one), clean(", ".join(one.reasons))) for one in changes])
    for change, head in zip(changes, heads, strict=True):
        yield f"  {style(head[0], _COLOURS[change.action], 'bold')}{head[1:]}"
        if change.unavailable:
            yield f"      {style('unavailable:', 'yellow')} {clean(change.unavailable)}"
        if change.gated:
            yield f"      {style('gated:', 'yellow')} {clean(change.gated)}"
        if change.action is not Action.BUILD or verbose:
            yield from _fields(change.diff)


def _what(change: Change) -> str:
    """The image that a line is about."""
    if change.action is Action.MOVE:
        return f"was {clean(change.old_name)}"
    if change.action is Action.FORGET:
        return f"image {change.image_id} stays" if change.image_id else "no image"
    spec = change.after or change.before
    return clean(spec.name) if spec is not None else ""


def _fields(diff: Iterable[FieldDiff]) -> Iterable[str]:
    rows = [
        (clean(one.path), _value(one.after) if one.before is None else f"{_value(one.before)} -> {_value(one.after)}")
        for one in diff
    ]
    yield from table(rows, indent="      ")


def _value(value: object) -> str:
    match value:
        case None:
            return "(none)"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + clean(value).replace('"', '\\"') + '"'
        case _:
            return clean(str(value))
