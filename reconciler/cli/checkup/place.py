"""Where requests go: region, project, hosts, proxies; and whether the clocks agree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from reconciler.cli.checkup.findings import NETWORK, PLACE
from reconciler.cloud.client import CloudClient
from reconciler.cloud.credentials import AgencyCredentials, KeyCredentials
from reconciler.cloud.endpoints import Service
from reconciler.cloud.problems import TOLERATED_SKEW
from reconciler.cloud.proxies import proxy_for
from reconciler.cloud.settings import CloudSettings, find_region
from reconciler.model.checkup import Finding, Health

_WORTH_A_CAUTION = timedelta(minutes=1)


def known_region(environ: Mapping[str, str]) -> list[Finding]:
    """The environment's or a profile's region, where nothing else is known."""
    found = find_region(environ)
    if found is None:
        return []
    return [Finding(PLACE, "region", Health.OK, f"{found.value} ({found.source})", facts={"region": found.value})]


def region(settings: CloudSettings) -> Finding:
    """The region and where it was found."""
    place = settings.region
    return Finding(PLACE, "region", Health.OK, f"{place.value} ({place.source})", facts={"region": place.value})


def project(settings: CloudSettings, client: CloudClient) -> Finding:
    """The project and where it was found."""
    named = settings.project_name.source if settings.project_name is not None else "the region's name"
    source = settings.project.source if settings.project is not None else f"IAM, by {named}"
    return Finding(
        PLACE, "project", Health.OK, f"{client.project_id} ({source})", facts={"project_id": client.project_id}
    )


def network_findings(settings: CloudSettings, environ: Mapping[str, str]) -> list[Finding]:
    """Which hosts are asked, what replaced the built-in ones, and which proxy is in between."""
    endpoints, findings = settings.endpoints, []
    asked: list[Service] = [service for service in Service if service is not Service.METADATA]
    if isinstance(settings.credentials, AgencyCredentials):
        asked.append(Service.METADATA)
    for service in asked:
        url = endpoints.url(service)
        override = endpoints.overridden.get(service)
        proxy = proxy_for(url, environ)
        way = f"through the proxy {proxy[0]} ({proxy[1]})" if proxy else "directly"
        instead = f", from {override}" if override else ""
        facts = {"url": url, "override": override, "proxy": proxy[0] if proxy else None}
        findings.append(Finding(NETWORK, service.value, Health.OK, f"{url}{instead}, {way}", facts=facts))
    return findings


def clock(client: CloudClient, settings: CloudSettings, *, answered: bool) -> Finding:
    """How far this machine's clock is off the cloud's, as its last answer told. `answered`: there was one."""
    if not answered:
        return Finding(
            NETWORK, "clock", Health.NOTE, "not compared: no answer came", facts={"clock_offset_seconds": None}
        )
    offset = client.clock_offset
    seconds = round(offset.total_seconds())
    facts = {"clock_offset_seconds": seconds}
    detail = f"{abs(seconds)} s {'behind' if seconds > 0 else 'ahead of'} the cloud's" if seconds else "as the cloud's"
    fix = "set this machine's clock, and keep it right with NTP"
    if abs(offset) > TOLERATED_SKEW and not isinstance(settings.credentials, AgencyCredentials | KeyCredentials):
        return Finding(NETWORK, "clock", Health.CAUTION, detail, fix, facts)
    if abs(offset) > TOLERATED_SKEW:
        more = f"{detail}: signatures more than 15 minutes off are refused"
        return Finding(NETWORK, "clock", Health.PROBLEM, more, fix, facts)
    if abs(offset) > _WORTH_A_CAUTION:
        return Finding(NETWORK, "clock", Health.CAUTION, detail, fix, facts)
    return Finding(NETWORK, "clock", Health.OK, detail, facts=facts)
