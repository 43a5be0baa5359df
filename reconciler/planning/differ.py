"""Field diffs of two image specs, by deepdiff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.plan import FieldDiff
from reconciler.model.spec import ImageSpec

_ORDER = ("image.name", "image.description", "image.execute_sysprep")


def diff_specs(before: ImageSpec | None, after: ImageSpec) -> tuple[FieldDiff, ...]:
    """The fields that differ, in a manifest's order; a field that is absent on one side is None there.

    An unset `execute_sysprep` differs from `false`: the one leaves the choice to the cloud, the other makes it.
    """
    if before is None:
        return tuple(FieldDiff(path, None, value) for path, value in _fields(after).items())
    if before == after:
        return ()
    # Imported here: it takes a tenth of a second, and most plans have nothing to compare.
    from deepdiff.diff import DeepDiff

    left, right = _fields(before), _fields(after)
    found: Mapping[str, Any] = DeepDiff(left, right, view="tree", threshold_to_diff_deeper=0)
    paths = {str(level.path(output_format="list")[0]) for levels in found.values() for level in levels}
    return tuple(FieldDiff(path, left.get(path), right.get(path)) for path in sorted(paths, key=_place))


def _place(path: str) -> tuple[int, str]:
    return (_ORDER.index(path) if path in _ORDER else len(_ORDER), path)


def _fields(spec: ImageSpec) -> dict[str, object]:
    """A spec as flat paths; what says nothing is left out."""
    fields: dict[str, object] = {"image.name": spec.name}
    if spec.description:
        fields["image.description"] = spec.description
    if spec.execute_sysprep is not None:
        fields["image.execute_sysprep"] = spec.execute_sysprep
    fields.update((f"triggers.{key}", spec.triggers[key]) for key in sorted(spec.triggers))
    return fields
