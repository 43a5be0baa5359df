"""Builds what needs building: the client of the cloud, or of the simulator in its place, and who is asking.

Everything here is imported late by the commands that talk to a cloud; `plan --no-refresh` never gets here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from reconciler import __version__
from reconciler.cli.console import Console
from reconciler.cli.flags import RequestFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.locking import ci_run, printable, user_name
from reconciler.cli.traffic import brake_log, exchange_log, repeat_log
from reconciler.cloud.client import CloudClient
from reconciler.cloud.connect import open_client
from reconciler.cloud.credentials import KeyCredentials, Secret
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.observe import observe
from reconciler.cloud.settings import CloudSettings, Given, resolve_settings
from reconciler.errors import StateError
from reconciler.model.observed import Observation
from reconciler.model.record import Binding, BuildStatus, Context, Recorded
from reconciler.model.spec import Manifest
from reconciler.planning.retention import own_images


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, and where it builds now that region and project are known."""

    client: CloudClient
    binding: Binding


@asynccontextmanager
async def connected(console: Console, inputs: Inputs, requests: RequestFlags) -> AsyncIterator[Connection]:
    """A client for the manifest's provider, region and project. Raises UsageError, StateError, CloudError."""
    settings, transport = cloud_settings(console.environ, inputs.manifest, inputs)
    async with _opened(console, settings, transport, inputs.binding.provider, requests) as connection:
        yield connection


def cloud_settings(
    environ: Mapping[str, str], manifest: Manifest | None, inputs: Inputs | None, region: str | None = None
) -> tuple[CloudSettings, httpx.AsyncBaseTransport | None]:
    """Settings for a manifest, or without one for `region` or the environment's; a transport where it is simulated.

    Raises UsageError, StateError.
    """
    if manifest is not None and manifest.simulator is not None:
        if inputs is None:
            raise StateError("the simulator's world is beside the state, which cannot be read")
        return embedded_simulator(inputs)
    place = Given(region, "--region") if region else None
    project = None
    if manifest is not None:
        place = Given(manifest.region, "the manifest") if manifest.region and place is None else place
        project = Given(manifest.project_id, "the manifest") if manifest.project_id else None
    return resolve_settings(environ, region=place, project_id=project), None


@asynccontextmanager
async def connected_by_environment(
    console: Console, region: str | None, requests: RequestFlags, source: str = "--region"
) -> AsyncIterator[Connection]:
    """A client without a manifest: for the region that `source` gives, or that the environment names."""
    settings = resolve_settings(console.environ, region=Given(region, source) if region else None)
    async with _opened(console, settings, None, "huaweicloud", requests) as connection:
        yield connection


@asynccontextmanager
async def _opened(
    console: Console,
    settings: CloudSettings,
    transport: httpx.AsyncBaseTransport | None,
    provider: str,
    requests: RequestFlags,
) -> AsyncIterator[Connection]:
    client = await open_client(
        settings,
        transport=transport,
        max_requests=requests.max_requests,
        on_exchange=exchange_log(console) if requests.verbose >= 2 else None,
        on_brake=brake_log(console),
        on_repeat=repeat_log(console),
    )
    async with client:
        yield Connection(client, Binding(provider, settings.region.value, client.project_id))


def embedded_simulator(inputs: Inputs) -> tuple[CloudSettings, httpx.AsyncBaseTransport]:
    """Settings and transport that lead to a simulator in this process; its world lives beside the state."""
    from reconciler.simulator import SimulatorError, World, create_app

    manifest = inputs.manifest
    if manifest.simulator is None:
        raise ValueError("the manifest names no simulator")
    state = inputs.local_path
    path = state.with_name(state.name + ".world.json")
    servers, build_time = manifest.simulator.servers, manifest.simulator.build_time
    binding = inputs.binding
    try:
        world = World.open(path, servers, build_time, region=binding.region, project_id=binding.project_id)
    except SimulatorError as error:
        raise StateError(f"the simulator's world cannot be used: {error}") from error
    settings = CloudSettings(
        region=Given(world.region, "the simulator"),
        project=Given(world.project_id, "the simulator"),
        # No variable may lead a simulated run to a real host, nor the reverse.
        endpoints=Endpoints.for_region(world.region, {}),
        credentials=KeyCredentials(world.access_key, Secret(world.secret_key), "the simulator"),
    )
    return settings, httpx.ASGITransport(app=create_app(world))


async def look(client: CloudClient, inputs: Inputs) -> Observation:
    """One refresh for a plan of these inputs. Raises CloudError."""
    return await observe(client, jobs_in_flight(inputs.recorded), _images_to_look_at(inputs))


def _images_to_look_at(inputs: Inputs) -> list[str]:
    """What drift and retention depend on: the held images, and where `keep_images` is declared the earlier ones too.

    Of forgotten servers only those that are declared again: what the others held concerns nobody.
    """
    declared = {one.server_id: one for one in inputs.manifest.servers.values()}
    keeping = {server_id for server_id, one in declared.items() if one.keep_images is not None}
    managed, retired = inputs.recorded.servers.values(), inputs.recorded.retired.values()
    records = [*managed, *(record for record in retired if record.server_id in declared)]
    images = [record.held.image_id for record in records if record.held is not None]
    for record in managed:
        if record.server_id in keeping:
            images += [build.image_id for build in own_images(record)]
    return images


def jobs_in_flight(recorded: Recorded) -> list[str]:
    """The recorded jobs without a known end."""
    return [
        record.attempt.job_id
        for record in recorded.servers.values()
        if record.attempt is not None and record.attempt.status is BuildStatus.RUNNING
    ]


def build_context(environ: Mapping[str, str], note: str) -> Context:
    """Who asks for a build, and from which run, commit and pull request, as far as CI says so."""
    run, pull_request = ci_run(environ), ""
    commit = environ.get("GITHUB_SHA") or environ.get("CI_COMMIT_SHA") or environ.get("HEAD_COMMIT") or ""
    if environ.get("GITHUB_RUN_ID"):
        pull_request = environ.get("GITHUB_REF", "").removeprefix("refs/") if _is_pull(environ) else ""
    elif environ.get("CI_JOB_URL"):
        pull_request = environ.get("CI_MERGE_REQUEST_IID", "")
    elif environ.get("PULL_NUM"):
        pull_request = environ["PULL_NUM"]
    actor = environ.get("GITHUB_ACTOR") or environ.get("GITLAB_USER_LOGIN") or user_name()
    fields = (__version__, actor, socket.gethostname(), run, commit, pull_request, note)
    return Context(*map(printable, fields))


@contextmanager
def on_signals(stop: Callable[[], None], console: Console) -> Iterator[None]:
    """Call `stop` at the first SIGINT, SIGTERM or SIGHUP; at a second one leave at once."""
    loop = asyncio.get_running_loop()
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    seen = False

    def handle() -> None:
        nonlocal seen
        if seen:
            # Every event that was said to be recorded is on disk; an intent tells the rest.
            os._exit(130)
        seen = True
        # Before anything is said: whoever would hear it may be what went away.
        stop()
        console.say("stopping: nothing more is submitted (once more to leave at once)")

    for one in handled:
        loop.add_signal_handler(one, handle)
    try:
        yield
    finally:
        for one in handled:
            loop.remove_signal_handler(one)


def _is_pull(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_REF", "").startswith("refs/pull/")
