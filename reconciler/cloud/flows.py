"""What the auth flows share: requests of their own, which obtain what they need, and the answers to those."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from reconciler.cloud.answers import Answer
from reconciler.cloud.operations import Call, Operation
from reconciler.errors import CloudError

_OPERATION = "imgctl.operation"
# What an own request takes over from the one that waits for it.
_COMMON_HEADERS = ("User-Agent", "Accept")


def own_request(
    operation: Operation,
    base_url: str,
    like: httpx.Request,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    timeout: httpx.Timeout | None = None,
) -> httpx.Request:
    """A flow's own request of an operation, on behalf of the request `like`. The sender learns the operation by it."""
    common = {name: like.headers[name] for name in _COMMON_HEADERS if name in like.headers}
    extensions: dict[str, object] = {_OPERATION: operation}
    if timeout is not None:
        extensions["timeout"] = timeout.as_dict()
    elif "timeout" in like.extensions:
        extensions["timeout"] = like.extensions["timeout"]
    return httpx.Request(
        operation.method,
        f"{base_url}{operation.path}{query}",
        headers={**common, **(headers or {})},
        content=content,
        extensions=extensions,
    )


def operation_of(request: httpx.Request) -> Operation:
    """The operation of a flow's own request."""
    operation = request.extensions[_OPERATION]
    if not isinstance(operation, Operation):
        raise TypeError("an auth flow asked for something that is no request of its own")
    return operation


def answer_of(operation: Operation, response: httpx.Response) -> Answer:
    """A flow's answer, to be read as every other one."""
    return Answer(operation, Call(operation).title, response.status_code, dict(response.headers), response.content)


def as_response(answer: Answer, request: httpx.Request) -> httpx.Response:
    """The answer as a flow expects it. Its body is decoded already, so the headers about its encoding are left out."""
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    }
    return httpx.Response(answer.status, headers=headers, content=answer.body, request=request)


class Renewal:
    """One flow renews what they all need, the others wait.

    Those that waited while it failed fail alike: hundreds that each tried again, one after the other, would hang for
    hours.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failures = 0
        # Of the last try; None where it succeeded.
        self._failure: CloudError | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the others. Raises CloudError where one of them failed meanwhile, and none succeeded after it."""
        failures = self._failures
        async with self._lock:
            if self._failure is not None and self._failures != failures:
                raise copy.copy(self._failure)
            try:
                yield
            except CloudError as error:
                self._failures, self._failure = self._failures + 1, error
                raise
            self._failure = None
