"""Holds a file against the published schema. The only module that knows jsonschema."""

from __future__ import annotations

from functools import cache

from reconciler.manifest.conformance import Check, compile_schema
from reconciler.manifest.nodes import MapNode, to_data
from reconciler.manifest.problems import Problems
from reconciler.manifest.schema import manifest_schema


def validate(document: MapNode, problems: Problems) -> None:
    """Reports whatever in a file the schema does not allow, at its place and in words of our own."""
    data = to_data(document)
    if _conforms()(data):
        return
    # Late: they are imported only to explain what is wrong.
    from jsonschema.validators import Draft202012Validator

    from reconciler.manifest.wording import Violation, report

    for error in Draft202012Validator(manifest_schema()).iter_errors(data):
        if problems.full:
            return
        names = "propertyNames" in error.absolute_schema_path
        violation = Violation(
            keyword=error.validator,
            argument=error.validator_value,
            schema=error.schema if isinstance(error.schema, dict) else {},
            path=tuple(error.absolute_path),
            key=str(error.instance) if names else None,
        )
        report(document, violation, problems)


@cache
def _conforms() -> Check:
    return compile_schema(manifest_schema())
