"""A plan as workflow commands of GitHub Actions: annotations on the lines of the manifest.

Escaped as the toolkit does it (actions/toolkit, packages/core/src/command.ts), which is what the runner undoes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.review import Review
from reconciler.render.changes_markdown import by_risk
from reconciler.render.markdown import cut
from reconciler.render.plan_text import NO_CHANGES, SIMULATED, count_line, expectation, plan_line
from reconciler.render.terminal import clean, plural

# What GitHub shows of each kind, and of one message; all of it goes into the log.
PER_KIND = 10
LONGEST_MESSAGE = 4096
_LONGEST_TITLE = 200
_LONGEST_PLACE = 1000
_KINDS = ("error", "warning", "notice")


@dataclass(frozen=True, slots=True)
class _Annotation:
    kind: str
    title: str
    message: str
    origin: Origin | None = None


def render_plan_github(plan: Plan, review: Review) -> str:
    """At most ten annotations of each kind, the most important first; the last one says how many there are besides."""
    every = [*_annotations(plan)]
    lines = []
    for kind in _KINDS:
        those = [one for one in every if one.kind == kind]
        lines += [_line(one, review) for one in _most_important(those)]
    return "\n".join(lines) + "\n"


def _annotations(plan: Plan) -> Iterator[_Annotation]:
    """Errors are what keeps all from starting; warnings what goes away, or wants an eye; notices the rest."""
    yield _Annotation("notice", "imgctl plan", _summary(plan))
    changes = by_risk(plan.changes)
    yield from (_diagnostic(one, "error") for one in plan.diagnostics if one.severity is Severity.ERROR)
    yield from _changes([one for one in changes if one.gated], "error")
    yield from (_change(one, "warning") for one in changes if one.action is Action.PRUNE and one.starts)
    yield from (_diagnostic(one, "warning") for one in plan.diagnostics if one.severity is Severity.CAUTION)
    yield from _changes([one for one in changes if one.action is Action.FORGET and one.starts], "warning")
    yield from _changes([one for one in changes if one.unavailable and not one.gated], "warning")
    yield from (_diagnostic(one, "notice") for one in plan.diagnostics if one.severity is Severity.NOTE)


def _summary(plan: Plan) -> str:
    simulated = f"{SIMULATED}\n" if plan.simulated else ""
    if not plan.changes:
        return simulated + ("No changes." if plan.refresh_only else NO_CHANGES)
    counts = "; ".join(filter(None, (count_line(plan), expectation(plan))))
    gated = f"\n{len(plan.gated)} gated: nothing starts." if plan.gated else ""
    return f"{simulated}{plan_line(plan)}\n{counts}{gated}"


def _diagnostic(diagnostic: Diagnostic, kind: str) -> _Annotation:
    about = f"imgctl: {diagnostic.name}" if diagnostic.name else "imgctl plan"
    message = "\n".join(filter(None, (diagnostic.summary, diagnostic.hint)))
    return _Annotation(kind, about, message, diagnostic.origin)


def _changes(changes: Sequence[Change], kind: str) -> Iterator[_Annotation]:
    """One for each change, but one for all that no line declares: there is nothing to tell them apart by."""
    forgotten = [change for change in changes if change.action is Action.FORGET]
    if len(forgotten) > 1:
        names = ", ".join(change.name for change in forgotten)
        gates = dict.fromkeys(filter(None, (change.gated for change in forgotten)))
        message = [f"no longer managed, their images stay: {names}", *(f"gated: {gate}" for gate in gates)]
        yield _Annotation(kind, f"imgctl: {plural(len(forgotten), 'forget')}", "\n".join(message))
    yield from (_change(one, kind) for one in changes if len(forgotten) < 2 or one.action is not Action.FORGET)


def _change(change: Change, kind: str) -> _Annotation:
    said = {"gated": change.gated, "unavailable": change.unavailable}
    message = [f"{change.action.value}: {', '.join(change.reasons)}"]
    if change.action is Action.PRUNE:
        message.append(f"image {change.image_id} is deleted after the new build has succeeded")
    elif change.action is Action.FORGET:
        message.append("its record is retired; the image stays")
    message += [f"{word}: {why}" for word, why in said.items() if why]
    if change.gated:
        message.append("Nothing starts until it is allowed by name.")
    title = ", ".join([change.action.value, *(word for word, why in said.items() if why)])
    return _Annotation(kind, f"imgctl: {change.name}: {title}", "\n".join(message), change.origin)


def _most_important(annotations: Sequence[_Annotation]) -> Sequence[_Annotation]:
    if len(annotations) <= PER_KIND:
        return annotations
    left = annotations[PER_KIND - 1 :]
    titles = "\n".join(f"{one.title}: {one.message.partition(chr(10))[0]}" for one in left)
    more = _Annotation(left[0].kind, "imgctl plan", f"{plural(len(left), 'annotation')} more:\n{titles}")
    return [*annotations[: PER_KIND - 1], more]


def _line(annotation: _Annotation, review: Review) -> str:
    properties = {}
    if annotation.origin is not None:
        properties["file"] = cut(review.file(annotation.origin), _LONGEST_PLACE)
        properties["line"] = str(annotation.origin.line)
        properties["col"] = str(annotation.origin.column)
    properties["title"] = cut(annotation.title, _LONGEST_TITLE)
    said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{annotation.kind} {said}::{_data(_message(annotation.message))}"


def _message(text: str) -> str:
    """The text, clean but for its line breaks, which an annotation shows."""
    text = "\n".join(clean(line) for line in text[:LONGEST_MESSAGE].split("\n"))
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
