"""The client: one method per API operation that imgctl needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from reconciler.cloud import codec, operations, problems
from reconciler.cloud.answers import Answer, Fields
from reconciler.cloud.operations import Call, Operation
from reconciler.cloud.sending import Sender
from reconciler.errors import (
    BadAnswer,
    BadRequest,
    CloudError,
    NotFound,
    OutcomeUnknown,
    Refused,
    RequestNotSent,
    ServiceFailed,
)
from reconciler.model.observed import ObservedImage, ObservedJob, ObservedServer, Quota
from reconciler.model.spec import ImageSpec

# The largest pages that the APIs allow; their defaults of 10 would lose items silently.
PAGE = 100
IMAGE_PAGE = 500
# 100,000 servers or jobs, 500,000 images: no project has them, a looping server would.
MOST_PAGES = 1000


class CloudClient:
    """One project in one region. Use it as an async context manager, or call `aclose`.

    Every method raises CloudError: Refused for an error status, RequestNotSent and OutcomeUnknown where no answer came,
    BadAnswer for one that is not what the API documents. Reads have been repeated before that.
    """

    def __init__(self, sender: Sender, project_id: str) -> None:
        self.project_id = project_id
        # Set by the job look-ups once the cloud has refused the list of sub jobs: it will not change its mind within
        # a run.
        self.sub_jobs_refused = False
        self._sender = sender

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._sender.aclose()

    @property
    def requests_sent(self) -> int:
        """How many requests have been sent, repetitions and token requests included."""
        return self._sender.sent.total()

    @property
    def requests_by_operation(self) -> Mapping[str, int]:
        """The same by the operation's name, such as ListImageSubJobs."""
        return dict(self._sender.sent)

    @property
    def clock_offset(self) -> timedelta:
        """The cloud's clock minus ours, as its last answer told; zero before the first."""
        return self._sender.clock.offset

    async def list_servers(self) -> list[ObservedServer]:
        """Every image server of the project, each once. Source: facts 1.3."""
        pages = self._pages(operations.LIST_SERVERS, {})
        servers = [codec.read_server(item) async for page in pages for item in page]
        return list({server.id: server for server in servers}.values())

    async def show_server(self, server_id: str) -> ObservedServer:
        """One image server.

        Raises NotFound. Source: facts 1.4, with the list in its place where the API is not there.
        """
        try:
            answer = await self._send(operations.SHOW_SERVER, {"server_id": server_id})
        except (NotFound, BadRequest) as error:
            if not problems.is_no_such_api(error):
                raise
            return await self._find_server(server_id, error)
        return _same(codec.read_server(answer.fields()), server_id, answer)

    async def _find_server(self, server_id: str, cause: Refused) -> ObservedServer:
        # The filter is not in every gateway's definition: whatever the pages hold, only this id counts.
        async with aclosing(self._pages(operations.LIST_SERVERS, {"server_id": server_id})) as pages:
            async for page in pages:
                for item in page:
                    if item.text("id") == server_id:
                        return codec.read_server(item)
        raise NotFound(
            f"{operations.SHOW_SERVER.name} for server {server_id}: the list of image servers does not have it",
            operation=operations.SHOW_SERVER.name,
            status=404,
            hint=problems.SERVER_ID_HINT,
        ) from cause

    async def recreate_image(
        self, server_id: str, spec: ImageSpec, *, before_send: Callable[[], Awaitable[None]]
    ) -> str:
        """Starts a build and returns its job's id. Sends at most one request, whatever happens. Source: facts 1.2.

        `before_send` is awaited when the request would be sent next; if it raises, nothing is sent. Raises
        RequestNotSent, Throttled or another Refused where the build was definitely not started, and OutcomeUnknown
        where it may have been: no answer, a 5xx, or an answer without a usable job id. Only then was `before_send`
        certainly awaited.
        """
        body: dict[str, object] = {"name": spec.name}
        if spec.description:
            body["description"] = spec.description
        if spec.execute_sysprep is not None:
            body["execute_sysprep"] = spec.execute_sysprep
        call = self._call(operations.RECREATE, {"server_id": server_id}, body=body)
        try:
            answer = await self._sender.send(call, before_send=before_send)
            return answer.fields().id("job_id")
        except CloudError as error:
            raise _outcome(error, call) from error

    async def list_sub_jobs(self, *, status: str | None = None, job_id: str | None = None) -> list[ObservedJob]:
        """Build jobs as their sub jobs tell of them; `id` is the job's. Source: facts 1.9."""
        pages = self.sub_job_pages(status=status, job_id=job_id)
        return [job async for page in pages for job in page]

    async def sub_job_pages(
        self, *, status: str | None = None, job_id: str | None = None
    ) -> AsyncGenerator[list[ObservedJob], None]:
        """The same page by page, for who may stop early."""
        query = {"job_type": codec.IMAGE_JOB} | _given(status=status, job_id=job_id)
        async with aclosing(self._pages(operations.LIST_SUB_JOBS, query)) as pages:
            async for page in pages:
                yield [codec.read_sub_job(item) for item in page]

    async def list_jobs(self, *, status: str | None = None) -> list[ObservedJob]:
        """Build jobs, without images and errors. Source: facts 1.7."""
        pages = self._pages(operations.LIST_JOBS, {"job_type": codec.IMAGE_JOB} | _given(status=status))
        return [codec.read_job(item) async for page in pages for item in page]

    async def show_job(self, job_id: str) -> ObservedJob:
        """One job with its own status, the image's id and the reason of a failure.

        Raises NotFound. Source: facts 1.8.
        """
        answer = await self._send(operations.SHOW_JOB, {"job_id": job_id})
        return _same(codec.read_job(answer.fields()), job_id, answer)

    async def list_images(self, *, name: str | None = None, image_id: str | None = None) -> list[ObservedImage]:
        """Private images of every enterprise project, by exact name or by id where given. Source: facts 1.13.

        An image that is missing here is not certainly gone: on some sites Windows images cannot be listed. Ask
        show_image.
        """
        query = {
            "__imagetype": "private",
            # The default would be the default enterprise project alone.
            "enterprise_project_id": "all_granted_eps",
            "limit": str(IMAGE_PAGE),
        } | _given(name=name, id=image_id)
        images: dict[str, ObservedImage] = {}
        for _ in range(MOST_PAGES):
            answer = await self._send(operations.LIST_IMAGES, query=query)
            page = [codec.read_image(item) for item in answer.fields().objects("images")]
            fresh = {image.id: image for image in page if image.id not in images}
            images |= fresh
            if len(page) < IMAGE_PAGE:
                # The match mode of `name` is not stated.
                return [image for image in images.values() if name is None or image.name == name]
            if not fresh:
                raise answer.unusable("a page repeats itself")
            query["marker"] = page[-1].id
        raise _endless(operations.LIST_IMAGES)

    async def show_image(self, image_id: str) -> ObservedImage:
        """One image of any kind. Raises NotFound: then it is gone. Source: facts 1.13, 1.15."""
        answer = await self._send(operations.SHOW_IMAGE, {"image_id": image_id})
        return _same(codec.read_image(answer.fields()), image_id, answer)

    async def update_description(self, image_id: str, description: str, *, has_one: bool) -> None:
        """Sets an image's description; it must be `active`.

        `has_one`: it has a description already. Source: facts 1.14.
        """
        op = "replace" if has_one else "add"
        try:
            await self._patch_description(image_id, description, op)
        except BadRequest as error:
            # Somebody gave it one, or took it away, since we looked.
            if error.code != "IMG.0035":
                raise
            await self._patch_description(image_id, description, "add" if op == "replace" else "replace")

    async def _patch_description(self, image_id: str, description: str, op: str) -> None:
        patch = [{"op": op, "path": "/__description", "value": description}]
        answer = await self._send(operations.UPDATE_IMAGE, {"image_id": image_id}, body=patch)
        # A page of a proxy has a good status too: only the image itself says that it was edited.
        _same(codec.read_image(answer.fields()), image_id, answer)

    async def image_quota(self) -> Quota:
        """How many private images there are and may be. Source: facts 1.16."""
        answer = await self._send(operations.SHOW_QUOTA)
        return codec.read_quota(answer.fields())

    async def _pages(self, operation: Operation, query: Mapping[str, str]) -> AsyncGenerator[list[Fields], None]:
        """The pages of a list by offset.

        `count` is not to be trusted when it says that all is seen (facts 8.10), but where it says that there is more,
        a short page is not the last one.
        """
        offset = 0
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            paging = {"limit": str(PAGE), "offset": str(offset)}
            answer = await self._send(operation, query={**query, **paging})
            body = answer.fields()
            items = body.objects("items")
            offset += len(items)
            if items:
                ids = {item.id("id") for item in items}
                if ids <= seen:
                    raise answer.unusable("a page repeats itself")
                seen |= ids
                yield items
            if not items or (len(items) < PAGE and body.count("count") <= offset):
                return
        raise _endless(operation)

    def _call(
        self,
        operation: Operation,
        ids: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Call:
        return Call(operation, ids or {}, query or {}, body, self.project_id)

    async def _send(
        self,
        operation: Operation,
        ids: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer:
        return await self._sender.send(self._call(operation, ids, query, body))


def _outcome(error: CloudError, call: Call) -> CloudError:
    """What a failure says about the build: not started, or perhaps started."""
    definite = isinstance(error, Refused) and error.status < 500
    if definite or isinstance(error, RequestNotSent):
        return error
    kind: type[CloudError] = OutcomeUnknown
    if error.operation != call.operation.name:
        # No token: the request itself was never sent.
        kind = RequestNotSent
    elif not isinstance(error, OutcomeUnknown | ServiceFailed | BadAnswer):
        return error
    return kind(
        error.summary,
        operation=call.operation.name,
        status=error.status,
        code=error.code,
        message=error.message,
        request_id=error.request_id,
        hint=error.hint,
    )


def _given(**query: str | None) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


_Found = TypeVar("_Found", ObservedServer, ObservedJob, ObservedImage)


def _same(found: _Found, asked_id: str, answer: Answer) -> _Found:
    if found.id != asked_id:
        raise answer.unusable(f"it is about {found.id}")
    return found


def _endless(operation: Operation) -> BadAnswer:
    return BadAnswer(f"{operation.name}: no end after {MOST_PAGES} pages", operation=operation.name)
