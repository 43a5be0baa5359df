"""What the auth flows share: requests of their own, which obtain what they need, and the answers to those."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from reconciler.cloud.answers import Answer
from reconciler.cloud.operations import Call, Operation

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
