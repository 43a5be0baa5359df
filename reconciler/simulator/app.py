"""The ASGI app: the gateway in front of the services. It checks, counts, lets faults strike, and answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import format_datetime
from ipaddress import ip_address

from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.simulator import control, identity, image_servers, images, jobs, metadata
from reconciler.simulator.answers import (
    Answer,
    ApiError,
    BadValue,
    bad_request,
    gateway_error,
    iam_error,
    ims_error,
    workspace_error,
)
from reconciler.simulator.calls import Call, Operation
from reconciler.simulator.faults import Faults
from reconciler.simulator.garbage import Flood, broken
from reconciler.simulator.signing import Signed
from reconciler.simulator.throttling import throttle
from reconciler.simulator.world import World

# The gateway's limit for signed requests (facts sheet 3.2).
MOST_BODY = 12 * 1024 * 1024
# The scope's extension by which a server lets the app close a connection without an answer.
HANG_UP = "imgctl.hang_up"
# A body without an end ends here where nobody can hang up.
_MOST_IN_PROCESS = 32 * 1024 * 1024
_UNPUBLISHED = "The API does not exist or has not been published in the environment"
_UNKNOWN = "(no such API)"


class _ConnectionLost(Exception):  # noqa: N818 - reads as the fact that it is
    """No answer is to be sent."""


def create_app(world: World, faults: Faults | Iterable[str] = ()) -> ASGIApp:
    """The simulator as an ASGI app. It needs no lifespan and starts no tasks.

    `faults`: texts as in `faults.parse`, or a Faults of which the caller keeps hold. Where the connection is to be lost
    and the server offers no way to close it, as in process, the app raises ConnectionResetError.
    """
    return Gateway(world, faults if isinstance(faults, Faults) else Faults(faults, seed=world.seed))


class Gateway:
    """One app over one world."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._hold = control.Hold()
        self._prefix, self._answered = secrets.token_hex(8), 0
        operations = (
            *image_servers.OPERATIONS,
            *jobs.OPERATIONS,
            *images.OPERATIONS,
            *identity.OPERATIONS,
            *metadata.OPERATIONS,
            *control.operations(self._hold),
        )
        # Starlette only finds the operation: a request passes the gateway's checks before any of it runs.
        self._routes = [(Route(each.template, _never, methods=[each.method]), each) for each in operations]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await _no_http(scope, receive, send)
            return
        self._answered += 1
        request_id = f"{self._prefix}{self._answered:016x}"
        try:
            operation, answer = await self._answer(scope, receive, request_id)
        except _ConnectionLost:
            await _hang_up(scope, receive)
            return
        headers = {
            "Date": format_datetime(self._world.now(), usegmt=True),
            "Server": "api-gateway",
            "X-Request-Id": request_id,
            **answer.headers,
        }
        if operation is not None and operation.service in ("iam", "iam-os"):
            headers["X-IAM-Trace-Id"] = f"token_{self._world.region}_null_{request_id}"
        if isinstance(answer.body, Flood):
            parts = answer.body.parts(None if _can_hang_up(scope) else _MOST_IN_PROCESS)
            await StreamingResponse(parts, answer.status, headers, answer.content_type)(scope, receive, send)
            return
        content = answer.content()
        kind = answer.content_type if content else None
        await Response(content, answer.status, headers, media_type=kind)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> tuple[Operation | None, Answer]:
        operation: Operation | None = None
        try:
            operation, path = self._find(scope)
            return operation, await self._pass(operation, path, scope, receive)
        except BadValue as error:
            answer = bad_request(operation.service if operation else "workspace", str(error)).answer
        except ApiError as error:
            answer = error.answer
        if isinstance(answer.body, dict) and answer.body.get("request_id") == "":
            answer = Answer(answer.status, {**answer.body, "request_id": request_id}, answer.headers)
        await self._keep()
        return operation, answer

    def _find(self, scope: Scope) -> tuple[Operation, Mapping[str, str]]:
        other: Operation | None = None
        for route, operation in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL and scope["method"] == operation.method:
                if operation.service == "control" and not _is_local(scope):
                    break
                return operation, found["path_params"]
            if match is not Match.NONE:
                other = operation
        requests = self._world.ledger.requests
        requests[_UNKNOWN] = requests.get(_UNKNOWN, 0) + 1
        if other is None or other.service == "control":
            raise gateway_error(404, "APIGW.0101", _UNPUBLISHED)
        match other.service:
            case "ims":
                raise ims_error(405, "IMG.0061", "The request method is not allowed.")
            case "iam" | "iam-os":
                raise iam_error(405, "The request method is not allowed.")
            case _:
                raise workspace_error(405, "WKS.00000405", "The request method is not allowed.")

    async def _pass(self, operation: Operation, path: Mapping[str, str], scope: Scope, receive: Receive) -> Answer:
        world, faults, name = self._world, self._faults, str(operation)
        headers = _headers(scope)
        if operation.service == "control":
            body = await _body(headers, receive)
            world.settle(world.now())
            answer = operation.handler(self._call(operation, path, scope, headers, body, world.now()))
            await self._keep()
            return answer
        self._count(name)
        body = await _body(headers, receive)
        if delay := faults.latency(name):
            await asyncio.sleep(delay)
        if faults.strike("drop-before", name) is not None:
            raise _ConnectionLost
        now = world.now()
        world.settle(now)
        scoped = self._authenticate(operation, scope, headers, body, now)
        throttle(faults, name, now, anonymous=operation.access == "none")
        if operation.regional:
            self._check_project(operation, path, headers, scoped=scoped)
        if faults.strike("forbidden", name) is not None:
            raise _forbidden(operation)
        if operation.service == "ims" and faults.strike("ims-flow-control", name) is not None:
            raise ims_error(400, "IMG.0060", "The number of tasks exceeds the flow control limit.")
        self._fail(name)
        await self._hold.keep(name, "before")
        # Time may have passed while the request was held.
        now = world.now()
        world.settle(now)
        _check_media_type(operation, headers, body)
        try:
            answer = operation.handler(self._call(operation, path, scope, headers, body, now))
        except (ApiError, BadValue) as error:
            refusal = error.answer if isinstance(error, ApiError) else bad_request(operation.service, str(error)).answer
            answer = refusal
        await self._keep()
        await self._hold.keep(name, "after")
        if faults.strike("drop-after", name) is not None:
            raise _ConnectionLost
        variant = faults.garbage(name) if answer.status < 300 else ""
        return broken(variant, answer) if variant else answer

    def _call(
        self,
        operation: Operation,
        path: Mapping[str, str],
        scope: Scope,
        headers: Mapping[str, str],
        body: bytes,
        now: datetime,
    ) -> Call:
        query = scope["query_string"].decode("latin-1")
        return Call(self._world, self._faults, now, str(operation), path, query, headers, body)

    def _count(self, name: str) -> None:
        ledger = self._world.ledger
        ledger.requests[name] = ledger.requests.get(name, 0) + 1
        if name == image_servers.RECREATE:
            ledger.received += 1
            self._world.touch()

    def _authenticate(
        self, operation: Operation, scope: Scope, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> bool:
        """Check the credential. True where it may be used for the project, False where for IAM only."""
        if operation.access == "none":
            return False
        token = headers.get("x-auth-token", "")
        if token:
            return bool(identity.check_token(self._world, token, now).project_id)
        if operation.access == "any" and headers.get("authorization", ""):
            raw_path = scope.get("raw_path") or scope["path"].encode()
            query = scope["query_string"].decode("latin-1")
            signed = Signed(scope["method"], raw_path.decode("latin-1"), query, headers, body)
            identity.check_signature(self._world, signed, now)
            return True
        raise gateway_error(401, "APIGW.0301", "Incorrect IAM authentication information: x-auth-token not found")

    def _check_project(
        self, operation: Operation, path: Mapping[str, str], headers: Mapping[str, str], *, scoped: bool
    ) -> None:
        ours = self._world.project_id
        if not scoped:
            raise gateway_error(403, "APIGW.0302", "The IAM user is not authorized to access the API")
        if headers.get("x-project-id", ours) != ours:
            raise gateway_error(403, "APIGW.0310", "The project is unavailable")
        if path.get("project_id", ours) != ours:
            if operation.service == "ims":
                raise ims_error(403, "IMG.0026", "No permission for the project.")
            raise workspace_error(403, "WKS.00081102", "No permission for the project.")

    def _fail(self, name: str) -> None:
        if self._faults.strike("error-5xx", name) is None:
            return
        match self._faults.pick("error-5xx", (500, 502, 503, 504)):
            case 502:
                # What stands in front of a gateway answers in HTML.
                page = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
                raise ApiError(Answer(502, page, content_type="text/html"))
            case 503:
                raise gateway_error(503, "APIGW.0613", "The IAM service is unavailable")
            case 504:
                raise gateway_error(504, "APIGW.0201", "Backend timeout")
            case status:
                raise gateway_error(status, "APIGW.0601", "Internal server error")

    async def _keep(self) -> None:
        """Have the world saved before the answer goes out. What changes meanwhile is saved with it."""
        if self._world.unsaved:
            await asyncio.sleep(0)
            self._world.save()


async def _never(_: object) -> Response:
    raise AssertionError("the gateway calls the operations itself")


async def _no_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "websocket.close"})


