"""Which images of a server go once a further one is built: `keep_images`, and everything that forbids it.

Off unless it is declared. A prune comes along with a build and is done only after that has succeeded; what concerns the
moment of deletion (the held image by then, what servers show by then) execution looks at again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.model.observed import Observation
from reconciler.model.plan import Action, Change
from reconciler.model.record import Build, BuildStatus, Record, Recorded
from reconciler.planning.subjects import Subject

# Said all the same: whoever approves a plan must have seen what goes once the build can start.
BUILD_UNAVAILABLE = "its build cannot start now"


def with_prunes(
    changes: Iterable[Change],
    subjects: Mapping[str, Subject],
    recorded: Recorded,
    observed: Observation | None,
    left_over: Collection[str] = (),
) -> tuple[Change, ...]:
    """The changes, and the prunes that come along with those that build; `subjects` by server id.

    Without an observation the recorded images count as being there; with one, only those do that it shows. Of the
    images `left_over` those go, too, that are more than their server keeps though no build of it comes along.
    """
    changes = tuple(changes)
    if not any(subject.declared is not None and subject.declared.keep_images for subject in subjects.values()):
        return changes
    untouchable = _Untouchable.of(recorded, observed)
    building = [one for one in changes if one.action.builds or _may_succeed(one, subjects[one.server_id])]
    prunes = [prune for one in building for prune in _prunes(subjects[one.server_id], one, observed, untouchable)]
    changing = {one.server_id for one in changes}
    for subject in subjects.values() if left_over else ():
        if subject.server_id not in changing:
            more = _prunes(subject, None, observed, untouchable)
            prunes += [prune for prune in more if prune.image_id in left_over]
    return (*changes, *prunes)


def _may_succeed(change: Change, subject: Subject) -> bool:
    """True for a build in flight that has not failed by what the cloud says of its job."""
    return change.action is Action.RESUME and not (subject.job is not None and subject.job.status == "FAILED")


def own_images(record: Record) -> tuple[Build, ...]:
    """The builds whose images imgctl itself made and that, as far as is recorded, are still there; oldest first.

    One without a job is not among them: its request's outcome was unknown, and a person has said which image it is.
    """
    return tuple(one for one in record.builds if _is_own(one) and one.deleted_at is None)


def _is_own(build: Build) -> bool:
    return build.status is BuildStatus.SUCCEEDED and bool(build.image_id and build.job_id) and not build.adopted


def beyond(subject: Subject, observed: Observation | None, building: int = 0) -> tuple[Build, ...]:
    """The builds of a server, oldest first, whose images are more than it keeps once `building` further ones exist."""
    declared, record = subject.declared, subject.record
    if declared is None or declared.keep_images is None or record is None:
        return ()
    there = [one for one in own_images(record) if observed is None or one.image_id in observed.images]
    return tuple(there[: max(0, len(there) + building - declared.keep_images)])


@dataclass(frozen=True, slots=True)
class _Untouchable:
    """Images that no retention deletes but the one of their own server, if any: by image id, whose they are.

    That is what servers show, and what records hold or have held, forgotten ones too.
    """

    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    claimed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, recorded: Recorded, observed: Observation | None) -> _Untouchable:
        shown: dict[str, set[str]] = {}
        for server in observed.servers.values() if observed is not None else ():
            shown.setdefault(server.image_id, set()).add(server.id)
        claimed: dict[str, set[str]] = {}
        for record in recorded.all_records:
            for one in (record.held, *record.builds):
                if one is not None:
                    claimed.setdefault(one.image_id, set()).add(record.server_id)
        return cls(_frozen(shown), _frozen(claimed))

    def forbids(self, image_id: str, server_id: str) -> bool:
        """True where the image is another server's too; what the server itself shows and holds a build will change."""
        own = {server_id}
        return bool(self.shown.get(image_id, frozenset()) - own or self.claimed.get(image_id, frozenset()) - own)


def _prunes(
    subject: Subject, change: Change | None, observed: Observation | None, untouchable: _Untouchable
) -> Iterator[Change]:
    """The prunes that come along with `change`, which builds; where it is None the build has succeeded before."""
    declared = subject.declared
    if declared is None:
        return
    # The image that is being built is one more.
    for build in beyond(subject, observed, building=0 if change is None else 1):
        image = observed.images[build.image_id] if observed is not None else None
        if (image is not None and image.protected) or untouchable.forbids(build.image_id, subject.server_id):
            continue
        built = f" of {build.finished_at:%Y-%m-%d}" if build.finished_at is not None else ""
        # Somebody may have given it another name in order to keep it: whoever approves the plan must see that.
        renamed = (f"named {image.name!r} in IMS now",) if image is not None and image.name != build.spec.name else ()
        yield Change(
            name=change.name if change is not None else declared.name,
            server_id=subject.server_id,
            action=Action.PRUNE,
            reasons=(
                f"image {build.image_id}{built}",
                *renamed,
                f"keep_images: {declared.keep_images}",
            ),
            before=build.spec,
            unavailable=BUILD_UNAVAILABLE if change is not None and change.unavailable else "",
            image_id=build.image_id,
            origin=declared.origin,
        )


def _frozen(ids: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {image_id: frozenset(server_ids) for image_id, server_ids in ids.items()}
