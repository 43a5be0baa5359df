"""A plan as the comment of a pull or merge request: what happens, what goes away and what to do, then every change.

It never exceeds the characters that it is given. What does not fit is left out from the bottom: fields first, then rows
of the index, and the top says how many.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.review import Review
from reconciler.render.changes_markdown import (
    LONGEST_NAME,
    RISK,
    Folds,
    Index,
    by_risk,
    folds,
    image_of,
    index,
)
from reconciler.render.markdown import alert, code, comment, cut, details, prose, size
from reconciler.render.plan_text import (
    NO_CHANGES,
    SIMULATED,
    count_line,
    expectation,
    opening_flags,
    plan_line,
    quota_lines,
    value_text,
)
from reconciler.render.terminal import clean, plural

# GitHub takes 65,536: the difference is for what a workflow puts around the comment.
MAX_CHARACTERS = 60_000
# What stands above the index must fit whatever the plan is.
LEAST_CHARACTERS = 6_000

_LONGEST_ROOT = 80
_LONGEST_LINEAGE = 64
# A command that was cut could apply more than was planned: a longer one is not shown.
_LONGEST_COMMAND = 500
_LONGEST_SENTENCE = 400
_NAMES_SHOWN = 10
_CAUTIONS_SHOWN = 20
_FLAGS_SHOWN = 3
_OVERRIDES_SHOWN = 20
# Around every block: the empty line that ends it.
_GAP = 2

# One entry of a list, written only if there is room for it: there may be thousands.
_Item = Callable[[], str]


def render_plan_markdown(plan: Plan, review: Review, *, max_characters: int = MAX_CHARACTERS) -> str:
    """The comment, ending in a newline; `max_characters` is at least LEAST_CHARACTERS."""
    changes = by_risk(plan.changes)
    top = [_title(plan, review), _summary(plan, review, changes)]
    bottom = [_footer(plan)]
    # The marker and the notice of what was left out depend on all others: room is kept for the longest of them.
    most = len(changes)
    kept = [_marker(plan, review, most, most), _left_out(Index((), most), Folds((), 0, most), most)]
    room = max_characters - 1 - sum(size(block) + _GAP for block in (*kept, *top, *bottom) if block)

    wary = [one for one in plan.diagnostics if one.severity is not Severity.NOTE]
    said = [partial(_sentence, one) for one in wary[:_CAUTIONS_SHOWN]]
    cautions = _fitting("CAUTION", [*_goes_away(changes), *said], room // 3)
    held = _fitting("WARNING", [*_gated(plan), *_unavailable(plan)], room // 4)
    context = _fitted((partial(str, one) for one in _context(plan, review)), room // 8)
    notes = _notes(wary[_CAUTIONS_SHOWN:], plan.diagnostics, room // 8)
    room -= sum(size(block) + _GAP for block in (cautions, held, context, notes) if block)

    rows = index(changes, review, room)
    room -= sum(size(block) + _GAP for block in rows.blocks)
    fields = folds(changes, room)
    notice = _left_out(rows, fields, most)
    blocks = [
        _marker(plan, review, most, fields.shown) + "\n" + top[0],
        *top[1:],
        cautions,
        held,
        notice,
        context,
        *rows.blocks,
        notes,
        *fields.blocks,
        *bottom,
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def review_key(plan: Plan, review: Review) -> str:
    """What tells the comment of this plan from those of other manifests, projects and selections: 16 characters.

    The same for every plan of one pull request: nothing in it changes with what is declared, nor with the machine.
    """
    bound = plan.bound_to
    facts = [review.root, bound.provider, bound.region, bound.project_id, list(review.selectors)]
    return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode("ascii")).hexdigest()[:16]


def _marker(plan: Plan, review: Review, changes: int, shown: int) -> str:
    facts: dict[str, object] = {
        "v": 1,
        "key": review_key(plan, review),
        "root": cut(review.root, _LONGEST_ROOT),
        "plan": plan.plan_id,
        "lineage": cut(plan.lineage, _LONGEST_LINEAGE),
        "serial": plan.serial,
        "changes": changes,
        "shown": shown,
    }
    return comment("plan", facts)


def _title(plan: Plan, review: Review) -> str:
    root = f" {code(_tail(review.root))}" if review.root else ""
    summary = plan.summary
    counts = [plural(summary[action.value], action.value) for action in RISK if summary[action.value]]
    counts += [f"{summary[name]} {name}" for name in ("gated", "unavailable") if summary[name]]
    said = ", ".join(counts) if counts else "no changes"
    return f"### {'SIMULATED: ' if plan.simulated else ''}imgctl{root}: {said}"


def _summary(plan: Plan, review: Review, changes: Sequence[Change]) -> str:
    """What a reviewer reads if nothing else: the counts, and the next step."""
    if not changes:
        return _unchanged(plan)
    counts = "; ".join(filter(None, (count_line(plan), expectation(plan))))
    return f"{plan_line(plan)} {counts}.\\\n**Next:** {_next(plan, review, changes)}"


def _unchanged(plan: Plan) -> str:
    if plan.refresh_only:
        return "No changes. The records say what the cloud shows."
    held = f" {plan.unchanged} image server{' holds its' if plan.unchanged == 1 else 's hold their'} image."
    return NO_CHANGES + (held if plan.unchanged else "")


def _next(plan: Plan, review: Review, changes: Sequence[Change]) -> str:
    if all(change.unavailable for change in changes):
        return "nothing can start now. What is unavailable is listed below; plan again once that is settled."
    if not plan.gated:
        return f"review, merge, then {_command(review.command)}."
    flags = opening_flags(plan.gated)
    gates = f"nothing starts while {plural(len(plan.gated), 'change')} {'is' if len(plan.gated) == 1 else 'are'} gated"
    if len(flags) > _FLAGS_SHOWN:
        opened = f"{_command(review.command)} with {code('--allow NAME')} for each"
        return f"{gates}, see below. Where all of them are right, merge, then {opened}."
    command = f"{review.command} {shlex.join(word for flag in flags for word in flag)}" if review.command else ""
    return f"{gates}, see below. Where that is right, merge, then {_command(command)}."


def _command(command: str) -> str:
    if command and command.isprintable() and len(command) <= _LONGEST_COMMAND:
        return code(command)
    return f"{code('imgctl apply')} with the flags of this plan"


def _goes_away(changes: Sequence[Change]) -> Iterator[_Item]:
    """What a reviewer cannot get back, or what nobody will look after any more."""
    pruned = [change for change in changes if change.action is Action.PRUNE and not change.unavailable]
    if pruned:
        yield partial(_pruned, pruned)
    forgotten = [change for change in changes if change.action is Action.FORGET and not change.unavailable]
    if forgotten:
        yield partial(_forgotten, forgotten)


def _pruned(changes: Sequence[Change]) -> str:
    shown = ", ".join(f"{image_of(one)} of {_named(one.name)}" for one in changes[:_NAMES_SHOWN])
    more = f" and {len(changes) - _NAMES_SHOWN} more" if len(changes) > _NAMES_SHOWN else ""
    return f"**{plural(len(changes), 'image')} deleted** in IMS, after the new build has succeeded: {shown}{more}"


def _forgotten(changes: Sequence[Change]) -> str:
    kept = "its image stays" if len(changes) == 1 else "their images stay"
    return f"**{plural(len(changes), 'image server')} no longer managed** ({kept}): {_listed(changes)}"


def _gated(plan: Plan) -> Iterator[_Item]:
    """What keeps everything from starting, and what to do about it."""
    if plan.gated:
        yield partial(_gates, plan.gated)
        yield from _by_reason((change, gate) for change in plan.gated for gate in change.gated.split("; "))


def _gates(gated: Sequence[Change]) -> str:
    flags = opening_flags(gated)
    shown = " ".join(code(cut(shlex.join(flag), LONGEST_NAME + 20)) for flag in flags[:_NAMES_SHOWN])
    more = " …" if len(flags) > _NAMES_SHOWN else ""
    return f"**{len(gated)} gated: nothing starts.** Look at each; where it is right, apply with {shown}{more}"


def _unavailable(plan: Plan) -> Iterator[_Item]:
    if plan.unavailable:
        count = len(plan.unavailable)
        yield lambda: f"**{count} unavailable:** not started, the rest goes on; plan again once that is settled"
        yield from _by_reason((change, change.unavailable) for change in plan.unavailable)


def _by_reason(reasons: Iterable[tuple[Change, str]]) -> Iterator[_Item]:
    """The names under each reason, since sixty changes may share one."""
    found: dict[str, list[Change]] = {}
    for change, reason in reasons:
        found.setdefault(reason, []).append(change)
    for reason, changes in found.items():
        yield partial(_reason, reason, changes)


def _reason(reason: str, changes: Sequence[Change]) -> str:
    return f"{_listed(changes)}: {prose(cut(reason, _LONGEST_SENTENCE))}"


def _sentence(diagnostic: Diagnostic) -> str:
    """What is to be known, and what to do."""
    summary = prose(cut(diagnostic.summary, _LONGEST_SENTENCE), name=diagnostic.name)
    hint = cut(diagnostic.hint.replace("\n", "; "), _LONGEST_SENTENCE)
    return f"{summary}. {prose(hint, name=diagnostic.name)}" if hint else summary


def _notes(wary: Sequence[Diagnostic], diagnostics: Sequence[Diagnostic], room: int) -> str:
    """The notes in a fold: they inform, and cause nothing. The cautions that are too many for the top come before."""
    notes = [one for one in diagnostics if one.severity is Severity.NOTE]
    counts = [plural(len(wary), "more caution") if wary else "", plural(len(notes), "note") if notes else ""]
    heading = ", ".join(filter(None, counts))
    body = _fitted((partial(_sentence, one) for one in (*wary, *notes)), room - size(details(heading, "\n")))
    return details(heading, body + "\n") if body else ""


def _context(plan: Plan, review: Review) -> Iterator[str]:
    """On what the plan rests besides the files under review."""
    if plan.simulated:
        yield f"**{SIMULATED.partition(':')[0]}**{SIMULATED.removeprefix('SIMULATED')}"
    if plan.refresh_only and plan.changes:
        yield f"Only the records change ({code('--refresh-only')})."
    if not plan.refreshed:
        yield f"Planned from manifest and state alone ({code('--no-refresh')}): the cloud was not asked."
    if review.selectors:
        yield f"Only what {code(cut(shlex.join(review.selectors), _LONGEST_SENTENCE))} selects; the rest is left alone."
    for one in plan.overrides[:_OVERRIDES_SHOWN]:
        name = code(f"var.{cut(one.name, LONGEST_NAME)}")
        yield f"{name} is {code(value_text(cut(one.value, _LONGEST_SENTENCE)))}, set from outside: {_named(one.source)}"
    if len(plan.overrides) > _OVERRIDES_SHOWN:
        yield f"{len(plan.overrides) - _OVERRIDES_SHOWN} more variables are set from outside."
    yield from quota_lines(plan)


def _left_out(rows: Index, fields: Folds, changes: int) -> str:
    """What is not in this comment; empty where everything is."""
    if rows.left_out:
        what = f"**{rows.left_out} of the {changes} changes are not in this comment,** nor are the fields of "
        what += f"{fields.total - fields.shown} changes. The riskiest come first"
    elif fields.shown < fields.total:
        what = f"**All {changes} changes are listed; the fields of {fields.shown} of {fields.total} are shown,** "
        what += "the riskiest first"
    else:
        return ""
    return alert("IMPORTANT", [f"{what}. {code('imgctl plan')} with the same flags prints everything."])


def _footer(plan: Plan) -> str:
    bound = plan.bound_to
    place = ", ".join(code(cut(one, LONGEST_NAME)) for one in (bound.region, bound.project_id) if one)
    state = f"state {code(cut(plan.lineage, LONGEST_NAME))}, serial {plan.serial}" if plan.lineage else "no state yet"
    return f"Plan {code(cut(plan.plan_id, LONGEST_NAME))}; {state}" + (f"; {place}" if place else "")


def _fitting(kind: str, items: Iterable[_Item], room: int) -> str:
    """An alert with the first items that fit, and how many more there are."""
    items = list(items)
    shown = _first(items, room - size(alert(kind, [_more(len(items))])), around=5)
    return alert(kind, shown) if shown else ""


def _fitted(items: Iterable[_Item], room: int) -> str:
    """A list of the first items that fit, and how many more there are."""
    items = list(items)
    return "\n".join(f"- {item}" for item in _first(items, room - size(_more(len(items))) - 3, around=3))


def _first(items: Sequence[_Item], room: int, *, around: int) -> list[str]:
    """The first items that fit into so many characters, each with so many around it, and how many there are besides."""
    shown: list[str] = []
    for item in items:
        text = item()
        room -= size(text) + around
        if room < 0:
            return [*shown, _more(len(items) - len(shown))]
        shown.append(text)
    return shown


def _more(count: int) -> str:
    return f"and {count} more"


def _listed(changes: Sequence[Change]) -> str:
    names = list(dict.fromkeys(change.name for change in changes))
    shown = ", ".join(map(_named, names[:_NAMES_SHOWN]))
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown


def _named(name: str) -> str:
    return code(cut(name, LONGEST_NAME))


def _tail(root: str) -> str:
    """The end of a long path: what tells it from others."""
    root = clean(root)
    return root if len(root) <= _LONGEST_ROOT else "…" + root[1 - _LONGEST_ROOT :]
