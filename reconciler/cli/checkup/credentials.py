"""Which source of credentials is used, and which others were looked at."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.cli.checkup.findings import CREDENTIALS, problem
from reconciler.cloud.credentials import AgencyCredentials, Credentials, KeyCredentials
from reconciler.cloud.sources import Source, sources
from reconciler.errors import ImgctlError, UsageError
from reconciler.model.checkup import Finding, Health

_METADATA = "ECS metadata service"


def credential_findings(environ: Mapping[str, str]) -> list[Finding]:
    """Every source in the order of the search; the first that holds something is used, or stops the search."""
    findings: list[Finding] = []
    decided = False
    for source in sources(environ):
        found, decides = _source_findings(source, decided=decided)
        findings += found
        decided = decided or decides
    if decided:
        findings.append(Finding(CREDENTIALS, _METADATA, Health.NOTE, "not asked", facts={"used": False}))
    return findings


def _source_findings(source: Source, *, decided: bool) -> tuple[list[Finding], bool]:
    """The findings about one source, and whether it holds anything. `decided`: one before it did."""
    try:
        found = source.find()
    except ImgctlError as error:
        if decided:
            detail = f"not used, and not usable: {error.summary}"
            return [Finding(CREDENTIALS, source.name, Health.NOTE, detail, facts={"used": False})], True
        return [problem(CREDENTIALS, source.name, error, used=False)], True
    if found is None:
        return [Finding(CREDENTIALS, source.name, Health.NOTE, "nothing", facts={"used": False})], False
    credentials = found.credentials
    if decided:
        detail = f"{credentials.kind}, not used"
        findings = [Finding(CREDENTIALS, source.name, Health.NOTE, detail, facts={"used": False})]
    else:
        findings = [used_finding(credentials, source.name)]
    if found.profile is not None and found.profile.exposed:
        fix = f"chmod 600 {source.name}"
        findings.append(Finding(CREDENTIALS, source.name, Health.CAUTION, "others than its owner may read it", fix))
    return findings, True


def used_finding(credentials: Credentials, name: str) -> Finding:
    """The finding about the source that is used."""
    where = f" ({credentials.source})" if credentials.source != name else ""
    detail = f"used: {credentials.kind}{where}"
    fixed = isinstance(credentials, KeyCredentials) and credentials.security_token and credentials.read_again is None
    if fixed:
        detail += "; a variable's temporary key cannot be renewed: it must outlast the builds"
    return Finding(CREDENTIALS, name, Health.OK, detail, facts={"used": True, "source": credentials.source})


def agency_finding(credentials: AgencyCredentials, trouble: ImgctlError | None) -> Finding:
    """The finding about the metadata service; `trouble` is what came of signing in with it."""
    if trouble is not None and has_no_keys(trouble):
        return problem(CREDENTIALS, _METADATA, trouble, used=False)
    return used_finding(credentials, _METADATA)


def has_no_keys(error: ImgctlError) -> bool:
    """True for open_client's own words where the metadata service gave no keys."""
    return isinstance(error, UsageError) and ("no credentials found" in error.summary or "has no keys" in error.summary)
