"""The IAM permissions that imgctl needs, from the table of operations."""

from __future__ import annotations

from typing import Any

from reconciler.cloud import operations
from reconciler.cloud.endpoints import Service
from reconciler.cloud.operations import Operation

# Tried by `imgctl doctor`, needed by nothing.
NOT_NEEDED = frozenset({operations.LIST_JOBS.name})

# What IMS's own table of actions says for the policies of the older kind (its API reference, "Permissions and Supported
# Actions"); for identity policies no page says it, so these are named to a person and not granted by themselves.
_LIKELY = {
    ("PATCH", "/v2/cloudimages/{image_id}"): ("ims:images:update", "edit an image's name and description"),
    ("DELETE", "/v2/images/{image_id}"): ("ims:images:delete", "prune old images"),
}


def least_policy() -> dict[str, Any]:
    """The least identity policy that plans, builds and waits, as IAM takes it: first building, then looking."""
    needed = [each for each in operations.table() if each.action and each.name not in NOT_NEEDED]
    building = [each for each in needed if each.dependencies]
    build = _distinct([action for each in building for action in (each.action, *each.dependencies)])
    look = [action for action in _distinct([each.action for each in needed]) if action not in build]
    statements = [{"Effect": "Allow", "Action": actions} for actions in (build, look)]
    return {"Version": "5.0", "Statement": statements}


def left_to_add() -> list[str]:
    """What the policy leaves out since no page names its action for identity policies, in sentences."""
    known = {(each.method, each.path) for each in operations.table() if each.service is Service.IMS and each.action}
    said = [
        f"To {purpose} ({method} {path}) one more permission is needed, whose name in identity policies is not "
        f"confirmed; IMS's table for the older policies has {action}: add it by hand."
        for (method, path), (action, purpose) in _LIKELY.items()
        if (method, path) not in known
    ]
    lookup: Operation = operations.LIST_PROJECTS
    said.append(
        f"To find the project by the region imgctl asks IAM ({lookup.name}), whose permission is not confirmed "
        "either: write `project_id:` in the manifest, and IAM is not asked."
    )
    return said


def _distinct(actions: list[str]) -> list[str]:
    return list(dict.fromkeys(actions))
