"""The client against the simulator, which shares no code with it: both can only have read the API's pages."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from reconciler.cloud.client import CloudClient
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.connect import open_client
from reconciler.cloud.images import look_up_images
from reconciler.cloud.jobs import look_up_jobs
from reconciler.cloud.observe import observe
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.settings import resolve_settings
from reconciler.errors import (
    AuthenticationFailed,
    NotFound,
    OutcomeUnknown,
    Refused,
    Throttled,
)
from reconciler.model.spec import ImageSpec
from reconciler.simulator import World, create_app
from tests.cloud.conftest import nothing

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(base=0.001, throttled_base=0.001, longest_wait=0.001)


def environment(world: World, method: str) -> dict[str, str]:
    common = {"IMGCTL_ENDPOINT": "http://127.0.0.1", "HW_REGION_NAME": world.region}
    if method == "password":
        return common | {
            "HW_USER_NAME": world.user_name,
            "HW_USER_PASSWORD": world.password,
            "HW_DOMAIN_NAME": world.domain_name,
        }
    return common | {"HW_ACCESS_KEY": world.access_key, "HW_SECRET_KEY": world.secret_key}


async def client_of(world: World, *faults: str, method: str = "keys", clock: CloudClock | None = None) -> CloudClient:
    transport = httpx.ASGITransport(create_app(world, faults))
    return await open_client(
        resolve_settings(environment(world, method)), transport=transport, policy=QUICK, clock=clock
    )


@pytest.mark.parametrize("method", ["keys", "password"])
async def test_a_build_from_end_to_end(method: str) -> None:
    world = World.create(servers=3, build_time=0.02)
    async with await client_of(world, method=method) as client:
        assert client.project_id == world.project_id
        first = (await client.list_servers())[0]
        assert await client.show_server(first.id) == first
        quota = await client.image_quota()
        spec = ImageSpec("office 镜像-2026", "made by +a test & more", execute_sysprep=True)
        job_id = await client.recreate_image(first.id, spec, before_send=nothing)
        seen = await observe(client, [job_id], [])
        assert seen.jobs.keys() == {job_id}
        assert len(seen.servers) == 3
        job = seen.jobs[job_id]
        for _ in range(200):
            if job.status == "SUCCESS":
                break
            await asyncio.sleep(0.005)
            job = (await look_up_jobs(client, [job_id]))[job_id]
        assert (job.status, job.job_status_known) == ("SUCCESS", True)
        assert (await client.show_server(first.id)).image_id == job.image_id
        (image,) = await client.list_images(name=spec.name)
        assert (image.id, image.name, image.status) == (job.image_id, spec.name, "active")
        assert [found.id for found in await client.list_images(image_id=image.id)] == [image.id]
        for before, after in (("", "changed"), ("another one", "changed again"), ("changed again", "")):
            # Whether it has one is not believed, only tried first.
            edited = await client.edit_image(replace(image, description=before), name="renamed", description=after)
            assert (edited.name, edited.description) == ("renamed", after)
        assert (await client.show_image(image.id)).name == "renamed"
        assert (await client.image_quota()).used == quota.used + 1
        await client.delete_image(image.id)
        assert (await look_up_images(client, [image.id])).gone == {image.id}


async def test_a_large_fleet_is_read_whole() -> None:
    world = World.create(servers=250, build_time=60)
    async with await client_of(world) as client:
        servers = await client.list_servers()
        assert len({server.id for server in servers}) == 250
        jobs = await asyncio.gather(
            *(
                client.recreate_image(server.id, ImageSpec(f"image-{number}"), before_send=nothing)
                for number, server in enumerate(servers[:100])
            )
        )
        before = client.requests_sent
        found = await look_up_jobs(client, jobs)
        assert {job.status for job in found.values()} == {"RUNNING"}
        assert found.keys() == set(jobs)
        assert client.requests_sent - before == 1


async def test_refusals() -> None:
    world = World.create(servers=1, build_time=60)
    async with await client_of(world) as client:
        with pytest.raises(NotFound):
            await client.show_server("1")
        with pytest.raises(NotFound):
            await client.show_job("1")
        with pytest.raises(Refused):
            await client.show_image("7a0f9f4e-0000-0000-0000-000000000000")
        (server,) = await client.list_servers()
        await client.recreate_image(server.id, ImageSpec("a"), before_send=nothing)
        with pytest.raises(Refused) as caught:
            await client.recreate_image(server.id, ImageSpec("b"), before_send=nothing)
        assert caught.value.status < 500
        assert caught.value.request_id


async def test_a_wrong_key_is_not_locked_by_us() -> None:
    world = World.create(servers=1, build_time=60)
    async with await client_of(world) as client:
        world.keys[world.access_key].secret = "another"
        for _ in range(10):
            with pytest.raises(AuthenticationFailed):
                await client.list_servers()
        assert world.keys[world.access_key].locked_until is None


async def test_our_clock_may_be_wrong_after_the_first_answer() -> None:
    world = World.create(servers=1, build_time=60)
    clock = CloudClock(wall=lambda: datetime.now(UTC) + timedelta(hours=2))
    with pytest.raises(AuthenticationFailed) as caught:
        await client_of(world, clock=clock)
    assert "120 minutes ahead of the cloud's" in caught.value.hint
    async with await client_of(world, clock=clock) as client:
        assert len(await client.list_servers()) == 1


@pytest.mark.parametrize("fault", ["throttle=0.4", "error-5xx=0.2", "drop-before=0.2", "drop-after=0.2"])
async def test_reads_get_through(fault: str) -> None:
    world = World.create(servers=1, build_time=60)
    async with await client_of(world, fault) as client:
        for _ in range(20):
            assert len(await client.list_servers()) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "built"),
    [
        ("throttle=1", Throttled, 0),
        ("error-5xx=1", OutcomeUnknown, 0),
        ("drop-before=1", OutcomeUnknown, 0),
        ("drop-after=1", OutcomeUnknown, 1),
        ("late-effect=1", OutcomeUnknown, 0),
    ],
)
async def test_a_build_is_sent_once_whatever_happens(fault: str, kind: type[Exception], built: int) -> None:
    world = World.create(servers=1, build_time=60)
    async with await client_of(world) as client:
        (server,) = await client.list_servers()
        client._sender._http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(world, [fault])))
        with pytest.raises(kind):
            await client.recreate_image(server.id, ImageSpec("a"), before_send=nothing)
        assert client.requests_by_operation["RecreateServerImage"] == 1
        assert len(world.ledger.builds) == built
