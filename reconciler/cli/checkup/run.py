"""Looks at everything that imgctl needs, one thing after the other, and goes on where something is wrong."""

from __future__ import annotations

import asyncio

import httpx

from reconciler.cli.checkup import place
from reconciler.cli.checkup.credentials import agency_finding, credential_findings, has_no_keys, used_finding
from reconciler.cli.checkup.findings import PLACE, problem
from reconciler.cli.checkup.installation import installation_findings
from reconciler.cli.checkup.reads import known_ids, quota_findings, read_finding
from reconciler.cli.console import Console
from reconciler.cli.inputs import Inputs
from reconciler.cli.traffic import exchange_log
from reconciler.cli.wiring import cloud_settings
from reconciler.cloud.client import CloudClient
from reconciler.cloud.connect import open_client
from reconciler.cloud.credentials import AgencyCredentials
from reconciler.cloud.probing import POLICY, Known, Prober
from reconciler.cloud.settings import CloudSettings
from reconciler.errors import ImgctlError
from reconciler.model.checkup import Checkup, Finding, Health
from reconciler.model.spec import Manifest

# Signing in may take a token request with its repetitions, or the metadata service's answers.
_LONGEST_SIGN_IN = 30.0


async def check_up(
    console: Console, manifest: Manifest | None, inputs: Inputs | None, region: str | None, *, log: bool
) -> Checkup:
    """Everything in order: installation, credentials, region and project, network, reads, quota.

    `inputs` None: there is no manifest, or no state that could be read. Bounded in time, raises nothing of its own.
    """
    findings = installation_findings()
    simulated = manifest is not None and manifest.simulator is not None
    credentials = [] if simulated else credential_findings(console.environ)
    try:
        settings, transport = cloud_settings(console.environ, manifest, inputs, region)
    except ImgctlError as error:
        nowhere = manifest is None and not region
        findings += [*credentials, *(place.known_region(console.environ) if nowhere else [])]
        # What is wrong with the credentials is said already.
        if not any(finding.health is Health.PROBLEM for finding in credentials):
            findings.append(problem(PLACE, "settings", error))
        return Checkup(tuple(findings), simulated)
    if simulated:
        credentials = [used_finding(settings.credentials, settings.credentials.source)]
    client, trouble = await _open(settings, transport, console, log=log)
    if isinstance(settings.credentials, AgencyCredentials):
        credentials.append(agency_finding(settings.credentials, trouble))
    findings += [*credentials, place.region(settings)]
    if client is not None:
        findings.append(place.project(settings, client))
    elif trouble is not None and not has_no_keys(trouble):
        findings.append(problem(PLACE, "project", trouble))
    if not simulated:
        findings += place.network_findings(settings, console.environ)
    if client is not None:
        findings += await _cloud_findings(client, settings, known_ids(manifest, inputs))
    return Checkup(tuple(findings), simulated)


async def _cloud_findings(client: CloudClient, settings: CloudSettings, known: Known) -> list[Finding]:
    async with client:
        prober = Prober(client, (settings.project_name or settings.region).value, known)
        probes = await prober.run()
        clock = place.clock(client, settings, answered=any(probe.status for probe in probes))
    reads = [read_finding(probe, project_given=settings.project is not None) for probe in probes]
    return [clock, *reads, *quota_findings(prober.quota)]


async def _open(
    settings: CloudSettings, transport: httpx.AsyncBaseTransport | None, console: Console, *, log: bool
) -> tuple[CloudClient | None, ImgctlError | None]:
    """A client, or why there is none."""
    try:
        async with asyncio.timeout(_LONGEST_SIGN_IN):
            client = await open_client(
                settings, transport=transport, policy=POLICY, on_exchange=exchange_log(console) if log else None
            )
    except TimeoutError:
        return None, ImgctlError(f"signing in took longer than {_LONGEST_SIGN_IN:.0f} s", hint="-vv shows what it did")
    except ImgctlError as error:
        return None, error
    return client, None