def _forbidden(operation: Operation) -> ApiError:
    message = "The user has no permission for this operation."
    match operation.service:
        case "ims":
            return ims_error(403, "IMG.0026", message)
        case "iam" | "iam-os":
            return iam_error(403, message)
        case _:
            return workspace_error(403, "WKS.00081102", message)


def _can_hang_up(scope: Scope) -> bool:
    return HANG_UP in (scope.get("extensions") or {})


async def _hang_up(scope: Scope, receive: Receive) -> None:
    hang_up = (scope.get("extensions") or {}).get(HANG_UP)
    if hang_up is None:
        raise ConnectionResetError("the simulator lost the connection, as its faults ask")
    hang_up()
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _headers(scope: Scope) -> dict[str, str]:
    """Header values by lower-case name; one that came more than once is joined with commas."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        # Clients sign a value as text and send it as UTF-8.
        text = value.decode("utf-8", "surrogateescape")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "")
    chunks, size = [], int(length[:12]) if length.isdecimal() else 0
    if size <= MOST_BODY:
        size, more = 0, True
        while more and size <= MOST_BODY:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ConnectionLost
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
    if size > MOST_BODY:
        raise gateway_error(413, "APIGW.0201", "The request body is too large")
    return b"".join(chunks)


def _check_media_type(operation: Operation, headers: Mapping[str, str], body: bytes) -> None:
    kind = headers.get("content-type", "application/json").lower()
    if operation.service == "workspace" and body and not kind.startswith("application/json"):
        raise workspace_error(415, "WKS.00000415", "The media type is not supported.")
