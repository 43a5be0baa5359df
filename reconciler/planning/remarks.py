"""What a reviewer should see besides the changes: guards that were loosened, a state that may be lost, drift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.plan import Change
from reconciler.model.record import Recorded
from reconciler.model.spec import Limits, Manifest
from reconciler.planning.subjects import Subject


def lost_state(subjects: Iterable[Subject], recorded: Recorded) -> Iterator[Diagnostic]:
    """A caution where a state may have been lost: none was found, yet images are there."""
    if recorded.exists:
        return
    showing = sum(bool(one.server and one.server.image_id) for one in subjects)
    if showing:
        verb = "shows" if showing == 1 else "show"
        yield Diagnostic(
            Severity.CAUTION,
            f"no state was found, yet {showing} of the declared servers already {verb} an image",
            hint="If there was a state, restore it. Otherwise --allow NAME builds these servers anew.",
        )


def loosened(manifest: Manifest, subjects: Iterable[Subject], recorded: Recorded) -> Iterator[Diagnostic]:
    """A caution for every guard that the last apply knew and this manifest loosens."""
    for field in Limits.__dataclass_fields__:
        before, now = _bound(recorded.limits, field), _bound(manifest.limits, field)
        if before is not None and (now is None or now > before):
            yield Diagnostic(
                Severity.CAUTION,
                f"limits.{field} is loosened: {before} at the last apply, now {'none' if now is None else now}",
            )
    for subject in subjects:
        declared, past = subject.declared, subject.past
        if declared is not None and past is not None and past.protect and not declared.protect:
            yield Diagnostic(
                Severity.CAUTION,
                f"{declared.name} is no longer protected",
                hint="It was at the last apply (protect: true).",
                origin=declared.origin,
                name=declared.name,
            )


def other_images(subjects: Iterable[Subject]) -> Iterator[Diagnostic]:
    """A note for every server that shows another image than it holds; never a cause: nobody says when that changes."""
    for subject in subjects:
        held = subject.record.held if subject.record is not None and not subject.record.in_flight else None
        shown = subject.server.image_id if subject.server is not None else ""
        if subject.declared is not None and held is not None and shown not in ("", held.image_id):
            yield Diagnostic(
                Severity.NOTE,
                f"{subject.declared.name} shows another image than it holds",
                hint=f"shown: {shown}\nheld:  {held.image_id}",
                origin=subject.declared.origin,
                name=subject.declared.name,
            )


def needless_names(changes: Iterable[Change], allowed: frozenset[str]) -> Iterator[Diagnostic]:
    """A note for every `--allow` that opens nothing; `changes` are those with their gates still closed."""
    needed = {change.name for change in changes if change.gated}
    for name in sorted(allowed - needed):
        yield Diagnostic(Severity.NOTE, f"--allow {name} opens no gate", name=name)


def _bound(limits: Limits, field: str) -> int | None:
    """A limit by its name; the one on builds in flight says 0 where it means none."""
    value: int | None = getattr(limits, field)
    return None if field == "max_in_flight" and value == 0 else value
