"""What a reviewer should see besides the changes: guards that were loosened, a state that may be lost, drift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.diagnostics import Diagnostic, Severity
from reconciler.model.observed import Observation
from reconciler.model.plan import Change
from reconciler.model.record import Recorded
from reconciler.model.spec import Limits, Manifest
from reconciler.planning.places import CONCURRENT_IMAGE_TASKS, NO_PLACE
from reconciler.planning.retention import beyond
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
            hint="If there was a state, restore it. Otherwise imgctl import --all records these images; "
            "--allow NAME builds a server anew.",
        )


def other_place(manifest: Manifest, recorded: Recorded) -> Iterator[Diagnostic]:
    """A caution where the manifest keeps the state elsewhere than at the last apply: that decides what is believed."""
    before, now = recorded.state_url, manifest.state_url or ""
    if before is not None and before != now:
        yield Diagnostic(
            Severity.CAUTION,
            f"state.url is changed: {before or 'none'} at the last apply, now {now or 'none'}",
            hint="Whoever names the state decides which builds count as done. imgctl state migrate moves a state.",
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


def gone_servers(subjects: Iterable[Subject], observed: Observation | None) -> Iterator[Diagnostic]:
    """A caution for every declared server that holds an image and is not there any more: it can never be rebuilt."""
    for subject in subjects if observed is not None else ():
        if subject.declared is None or subject.server is not None or subject.record is None or not subject.record.held:
            continue
        yield Diagnostic(
            Severity.CAUTION,
            f"the image server of {subject.declared.name} is gone: no image server has the id {subject.server_id}",
            hint=f"Its image {subject.record.held.image_id} stays. Remove it from the manifest, or correct server_id.",
            origin=subject.declared.origin,
            name=subject.declared.name,
        )


def same_names(changes: Iterable[Change], recorded: Recorded, observed: Observation | None) -> Iterator[Diagnostic]:
    """A caution for every build whose image name is taken by an image of somebody else.

    Nobody documents whether IMS insists on unique names, though it has an error for it (IMG.0009); and of two images of
    one name a person never knows which is meant.
    """
    building = [change for change in changes if change.action.builds and not change.unavailable and change.after]
    if observed is None or not building:
        return
    ours = {one.image_id for record in recorded.all_records for one in (*record.builds, record.held) if one is not None}
    taken = {image.name: image for image in observed.images.values() if image.id not in ours}
    for change in building:
        image = taken.get(change.after.name) if change.after is not None else None
        if image is not None:
            yield Diagnostic(
                Severity.CAUTION,
                f"{change.name}: a private image named {image.name!r} exists already and is not recorded here",
                hint=f"It is {image.id}. IMS may refuse the name at the end of the build (IMG.0009): choose another, "
                f"delete that image, or hand it over: imgctl import {change.name} --image-id {image.id}",
                origin=change.origin,
                name=change.name,
            )


def other_images(subjects: Iterable[Subject], observed: Observation | None) -> Iterator[Diagnostic]:
    """A note for every server that shows an image of somebody else; never a cause: nobody says when that changes.

    An older image of its own is none: the server's image may change later than the build ends.
    """
    for subject in subjects:
        record, declared = subject.record, subject.declared
        shown = subject.server.image_id if subject.server is not None else ""
        if declared is None or record is None or record.in_flight or record.held is None or not shown:
            continue
        if shown == record.held.image_id or any(shown == build.image_id for build in record.builds):
            continue
        image = observed.images.get(shown) if observed is not None else None
        made = f", made {image.created_at:%Y-%m-%d %H:%M} UTC" if image is not None and image.created_at else ""
        what = f" ({image.name!r}{made})" if image is not None else ""
        yield Diagnostic(
            Severity.NOTE,
            f"{declared.name} shows an image that imgctl did not build",
            hint=f"image {shown}{what}\nTo hold it from now on: imgctl import {declared.name} --image-id {shown}",
            origin=declared.origin,
            name=declared.name,
        )


def full_quota(
    changes: Iterable[Change], subjects: Iterable[Subject], observed: Observation | None
) -> Iterator[Diagnostic]:
    """A caution where builds find no place in the quota, with what can be done, and with what retention has left over.

    A prune only ever follows a build: a run that was cut off in between may have left the quota full, and no build can
    begin by itself any more.
    """
    without = sum(change.action.builds and change.unavailable.startswith(NO_PLACE) for change in changes)
    if not without:
        return
    builds = "1 build finds" if without == 1 else f"{without} builds find"
    hint = "Delete images that nobody needs, or have the quota raised."
    left = [f"{build.image_id} of {one.names[0]}" for one in subjects for build in beyond(one, observed)]
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        hint += f"\nOlder than keep_images, and pruned once that server is built: {', '.join(left[:5])}{more}"
    yield Diagnostic(Severity.CAUTION, f"{builds} no place in the quota of private images", hint=hint)


def builds_elsewhere(unselected: int, bound: int | None) -> Iterator[Diagnostic]:
    """A note where builds that this plan leaves out take a part of the bound on builds at one time."""
    if not unselected or bound is None:
        return
    builds = "1 build is" if unselected == 1 else f"{unselected} builds are"
    yield Diagnostic(
        Severity.NOTE,
        f"{builds} in flight on servers that the selectors leave out, and count towards the {bound} at one time",
        hint="imgctl wait records how they end.",
    )


def other_tasks(others: int, bound: int | None) -> Iterator[Diagnostic]:
    """A note where somebody else's image tasks leave fewer places than are asked for; `bound` None: any number."""
    if not others or bound is None or bound <= CONCURRENT_IMAGE_TASKS - others:
        return
    servers = "1 image server is" if others == 1 else f"{others} image servers are"
    yield Diagnostic(
        Severity.NOTE,
        f"{servers} BUILDING for others; of the {CONCURRENT_IMAGE_TASKS} image tasks that IMS runs at one time "
        f"that leaves {max(1, CONCURRENT_IMAGE_TASKS - others)}",
        hint="--max-in-flight 0 sets no bound, where your limit is a higher one.",
    )


def failed_look_ups(observed: Observation | None) -> Iterator[Diagnostic]:
    """A note for everything that could not be looked at: it is unknown, and so the cause of nothing."""
    for problem in observed.problems if observed is not None else ():
        yield Diagnostic(Severity.NOTE, problem)


def needless_names(changes: Iterable[Change], allowed: frozenset[str]) -> Iterator[Diagnostic]:
    """A note for every `--allow` that opens nothing; `changes` are those with their gates still closed."""
    needed = {change.name for change in changes if change.gated}
    for name in sorted(allowed - needed):
        yield Diagnostic(Severity.NOTE, f"--allow {name} opens no gate", name=name)


def _bound(limits: Limits, field: str) -> int | None:
    """A limit by its name; the one on builds in flight says 0 where it means none."""
    value: int | None = getattr(limits, field)
    return None if field == "max_in_flight" and value == 0 else value
