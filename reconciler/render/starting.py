"""What `init` wrote, in words, and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from reconciler.model.draft import Draft
from reconciler.model.plan import Action, Plan
from reconciler.render.terminal import clean, plural

# A screen of them: the file has them all.
_PROBLEMS_SHOWN = 30


def render_started(file: Path, state: str, draft: Draft, plan: Plan) -> str:
    """The files, what the next plan says, and what a person should look at; `plan` is that next plan."""
    recorded = sum(bool(entry.builds) for entry in draft.entries)
    lines = [f"{file}: {plural(len(draft.entries), 'image server')} declared."]
    if recorded:
        lines.append(f"{state}: the images and builds of {recorded} of them recorded.")
    counts = [f"{count} {action.value}" for action in Action if (count := _count(plan, action))]
    gated = [f"{len(plan.gated)} gated"] if plan.gated else []
    said = ", ".join([f"{plan.unchanged} unchanged", *counts, *gated]) if plan.changes else "No changes."
    lines.append(f"The next plan: {said}{'' if said.endswith('.') else '.'}")
    problems = [f"  {clean(entry.name)}: {clean(text)}" for entry in draft.entries for text in entry.problems]
    if problems:
        lines += ["", f"To look at, also as comments in {file}:", *problems[:_PROBLEMS_SHOWN]]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"  and {len(problems) - _PROBLEMS_SHOWN} more")
    return "\n".join(lines) + "\n"


def render_farewell(addresses: Sequence[str], resources: Iterable[str]) -> str:
    """How Terraform is made to forget these addresses, destroying nothing; `resources` may be removed as a whole."""
    blocks = [f"removed {{\n  from = {clean(one)}\n  lifecycle {{\n    destroy = false\n  }}\n}}" for one in resources]
    lines = []
    if blocks:
        lines += [
            "Either put these blocks in the place of the resources (Terraform 1.7, OpenTofu 1.10 or newer), and apply:",
            "",
            *(line for block in blocks for line in block.split("\n")),
            "",
            "Or run this, and delete the resources before the next apply, which would build them anew:",
        ]
    else:
        lines.append("Run this, and delete the resources before the next apply, which would build them anew:")
    command = ["terraform state rm", *(shlex.quote(clean(address)) for address in addresses)]
    return "\n".join([*lines, "", " \\\n  ".join(command)]) + "\n"


def _count(plan: Plan, action: Action) -> int:
    return sum(change.action is action for change in plan.changes)
