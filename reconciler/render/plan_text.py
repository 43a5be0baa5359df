"""A plan for a terminal: short, aligned, what matters first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.plan import Action, Change, Plan
from reconciler.planning.guards import EMPTY_MANIFEST
from reconciler.render.diagnostics import render_diagnostics
from reconciler.render.terminal import LINE_WIDTH, Style, clean, duration, table, width

MARKS = {
    Action.RESUME: ">",
    Action.MOVE: "=",
    Action.FORGET: "-",
    Action.REBUILD: "^",
    Action.BUILD: "+",
    Action.UPDATE: "~",
    Action.PRUNE: "x",
    Action.REFRESH: "<",
}
_COLOURS = {
    Action.RESUME: "blue",
    Action.MOVE: "blue",
    Action.FORGET: "red",
    Action.REBUILD: "yellow",
    Action.BUILD: "green",
    Action.UPDATE: "yellow",
    Action.PRUNE: "red",
    Action.REFRESH: "blue",
}
# What takes longest first.
_COUNTED = (
    Action.REBUILD,
    Action.BUILD,
    Action.UPDATE,
    Action.RESUME,
    Action.MOVE,
    Action.FORGET,
    Action.PRUNE,
    Action.REFRESH,
)
SIMULATED = "SIMULATED: the embedded simulator stands in for the cloud; no image is built."
# Atlantis and tfcmt recognise this sentence, and the `Plan:` line, by their words.
NO_CHANGES = "No changes. Your infrastructure matches the configuration."
_INDENT = " " * 6
_FLAGS_SHOWN = 3
_NOTES_SHOWN = 5


def render_plan(plan: Plan, style: Style, *, verbose: bool = False) -> str:
    """The whole plan, ending in a newline. `verbose` shows the fields of first builds and every note too."""
    lines: list[str] = []
    if plan.simulated:
        lines += [style(SIMULATED, "cyan"), ""]
    if plan.diagnostics:
        lines += [*_diagnostics(plan.diagnostics, style, verbose=verbose), ""]
    if plan.overrides:
        lines += [
            f"var.{clean(one.name)} = {value_text(one.value)} (from {clean(one.source)})" for one in plan.overrides
        ]
        lines.append("")
    if plan.changes:
        lines += [*_changes(plan.changes, style, verbose=verbose), "", *summary_lines(plan, style)]
    elif plan.refresh_only:
        lines.append(style("No changes.", "bold") + " The records say what the cloud shows.")
    else:
        held = f" {plan.unchanged} image server{' holds its' if plan.unchanged == 1 else 's hold their'} image."
        lines.append(style(NO_CHANGES, "bold") + (held if plan.unchanged else ""))
    if plan.refresh_only and plan.changes:
        lines.append(style("Only the records change (--refresh-only).", "dim"))
    if not plan.refreshed:
        lines.append(style("Planned from manifest and state alone (--no-refresh).", "dim"))
    return "\n".join(lines) + "\n"


def plan_line(plan: Plan) -> str:
    """The counts as Terraform words them: a rebuild adds an image, since the old one stays until it is pruned."""
    add, change = plan.count(Action.BUILD, Action.REBUILD), plan.count(Action.UPDATE)
    return f"Plan: {add} to add, {change} to change, {plan.count(Action.PRUNE)} to destroy."


def summary_lines(plan: Plan, style: Style) -> Iterable[str]:
    """The counts in our own words, and what holds the plan back."""
    yield style(plan_line(plan), "bold")
    counts, about = count_line(plan), expectation(plan)
    line = "; ".join(filter(None, (counts, about)))
    yield from (line,) if width(line) <= LINE_WIDTH else (counts, about)
    yield from quota_lines(plan)
    if plan.gated:
        flags = [clean(" ".join(flag)) for flag in opening_flags(plan.gated)]
        more = " …" if len(flags) > _FLAGS_SHOWN else ""
        opened = f"{' '.join(flags[:_FLAGS_SHOWN])}{more}"
        yield style(f"{len(plan.gated)} gated: nothing starts unless allowed ({opened}).", "yellow", "bold")


def count_line(plan: Plan) -> str:
    """The counts in our own words: `57 rebuild, 3 build, 2 unavailable, 40 unchanged`."""
    summary = plan.summary
    return ", ".join(f"{summary[name]} {name}" for name in (*_COUNTED, "unavailable", "unchanged") if summary[name])


def expectation(plan: Plan) -> str:
    """How long the builds will take together: `about 48 min`; empty where there are none."""
    return f"about {duration(plan.expected_seconds)}" if plan.expected_seconds else ""


def quota_lines(plan: Plan) -> Iterable[str]:
    """How far the quota of private images reaches, wherever the plan takes places in it."""
    taken = plan.count(Action.BUILD, Action.REBUILD)
    if plan.quota is None or not taken:
        return
    # Builds in flight end too, those of servers that are left out as well.
    after = plan.quota.used + taken + plan.in_flight - plan.count(Action.PRUNE)
    yield f"Private images: {plan.quota.used} of {plan.quota.limit} in the quota now, {after} afterwards."
    if plan.queued:
        builds = "1 of the builds waits" if plan.queued == 1 else f"{plan.queued} of the builds wait"
        yield f"{builds} for places that prunes give back."


def _diagnostics(diagnostics: Sequence[Diagnostic], style: Style, *, verbose: bool) -> Iterable[str]:
    """Every caution, and the first notes: a reviewer must not lose the one for the many."""
    notes = [one for one in diagnostics if one.severity is Severity.NOTE]
    shown = notes if verbose else notes[:_NOTES_SHOWN]
    cautions = [one for one in diagnostics if one.severity is not Severity.NOTE]
    yield from render_diagnostics([*cautions, *shown], style).removesuffix("\n").split("\n")
    if len(shown) < len(notes):
        yield f"({len(notes) - len(shown)} more notes: -v shows them)"


def opening_flags(gated: Iterable[Change]) -> list[tuple[str, ...]]:
    """The flags that would open every gate, each with its value; that of an empty manifest opens to no name."""
    flags: dict[tuple[str, ...], None] = {}
    for change in gated:
        gates = change.gated.split("; ")
        if EMPTY_MANIFEST in gates:
            flags[("--allow-empty",)] = None
        if gates != [EMPTY_MANIFEST]:
            flags["--allow", change.name] = None
    return list(flags)


def _changes(changes: Sequence[Change], style: Style, *, verbose: bool) -> Iterable[str]:
    # The table aligns plain text; the mark is coloured afterwards, since colour codes have no width.
    heads = table([(MARKS[one.action], clean(one.name), _what(one), _reasons(one)) for one in changes], indent="  ")
    bare = table([(MARKS[one.action], clean(one.name), _what(one)) for one in changes], indent="  ")
    for change, head, without in zip(changes, heads, bare, strict=True):
        fits = width(head) <= LINE_WIDTH
        line = head if fits else without
        yield f"{line[:2]}{style(line[2], _COLOURS[change.action], 'bold')}{line[3:]}"
        if not fits:
            yield from (f"{_INDENT}{clean(reason)}" for reason in change.reasons)
        if change.unavailable:
            yield f"{_INDENT}{style('unavailable:', 'yellow')} {clean(change.unavailable)}"
        if change.gated:
            yield f"{_INDENT}{style('gated:', 'yellow')} {clean(change.gated)}"
        if change.action is not Action.BUILD or verbose:
            yield from _fields(change)


def _reasons(change: Change) -> str:
    return clean(", ".join(change.reasons))


def _what(change: Change) -> str:
    """The image that a line is about."""
    image = f"image {clean(change.image_id)}" if change.image_id else "no image"
    if change.action is Action.REFRESH:
        return image
    if change.action is Action.MOVE:
        return f"was {clean(change.old_name)}" if change.old_name else image
    if change.action is Action.FORGET:
        return f"{image} stays" if change.image_id else image
    spec = change.after or change.before
    return clean(spec.name) if spec is not None else ""


def _fields(change: Change) -> Iterable[str]:
    """What differs, a field each; both sides below each other where they are too long for one line."""
    first = change.action is Action.BUILD
    rows = [
        (clean(one.path), value_text(one.after) if first else f"{value_text(one.before)} -> {value_text(one.after)}")
        for one in change.diff
    ]
    for one, line in zip(change.diff, table(rows, indent=_INDENT), strict=True):
        if first or width(line) <= LINE_WIDTH:
            yield line
        else:
            yield f"{_INDENT}{clean(one.path)}"
            yield f"{_INDENT}     {value_text(one.before)}"
            yield f"{_INDENT}  -> {value_text(one.after)}"


def value_text(value: object) -> str:
    """One side of a field as people read it, clean: a text in quotes, `(none)` for what is absent."""
    match value:
        case None:
            return "(none)"
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + clean(value).replace('"', '\\"') + '"'
        case _:
            return clean(str(value))
