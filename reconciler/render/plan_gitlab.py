"""A plan as GitLab's report for `artifacts: reports: terraform`: the counts that a merge request shows."""

from __future__ import annotations

from reconciler.model.plan import Action, Plan
from reconciler.render.terminal import json_text

# GitLab refuses more than six digits.
_MOST = 999_999


def render_plan_gitlab(plan: Plan) -> str:
    """The counts as Terraform words them: a rebuild creates an image, and deletes none; only a prune does."""
    counts = {
        "create": plan.count(Action.BUILD, Action.REBUILD),
        "update": plan.count(Action.UPDATE),
        "delete": plan.count(Action.PRUNE),
    }
    return json_text({name: min(count, _MOST) for name, count in counts.items()})
