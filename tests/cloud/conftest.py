"""A cloud made of one function, and a time that passes only when somebody sleeps."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from reconciler.cloud.auth import auth_for
from reconciler.cloud.client import CloudClient
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.credentials import Credentials, KeyCredentials, PasswordCredentials, Secret, TokenCredentials
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.sending import Exchange, Sender

PROJECT = "a4da8115c9d8464ead3a38309130523f"
REGION = "cn-north-4"
SECRETS = ("sk-very-secret", "token-very-secret", "password-very-secret", "sts-very-secret", "fetched-very-secret")
KEYS = KeyCredentials("AKEXAMPLE", Secret("sk-very-secret"), "HW_ACCESS_KEY and HW_SECRET_KEY")
TOKEN = TokenCredentials(Secret("token-very-secret"), "HW_AUTH_TOKEN")
PASSWORD = PasswordCredentials(Secret("password-very-secret"), "HW_USER_NAME", user_name="robot", domain_name="company")
START = datetime(2026, 10, 25, 12, 0, 0, tzinfo=UTC)

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Time:
    """Passes when somebody sleeps; `slept` says how long each time."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds
        await asyncio.sleep(0)

    def clock(self) -> CloudClock:
        return CloudClock(
            wall=lambda: START + timedelta(seconds=self.passed), monotonic=lambda: self.passed, sleep=self.sleep
        )


class Cloud:
    """A client whose peer is `handler`; everything that is sent is kept in `requests`."""

    def __init__(
        self,
        handler: Handler,
        *,
        credentials: Credentials = KEYS,
        max_requests: int = 16,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.handler = handler
        self.time = Time()
        self.clock = self.time.clock()
        self.requests: list[httpx.Request] = []
        self.exchanges: list[Exchange] = []
        endpoints = Endpoints.for_region(REGION, {})
        self.auth = auth_for(credentials, endpoints, REGION, PROJECT, self.clock)
        self.sender = Sender(
            httpx.AsyncClient(transport=httpx.MockTransport(self._answer)),
            endpoints,
            self.auth,
            clock=self.clock,
            policy=policy or RetryPolicy(random=lambda: 0.5),
            max_requests=max_requests,
            advice=credentials.advice,
            on_exchange=self.exchanges.append,
        )
        self.client = CloudClient(self.sender, PROJECT)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.handler(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.requests]


def script(*answers: httpx.Response | Exception) -> Handler:
    """Answers in turn; an exception is raised. One more request than answers is an error."""
    left = list(answers)

    def handler(request: httpx.Request) -> httpx.Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        answer.request = request
        return answer

    return handler


def ok(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body).encode(), headers=headers)


def refused(status: int, code: str = "", message: str = "", headers: Mapping[str, str] | None = None) -> httpx.Response:
    return ok({"error_code": code, "error_msg": message}, status, headers)


def token_answer(value: str = "fetched-very-secret", expires_at: str = "2026-10-26T12:00:00.000000Z") -> httpx.Response:
    body = {"token": {"expires_at": expires_at, "project": {"id": PROJECT, "name": REGION}}}
    return ok(body, 201, {"X-Subject-Token": value})


def server(number: int, **fields: object) -> dict[str, object]:
    return {"id": f"6976121969930{number:05}", "name": f"server-{number}", "status": "ACTIVE", **fields}


def sub_job(job_id: str, status: str = "RUNNING", **fields: object) -> dict[str, object]:
    return {"id": f"s{job_id}", "job_id": job_id, "job_type": "CREATE_SERVER_IMAGE", "status": status, **fields}


def job(job_id: str, status: str = "RUNNING", **sub_fields: object) -> dict[str, object]:
    return {
        "id": job_id,
        "job_type": "CREATE_SERVER_IMAGE",
        "status": status,
        "sub_jobs_total": 1,
        "sub_jobs": [sub_job(job_id, status, **sub_fields)],
    }


async def nothing() -> None:
    """A before_send that does nothing."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
