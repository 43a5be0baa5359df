"""What `imgctl doctor` found, for people and for machines."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from reconciler.model.checkup import Checkup, Finding, Health
from reconciler.render.plan_text import SIMULATED
from reconciler.render.terminal import Style, clean, plural, table

_SIGNS = {Health.OK: "ok", Health.NOTE: "-", Health.CAUTION: "caution", Health.PROBLEM: "PROBLEM"}
_COLOURS = {Health.OK: "green", Health.NOTE: "dim", Health.CAUTION: "yellow", Health.PROBLEM: "red"}
_SIGN_WIDTH = max(map(len, _SIGNS.values()))


def render_checkup(checkup: Checkup, style: Style) -> str:
    """The findings by area, each with what to do where something is to be done, and a last line that sums them up."""
    lines = [style(SIMULATED, "cyan"), ""] if checkup.simulated else []
    for area, findings in groupby(checkup.findings, key=lambda finding: finding.area):
        lines += [style(area, "bold"), *_area(list(findings), style), ""]
    return "\n".join([*lines, _summary(checkup, style)]) + "\n"


def _area(findings: list[Finding], style: Style) -> list[str]:
    rows = table([(clean(finding.name), clean(finding.detail)) for finding in findings])
    lines = []
    for finding, row in zip(findings, rows, strict=True):
        sign = style(f"{_SIGNS[finding.health]:{_SIGN_WIDTH}}", _COLOURS[finding.health])
        lines.append(f"  {sign}  {row}")
        indent = " " * (_SIGN_WIDTH + 4)
        lines += [f"{indent}-> {clean(line)}" for line in finding.fix.splitlines()]
    return lines


def _summary(checkup: Checkup, style: Style) -> str:
    problems, cautions = checkup.count(Health.PROBLEM), checkup.count(Health.CAUTION)
    also = f", {plural(cautions, 'caution')}" if cautions else ""
    if problems:
        return style(f"{plural(problems, 'problem')}{also}.", "red", "bold")
    return style(f"Nothing is wrong{also}.", "green", "bold")


def checkup_document(checkup: Checkup) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "format_version": 1,
        "simulated": checkup.simulated,
        "healthy": checkup.healthy,
        "problems": checkup.count(Health.PROBLEM),
        "cautions": checkup.count(Health.CAUTION),
        "findings": [
            {
                "area": finding.area,
                "name": finding.name,
                "health": str(finding.health),
                "detail": finding.detail,
                "fix": finding.fix,
                **finding.facts,
            }
            for finding in checkup.findings
        ],
    }
