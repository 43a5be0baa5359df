"""The one place that sends: request slots, the brake, retries, and the driving of auth flows."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import httpx

from reconciler.cloud import failures, problems
from reconciler.cloud.answers import Answer
from reconciler.cloud.bodies import LARGEST_BODY, read_body
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.denials import Denials, Turn
from reconciler.cloud.endpoints import Endpoints, Service
from reconciler.cloud.flows import as_response, operation_of
from reconciler.cloud.operations import Call, Operation, Repeat
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.signing import canonical_query
from reconciler.errors import AuthenticationFailed, CloudError, Refused, Throttled

MAX_REQUESTS = 16
# The gateway gives up after 30 s and says so with a 504, which must find us still listening (facts 6.7).
TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=30.0, pool=None)
# For a whole exchange: a peer that sends a byte a minute keeps every other timeout quiet.
LONGEST_EXCHANGE = 120.0
# The metadata service is in the same machine, or it is not there: no command may hang on it.
LONGEST_METADATA_EXCHANGE = 5.0
METADATA_POLICY = RetryPolicy(attempts=3, throttled_attempts=2, base=0.2, cap=1.0, longest_wait=2.0, reconnects=False)
# A signature is good for 15 minutes and a token is renewed 10 before its end: a request that queued behind the brake
# for longer than this is prepared again.
FRESH = 300.0


class _Outdated(Exception):  # noqa: N818
    """The request was not sent: its signature has waited for too long, or is of credentials that are gone."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, for a log.

    `path` has the query, no header and no body; `status` 0: no answer, see `problem`.
    """

    operation: str
    method: str
    path: str
    status: int
    request_id: str
    seconds: float
    attempt: int
    problem: str = ""


class Sender:
    """Sends calls. `advice` says what to check when the credentials are not accepted.

    A slot is held from just before a request is sent until its answer is complete, and never while waiting for
    anything else.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        endpoints: Endpoints,
        auth: httpx.Auth,
        *,
        clock: CloudClock | None = None,
        policy: RetryPolicy | None = None,
        max_requests: int = MAX_REQUESTS,
        advice: str = "",
        on_exchange: Callable[[Exchange], None] | None = None,
        on_brake: Callable[[float], None] | None = None,
        on_repeat: Callable[[CloudError, float, float], None] | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.clock = clock or CloudClock()
        # Requests that were sent, by operation; token requests and repetitions included.
        self.sent: Counter[str] = Counter()
        self._http = http
        self._auth = auth
        self._policy = policy or RetryPolicy()
        self._slots = asyncio.Semaphore(max_requests)
        self._advice = advice
        self._on_exchange = on_exchange
        # Told for how many seconds nothing is sent.
        self._on_brake = on_brake
        # Told of a failure after which a request is sent again, how many seconds it took, and how long is waited first.
        self._on_repeat = on_repeat
        # By the monotonic clock: nothing is sent before.
        self._braked_until = 0.0
        self._denials = Denials()

    async def send(self, call: Call, *, before_send: Callable[[], Awaitable[None]] | None = None) -> Answer:
        """The answer to a call, with a good status. Raises CloudError.

        `before_send` is awaited when everything is ready and the request would be sent next; what it raises prevents
        that.
        """

        async def attempt(number: int) -> Answer:
            while True:
                try:
                    return await self._attempt(call, number, before_send)
                except _Outdated:
                    continue

        return await self._repeat(attempt, call.operation)

    async def sign_in(self) -> None:
        """Lets the auth flow obtain what it needs, a token above all, without sending anything else."""
        request = self._http.build_request("GET", self.endpoints.iam)
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            await self._prepare(flow, request)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _repeat(self, send: Callable[[int], Awaitable[Answer]], operation: Operation) -> Answer:
        policy = METADATA_POLICY if operation.service is Service.METADATA else self._policy
        attempt = 1
        while True:
            begun = self.clock.monotonic()
            try:
                return await send(attempt)
            except CloudError as error:
                # A failure to obtain a token has been through its own repetitions.
                if error.operation != operation.name:
                    raise
                delay = policy.delay(attempt, error)
                if isinstance(error, Throttled):
                    # For everybody: the limit is the user's or the API's, not one request's.
                    self._brake(delay)
                if not policy.repeats(attempt, error, operation.repeat):
                    raise
                if not isinstance(error, Throttled):
                    if self._on_repeat is not None:
                        with suppress(Exception):
                            self._on_repeat(error, self.clock.monotonic() - begun, delay)
                    await self.clock.sleep(delay)
            attempt += 1

    def _brake(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        if until > self._braked_until:
            self._braked_until = until
            if self._on_brake is not None:
                with suppress(Exception):
                    self._on_brake(seconds)

    async def _attempt(self, call: Call, number: int, before_send: Callable[[], Awaitable[None]] | None) -> Answer:
        request = self._request(call)
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            await self._prepare(flow, request)
            ready, credentials = self.clock.monotonic(), self._denials.introduce(request)
            while True:
                async with self._denials.turn(credentials) as turn:

                    async def last_look(turn: Turn = turn, ready: float = ready) -> None:
                        if self.clock.monotonic() - ready > FRESH or not self._denials.stands(turn):
                            raise _Outdated
                        self._denials.check(call.operation, call.title)
                        if before_send is not None:
                            await before_send()

                    answer = await self._exchange(call.operation, call.title, request, number, last_look)
                    await self._denials.count(turn, answer, self._denial(answer))
                    try:
                        asked = await flow.asend(as_response(answer, request))
                        if asked is not request:
                            await self._obtain(flow, asked, request)
                    except StopAsyncIteration:
                        break
                    # Before the turn is over: whoever comes next must not count what was refused before.
                    ready, credentials = self.clock.monotonic(), self._denials.introduce(request)
                if call.operation.repeat is Repeat.NEVER:
                    # The other credentials are for the next one, which its caller decides about.
                    raise self._refusal(answer, renewed=True)
        return self._judge(answer)

    async def _prepare(self, flow: AsyncGenerator[httpx.Request, httpx.Response], request: httpx.Request) -> None:
        """Goes through the flow until it yields the request itself."""
        asked = await anext(flow)
        if asked is not request:
            await self._obtain(flow, asked, request)

    async def _obtain(
        self, flow: AsyncGenerator[httpx.Request, httpx.Response], asked: httpx.Request, request: httpx.Request
    ) -> None:
        """Sends what the flow asks for instead of the request: for a token, for keys."""
        while asked is not request:
            operation, own_request = operation_of(asked), asked
            self._check_origin(own_request, operation.service)

            async def attempt(
                number: int, operation: Operation = operation, own_request: httpx.Request = own_request
            ) -> Answer:
                answer = await self._exchange(operation, operation.name, own_request, number)
                # A refused password is for the flow to remember; the rest may pass.
                definite = 400 <= answer.status < 500 and answer.status != 429
                return answer if definite else self._judge(answer)

            try:
                answer = await self._repeat(attempt, operation)
            except CloudError as error:
                # The flow may have something else to go on with; where it has not, it raises the error again.
                asked = await flow.athrow(error)
                continue
            asked = await flow.asend(as_response(answer, own_request))

    def _request(self, call: Call) -> httpx.Request:
        operation = call.operation
        headers = {}
        content = None
        if operation.service is not Service.IAM:
            # Also without a body, as the official SDK does (facts 3.3, V1).
            headers["Content-Type"] = "application/json"
            if call.project_id:
                headers["X-Project-Id"] = call.project_id
        if call.body is not None:
            # Once: the bytes that are signed are the bytes that are sent.
            content = json.dumps(call.body, ensure_ascii=False, separators=(",", ":")).encode()
        # Not through params=, which writes a space as `+` and so breaks the signature.
        query = canonical_query(call.query.items())
        url = self.endpoints.url(operation.service) + call.path + (f"?{query}" if query else "")
        request = self._http.build_request(operation.method, url, headers=headers, content=content)
        self._check_origin(request, operation.service)
        return request

    def _check_origin(self, request: httpx.Request, service: Service) -> None:
        """A key or a token must reach nobody else, whatever went into the URL."""
        ours = httpx.URL(self.endpoints.url(service))
        if (request.url.scheme, request.url.host, request.url.port) != (ours.scheme, ours.host, ours.port):
            raise CloudError(f"a request for {ours.host} would have gone to {request.url.host}: not sent")

    async def _exchange(
        self,
        operation: Operation,
        title: str,
        request: httpx.Request,
        attempt: int,
        before_send: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Sends a request once; the answer may have any status."""
        async with self._slot():
            if before_send is not None:
                await before_send()
            self.sent[operation.name] += 1
            started = self.clock.monotonic()
            answer: Answer | None = None
            problem = "cancelled"
            try:
                answer = await self._talk(operation, title, request)
            except CloudError as error:
                problem = error.summary
                raise
            finally:
                if self._on_exchange is not None:
                    # A log that cannot be written must not take the answer's place.
                    with suppress(Exception):
                        self._on_exchange(
                            Exchange(
                                operation.name,
                                request.method,
                                request.url.raw_path.decode("ascii"),
                                answer.status if answer else 0,
                                answer.request_id if answer else "",
                                self.clock.monotonic() - started,
                                attempt,
                                "" if answer else problem,
                            )
                        )
        return answer

    async def _talk(self, operation: Operation, title: str, request: httpx.Request) -> Answer:
        metadata = operation.service is Service.METADATA
        try:
            async with asyncio.timeout(LONGEST_METADATA_EXCHANGE if metadata else LONGEST_EXCHANGE):
                response = await self._http.send(request, stream=True, auth=None, follow_redirects=False)
                try:
                    body = await read_body(response)
                finally:
                    await response.aclose()
        except failures.FOREIGN as error:
            raise failures.translate(error, operation, title) from error
        if not metadata:
            # Another machine's clock than the gateway's, which judges signatures.
            self.clock.learn(response.headers.get("Date", ""))
        answer = Answer(operation, title, response.status_code, dict(response.headers), body)
        if len(body) > LARGEST_BODY:
            raise answer.unusable(f"the body is larger than {LARGEST_BODY // 1024**2} MiB")
        return answer

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A request slot while nothing is braked. Waiting for the brake happens outside of it."""
        while True:
            while (left := self._braked_until - self.clock.monotonic()) > 0:
                await self.clock.sleep(left)
            async with self._slots:
                if self._braked_until <= self.clock.monotonic():
                    yield
                    return

    def _judge(self, answer: Answer) -> Answer:
        if answer.status in answer.operation.good:
            return answer
        if answer.status >= 400:
            raise self._refusal(answer)
        if answer.status >= 300:
            raise answer.unusable("a redirect, which is not followed")
        raise answer.unusable("the status is not documented")

    def _denial(self, answer: Answer) -> AuthenticationFailed | None:
        refusal = self._refusal(answer) if answer.status == 401 else None
        return refusal if isinstance(refusal, AuthenticationFailed) else None

    def _refusal(self, answer: Answer, *, renewed: bool = False) -> Refused:
        error = problems.refusal(answer, advice=self._advice, offset=self.clock.offset)
        if isinstance(error, AuthenticationFailed):
            error.renewed = renewed
        return error
