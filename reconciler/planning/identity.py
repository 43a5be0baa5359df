"""What a plan is, to whoever approves it: a digest of its decisions, and of all that they rest on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from reconciler.model.plan import Change
from reconciler.model.record import Binding
from reconciler.model.spec import ImageSpec

# Escaped by default, and so without a text that could not be encoded.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def plan_id(binding: Binding, lineage: str, changes: Iterable[Change], protect: Mapping[str, bool]) -> str:
    """The same for the same decisions, in whatever order they are declared; `protect` by server id.

    A change stands for its server's declaration (name, image, protect) and record (name, held spec, held image): when
    one of these moves, so does the id. What only explains a change, or says whether it may start at this minute, is
    left out, and so is what becomes of servers that the plan leaves alone.
    """
    decisions = sorted(_encode(_decision(change, protect.get(change.server_id))) for change in changes)
    bound = [binding.provider, binding.region, binding.project_id]
    text = f"[{_encode(bound)},{_encode(lineage)},[{','.join(decisions)}]]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _decision(change: Change, protect: bool | None) -> list[object]:
    return [
        change.server_id,
        change.name,
        change.action.value,
        spec_fields(change.before),
        spec_fields(change.after),
        change.old_name,
        change.image_id,
        protect,
    ]


def spec_fields(spec: ImageSpec | None) -> object:
    """A spec as plain data that is equal where the specs are, in whatever order their triggers are declared."""
    if spec is None:
        return None
    return [spec.name, spec.description, spec.execute_sysprep, sorted(spec.triggers.items())]
