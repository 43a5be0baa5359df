"""Tries every read that imgctl knows, each once and with the smallest page, and says what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.cloud import codec, operations
from reconciler.cloud.answers import Answer, Fields
from reconciler.cloud.client import CloudClient
from reconciler.cloud.endpoints import Service
from reconciler.cloud.failures import SILENT
from reconciler.cloud.operations import Operation
from reconciler.cloud.problems import TOLERATED_SKEW
from reconciler.cloud.retry import RetryPolicy
from reconciler.errors import AuthenticationFailed, CloudError, OutcomeUnknown, RequestNotSent
from reconciler.model.observed import Quota

# For somebody who waits for a diagnosis: little patience with each read, and an end of it all.
POLICY = RetryPolicy(attempts=2, throttled_attempts=2, base=0.2, cap=1.0, longest_wait=3.0, reconnects=False)
LONGEST_READ = 20.0
LONGEST_IN_ALL = 60.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One read. `status` is the HTTP status, 0 where none came; `found` says in words what the answer holds.

    `error` None and `skipped` empty: it answered as documented. `skipped`: why it was not tried.
    """

    operation: Operation
    status: int = 0
    seconds: float = 0.0
    found: str = ""
    error: CloudError | None = None
    skipped: str = ""


@dataclass(slots=True)
class Known:
    """Ids to look at, as far as they are known; what the reads find fills the gaps."""

    server_id: str = ""
    job_id: str = ""
    image_id: str = ""


class Prober:
    """Goes through the reads in order. `quota` is the image quota, once its read has answered."""

    def __init__(self, client: CloudClient, project_name: str, known: Known) -> None:
        self._client = client
        self._project_name = project_name
        self._known = known
        self._until = time.monotonic() + LONGEST_IN_ALL
        # Services that cannot be reached: one try each is enough.
        self._unreachable: dict[Service, str] = {}
        self._refused = False
        self.quota: Quota | None = None

    async def run(self) -> list[Probe]:
        """Try them all. Raises nothing: what went wrong is in the probes."""
        known, page = self._known, {"limit": "1", "offset": "0"}
        job_type = {"job_type": codec.IMAGE_JOB}
        projects = await self._try(operations.LIST_PROJECTS, query={"name": self._project_name})
        servers = await self._try(operations.LIST_SERVERS, query=page)
        server = await self._try(operations.SHOW_SERVER, "server_id", known.server_id)
        sub_jobs = await self._try(operations.LIST_SUB_JOBS, query=job_type | page)
        jobs = await self._try(operations.LIST_JOBS, query=job_type | page)
        job = await self._try(operations.SHOW_JOB, "job_id", known.job_id)
        images = await self._try(
            operations.LIST_IMAGES,
            query={"__imagetype": "private", "enterprise_project_id": "all_granted_eps", "limit": "1"},
        )
        image = await self._try(operations.SHOW_IMAGE, "image_id", known.image_id)
        quota = await self._try(operations.SHOW_QUOTA)
        return [projects, servers, server, sub_jobs, jobs, job, images, image, quota]

    async def _try(
        self, operation: Operation, needs: str = "", value: str = "", *, query: Mapping[str, str] | None = None
    ) -> Probe:
        """One read; `needs` is the id in its path, of which a value is known or was found by now."""
        ids = {needs: value or getattr(self._known, needs)} if needs else {}
        if why := self._why_not(operation, ids):
            return Probe(operation, skipped=why)
        probe = await self._ask(operation, ids, query or {})
        if isinstance(probe.error, AuthenticationFailed) and abs(self._client.clock_offset) > TOLERATED_SKEW:
            # It was signed by our clock; the answer has told the cloud's, and the next one is signed by that.
            probe = await self._ask(operation, ids, query or {})
        match probe.error:
            case AuthenticationFailed():
                self._refused = True
            case RequestNotSent() | OutcomeUnknown() as error:
                self._unreachable[operation.service] = error.operation or operation.name
            case _:
                pass
        return probe

    def _why_not(self, operation: Operation, ids: Mapping[str, str]) -> str:
        if self._refused:
            return "not tried: the credentials were refused, and more refusals would lock an access key"
        if operation.service in self._unreachable:
            return f"not tried: {self._unreachable[operation.service]} got no answer from the same host"
        if not all(ids.values()):
            return f"not tried: no {next(iter(ids)).removesuffix('_id')} is known to ask for"
        if time.monotonic() >= self._until:
            return "not tried: the other reads took too long"
        return ""

    async def _ask(self, operation: Operation, ids: Mapping[str, str], query: Mapping[str, str]) -> Probe:
        begun = time.monotonic()
        patience = max(0.1, min(LONGEST_READ, self._until - begun))
        try:
            async with asyncio.timeout(patience):
                answer = await self._client.ask(operation, ids, query)
            found = self._read(operation, answer)
        except TimeoutError:
            error: CloudError = OutcomeUnknown(
                f"{operation.name}: no answer within {patience:.0f} s", operation=operation.name, hint=SILENT
            )
            return Probe(operation, 0, time.monotonic() - begun, error=error)
        except CloudError as error:
            return Probe(operation, error.status, time.monotonic() - begun, error=error)
        return Probe(operation, answer.status, time.monotonic() - begun, found)

    def _read(self, operation: Operation, answer: Answer) -> str:
        """What the answer holds, in words. Raises BadAnswer where it is not as documented."""
        body, known = answer.fields(), self._known
        match operation.name:
            case operations.LIST_PROJECTS.name:
                names = [project.text("name") for project in body.objects("projects")]
                return f"{len(names)} for {self._project_name}"
            case operations.LIST_SERVERS.name:
                servers = [codec.read_server(item) for item in body.objects("items")]
                for server in servers:
                    known.server_id = known.server_id or server.id
                    known.image_id = known.image_id or server.image_id
                return _how_many(body, len(servers), "image server")
            case operations.SHOW_SERVER.name:
                return f"server {known.server_id} is {codec.read_server(body).status}"
            case operations.LIST_SUB_JOBS.name:
                sub_jobs = [codec.read_sub_job(item) for item in body.objects("items")]
                known.job_id = known.job_id or next((job.id for job in sub_jobs), "")
                return _how_many(body, len(sub_jobs), "job")
            case operations.LIST_JOBS.name:
                jobs = [codec.read_job(item) for item in body.objects("items")]
                known.job_id = known.job_id or next((job.id for job in jobs), "")
                return _how_many(body, len(jobs), "job")
            case operations.SHOW_JOB.name:
                return f"job {known.job_id} is {codec.read_job(body).status}"
            case operations.LIST_IMAGES.name:
                images = [codec.read_image(item) for item in body.objects("images")]
                known.image_id = known.image_id or next((image.id for image in images), "")
                return "there are private images" if images else "no private image"
            case operations.SHOW_IMAGE.name:
                return f"image {known.image_id} is {codec.read_image(body).status}"
            case _:
                self.quota = codec.read_quota(body)
                return f"{self.quota.used} of {self.quota.limit} used"


def _how_many(body: Fields, shown: int, noun: str) -> str:
    """The count as the list tells it, which is a hint only (facts 8.10)."""
    return f"{(count := max(body.count('count'), shown))} {noun}{'' if count == 1 else 's'}"
