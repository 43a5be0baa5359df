"""What came of the reads, and what the failure of each means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.cli.checkup.findings import QUOTA, READS
from reconciler.cli.inputs import Inputs
from reconciler.cloud import operations
from reconciler.cloud.operations import Operation
from reconciler.cloud.permissions import NOT_NEEDED
from reconciler.cloud.probing import Known, Probe
from reconciler.cloud.problems import is_no_such_api
from reconciler.errors import AuthenticationFailed, ImgctlError, NotFound, PermissionDenied, Refused, Throttled
from reconciler.model.checkup import Finding, Health
from reconciler.model.observed import Quota
from reconciler.model.record import BuildStatus, Recorded
from reconciler.model.spec import Manifest


@dataclass(frozen=True, slots=True)
class _Use:
    """What a read is for: what goes wrong without it. `vital`: without it nothing can be built."""

    without: str
    vital: bool = False


_IN_DOUBT = "a build whose outcome is in doubt needs a person"
_USES = {
    operations.LIST_PROJECTS.name: _Use("the project's id must be given"),
    operations.LIST_SERVERS.name: _Use("nothing can be planned or built", vital=True),
    operations.SHOW_SERVER.name: _Use(_IN_DOUBT),
    operations.LIST_SUB_JOBS.name: _Use(f"every build is polled by a request of its own, and {_IN_DOUBT}"),
    operations.LIST_JOBS.name: _Use("nothing is lost: imgctl does not need it"),
    operations.SHOW_JOB.name: _Use("a build's end cannot be told", vital=True),
    operations.LIST_IMAGES.name: _Use(_IN_DOUBT),
    operations.SHOW_IMAGE.name: _Use("it cannot be told whether an image is gone"),
    operations.SHOW_QUOTA.name: _Use("builds may fail late for want of room"),
}


def known_ids(manifest: Manifest | None, inputs: Inputs | None) -> Known:
    """Ids to ask for: what is recorded first, since that is what the next plan will look at."""
    known = Known()
    recorded = inputs.recorded if inputs is not None else Recorded()
    for record in recorded.servers.values():
        known.server_id = known.server_id or record.server_id
        known.image_id = known.image_id or (record.held.image_id if record.held is not None else "")
        builds = reversed(record.builds)
        known.job_id = known.job_id or next((one.job_id for one in builds if one.status is not BuildStatus.REFUSED), "")
    declared: Iterable[str] = (one.server_id for one in manifest.servers.values()) if manifest is not None else ()
    known.server_id = known.server_id or next(iter(declared), "")
    return known


def read_finding(probe: Probe, *, project_given: bool) -> Finding:
    """What came of one read, and what its failure means. `project_given`: IAM need not find it."""
    operation, error = probe.operation, probe.error
    facts = {
        "operation": operation.name,
        "http_status": probe.status or None,
        "milliseconds": round(probe.seconds * 1000),
    }
    if probe.skipped:
        return Finding(READS, operation.name, Health.NOTE, probe.skipped, facts=facts)
    took = f"in {probe.seconds * 1000:.0f} ms"
    if error is None:
        return Finding(READS, operation.name, Health.OK, f"{probe.status} {took}: {probe.found}", facts=facts)
    asks_for_one = operation in (operations.SHOW_SERVER, operations.SHOW_JOB, operations.SHOW_IMAGE)
    if asks_for_one and isinstance(error, NotFound) and not is_no_such_api(error):
        detail = f"{probe.status} {took}: it answers, and what was asked for is gone"
        return Finding(READS, operation.name, Health.OK, detail, facts=facts)
    without = _USES[operation.name].without
    if operation is operations.LIST_PROJECTS and project_given:
        without = "nothing is lost: the project's id is given"
    said = error.summary.removeprefix(f"{operation.name}: ")
    detail = f"{said} ({took.removeprefix('in ')})"
    if not isinstance(error, AuthenticationFailed):
        detail += f"; without it {without}"
    return Finding(READS, operation.name, _how_bad(operation, error, project_given), detail, error.hint, facts)


def _how_bad(operation: Operation, error: ImgctlError, project_given: bool) -> Health:
    unneeded = operation.name in NOT_NEEDED or (operation is operations.LIST_PROJECTS and project_given)
    if unneeded and not isinstance(error, AuthenticationFailed):
        return Health.NOTE if isinstance(error, PermissionDenied | NotFound) else Health.CAUTION
    # Nothing can be done about an API that a region does not have, and imgctl finds its way without.
    missing = isinstance(error, Refused) and is_no_such_api(error) and not _USES[operation.name].vital
    return Health.CAUTION if missing or isinstance(error, Throttled) else Health.PROBLEM


def quota_findings(quota: Quota | None) -> list[Finding]:
    """The quota of private images; nothing where it could not be read."""
    if quota is None:
        return []
    facts = {"used": quota.used, "limit": quota.limit, "free": quota.free}
    detail = f"{quota.used} of {quota.limit} used, {quota.free} free"
    if not quota.free:
        fix = "delete images that nobody needs in IMS, or ask Huawei Cloud for a larger quota"
        return [Finding(QUOTA, "private images", Health.PROBLEM, f"{detail}: no build can succeed", fix, facts)]
    return [Finding(QUOTA, "private images", Health.OK, detail, facts=facts)]
