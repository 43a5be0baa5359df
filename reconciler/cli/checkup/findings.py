"""The areas' names, and the finding that an error makes."""

from __future__ import annotations

from reconciler.errors import ImgctlError
from reconciler.model.checkup import Finding, Health

CREDENTIALS, PLACE, NETWORK, READS, QUOTA = "Credentials", "Region and project", "Network", "Reads", "Quota"


def problem(area: str, name: str, error: ImgctlError, **facts: object) -> Finding:
    """What went wrong, in the error's own words."""
    return Finding(area, name, Health.PROBLEM, error.summary, error.hint, facts)
