"""Drift: a held image as IMS shows it, against what is held. Only what is certain counts; the rest causes nothing."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import ObservedImage
from reconciler.model.plan import Action, Change
from reconciler.model.record import Held, Record
from reconciler.model.spec import ImageSpec
from reconciler.planning.differ import diff_specs

IMAGE_GONE = "the held image is gone from IMS"


def shown_spec(held: Held, image: ObservedImage | None) -> ImageSpec:
    """What is held as IMS shows it now: its name and description; as recorded where IMS did not tell."""
    return held.spec if image is None else replace(held.spec, name=image.name, description=image.description)


def refresh_of(record: Record, image: ObservedImage | None, *, gone: bool) -> Change | None:
    """What the record of a server learns from IMS, for a plan that only refreshes; None where it knows it already."""
    held = record.held
    if held is None:
        return None
    if gone:
        reasons, after = (f"{IMAGE_GONE}: nothing is held any more",), None
    else:
        after = shown_spec(held, image)
        if after == held.spec:
            return None
        reasons = (
            *(("renamed in IMS",) if after.name != held.spec.name else ()),
            *(("described otherwise in IMS",) if after.description != held.spec.description else ()),
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
