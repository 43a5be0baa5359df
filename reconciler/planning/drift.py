"""Drift: a held image as IMS shows it, against what is held. Only what is certain counts; the rest causes nothing."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import ObservedImage
from reconciler.model.plan import Action, Change
from reconciler.model.record import Held, Record
from reconciler.model.spec import DeclaredServer, ImageSpec
from reconciler.planning.differ import diff_specs

IMAGE_GONE = "the held image is gone from IMS"


def same_description(one: str, other: str) -> bool:
    """True for descriptions that differ in the blanks around them at most.

    The API takes blanks at the end (facts 1.2), and nobody says whether IMS keeps them: if it does not, an edit for
    their sake would be asked for again and again.
    """
    return one.strip() == other.strip()


def shown_spec(held: Held, image: ObservedImage | None) -> ImageSpec:
    """What is held as IMS shows it now: its name and description; as recorded where IMS did not tell."""
    if image is None:
        return held.spec
    same = same_description(image.description, held.spec.description)
    return replace(held.spec, name=image.name, description=held.spec.description if same else image.description)


def refresh_of(
    record: Record, image: ObservedImage | None, declared: DeclaredServer | None, *, gone: bool
) -> Change | None:
    """What the record of a server learns from IMS, for a plan that only refreshes; None where it knows it already.

    What follows from that is said: until it is recorded a renamed image is one to be edited, afterwards one to be
    built anew.
    """
    held = record.held
    if held is None:
        return None
    if gone:
        follows = ("build follows",) if declared is not None else ()
        reasons, after = (f"{IMAGE_GONE}: nothing is held any more", *follows), None
    else:
        after = shown_spec(held, image)
        if after == held.spec:
            return None
        reasons = (
            *(("renamed in IMS",) if (renamed := after.name != held.spec.name) else ()),
            *(("described otherwise in IMS",) if after.description != held.spec.description else ()),
            *(("rebuild follows",) if renamed and declared is not None and declared.image.name != after.name else ()),
        )
    return Change(
        name=record.name,
        server_id=record.server_id,
        action=Action.REFRESH,
        reasons=reasons,
        before=held.spec,
        after=after,
        diff=diff_specs(held.spec, after) if after is not None else (),
        image_id=held.image_id,
    )
