"""What `import --all` found: what it records, with what the next plan will say of it, and what it leaves, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.model.plan import Change
from reconciler.render.terminal import Style, clean, plural, table


@dataclass(frozen=True, slots=True)
class Imported:
    """An image that is recorded for a server. `change` is what the next plan does about it, None for nothing."""

    name: str
    image_id: str
    image_name: str
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A server of which nothing is recorded. `needs_person`: nothing will come of it by itself."""

    name: str
    reason: str
    needs_person: bool = False


def render_adoption(imported: Sequence[Imported], skipped: Sequence[Skipped], style: Style, *, dry_run: bool) -> str:
    """Both lists, and how many there are of each."""
    lines = list(
        table(
            ((clean(one.name), clean(one.image_name), clean(one.image_id), _next(one.change)) for one in imported),
            indent="  ",
        )
    )
    if skipped:
        lines += ["", style("skipped", "bold")] if lines else [style("skipped", "bold")]
        lines += table(((clean(one.name), clean(one.reason)) for one in skipped), indent="  ")
    if lines:
        lines.append("")
    verb = "would be recorded" if dry_run else "recorded"
    total = f"{plural(len(imported), 'image')} {verb}, {plural(len(skipped), 'server')} skipped."
    return "\n".join([*lines, total + (" Nothing was changed (--dry-run)." if dry_run else "")]) + "\n"


def _next(change: Change | None) -> str:
    if change is None:
        return "unchanged"
    return clean(f"{change.action.value}: {_joined(change.reasons)}" + (f"; {change.gated}" if change.gated else ""))


def _joined(reasons: Iterable[str]) -> str:
    return ", ".join(reasons)
