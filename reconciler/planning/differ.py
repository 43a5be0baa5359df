"""Field diffs of two image specs: the fields that every spec has are compared here, the free map by deepdiff.

On a patch day the names of ten thousand servers change and nothing else does: deepdiff, which takes a tenth of a second
to import and some tenths of a millisecond for each of them, is left alone then.
"""

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
    left, right = _fields(before), _fields(after)
    # No field that is there is None.
    paths = {path for path in _ORDER if left.get(path) != right.get(path)}
    if before.triggers != after.triggers:
        paths |= {f"triggers.{key}" for key in _differing(before.triggers, after.triggers)}
    return tuple(FieldDiff(path, left.get(path), right.get(path)) for path in sorted(paths, key=_place))


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    # Imported here, see above.
    from deepdiff.diff import DeepDiff

    found: Mapping[str, Any] = DeepDiff(
        dict(before), dict(after), view="tree", threshold_to_diff_deeper=0, ignore_private_variables=False
    )
    return {str(level.path(output_format="list")[0]) for levels in found.values() for level in levels}


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
