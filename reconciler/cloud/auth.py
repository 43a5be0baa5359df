"""Ways of proving who we are, as flows: they yield requests and receive answers, and do no I/O of their own.

The sender drives them. It has checked that a request goes to our endpoint before a flow sees it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

import httpx

from reconciler.cloud import problems
from reconciler.cloud.agency import AgencyAuth
from reconciler.cloud.answers import parse_time
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.credentials import (
    AgencyCredentials,
    Credentials,
    KeyCredentials,
    PasswordCredentials,
    TokenCredentials,
)
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.flows import answer_of, own_request
from reconciler.cloud.keys import FileKeysAuth, SignatureAuth, renewal_time
from reconciler.cloud.operations import CREATE_TOKEN
from reconciler.errors import Refused

TOKEN_HEADER = "X-Auth-Token"  # noqa: S105 - a header's name


class TokenAuth(httpx.Auth):
    """A given token. It cannot be renewed."""

    def __init__(self, credentials: TokenCredentials) -> None:
        self._token = credentials.token

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Adds the token."""
        request.headers[TOKEN_HEADER] = self._token.reveal()
        yield request


@dataclass(slots=True, repr=False)
class _Token:
    value: str
    # Past it a new one is obtained; None: its end is not known.
    renew_at: datetime | None
    # True once the cloud has taken it. One that it never took is not worth replacing by another.
    accepted: bool = False


class PasswordAuth(httpx.Auth):
    """An IAM user and its password: obtains a token, keeps it in memory, renews it when it is due or the gateway asks.

    However many requests wait, one obtains the token. A refused password is remembered and never sent again: repeated
    ones lock the account.
    """

    def __init__(
        self, credentials: PasswordCredentials, endpoints: Endpoints, region: str, project_id: str, clock: CloudClock
    ) -> None:
        self._credentials = credentials
        self._iam = endpoints.iam
        self._scope = {"id": project_id} if project_id else {"name": region}
        self._clock = clock
        # One renews, the others wait here and find the new token.
        self._renewal = asyncio.Lock()
        self._token: _Token | None = None
        self._refused: Refused | None = None
        # The project of the token's scope, known once there is a token.
        self.project_id = project_id

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Obtains a token where none is at hand, adds it, and once replaces one that the gateway no longer wants."""
        token = self._usable()
        if token is None:
            async with self._renewal:
                token = self._usable()
                if token is None:
                    token = self._accept((yield self._token_request(request)))
        request.headers[TOKEN_HEADER] = token.value
        response = yield request
        if response.status_code != 401:
            token.accepted = True
            return
        if not (token.accepted and problems.wants_new_token(answer_of(CREATE_TOKEN, response))):
            return
        async with self._renewal:
            if self._token is token:
                self._token = None
            token = self._usable() or self._accept((yield self._token_request(request)))
        request.headers[TOKEN_HEADER] = token.value
        if (yield request).status_code != 401:
            token.accepted = True

    def _usable(self) -> _Token | None:
        """The token at hand. Raises the refusal of an earlier attempt to obtain one."""
        if self._refused is not None:
            raise type(self._refused)(
                self._refused.summary,
                operation=self._refused.operation,
                status=self._refused.status,
                code=self._refused.code,
                message=self._refused.message,
                request_id=self._refused.request_id,
                hint=self._refused.hint,
            )
        token = self._token
        due = token is not None and token.renew_at is not None and token.renew_at <= self._clock.now()
        return None if due else token

    def _token_request(self, request: httpx.Request) -> httpx.Request:
        given = self._credentials
        user: dict[str, object] = {"password": given.password.reveal()}
        if given.user_id:
            user["id"] = given.user_id
        else:
            user["name"] = given.user_name
            user["domain"] = {"name": given.domain_name} if given.domain_name else {"id": given.domain_id}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": self._scope}}}
        return own_request(
            CREATE_TOKEN,
            self._iam,
            request,
            query="?nocatalog=true",
            headers={"Content-Type": "application/json"},
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        )

    def _accept(self, response: httpx.Response) -> _Token:
        answer = answer_of(CREATE_TOKEN, response)
        if answer.status not in CREATE_TOKEN.good:
            self._refused = problems.refusal(answer, advice=self._credentials.advice, offset=self._clock.offset)
            raise self._refused
        value = response.headers.get("X-Subject-Token", "")
        if not value:
            raise answer.unusable("the header X-Subject-Token is missing")
        token = answer.fields().object("token")
        self.project_id = token.object("project").id("id")
        expires_at = parse_time(token.text("expires_at"))
        renew_at = renewal_time(expires_at, self._clock.now()) if expires_at is not None else None
        self._token = _Token(value, renew_at)
        return self._token


def auth_for(
    credentials: Credentials, endpoints: Endpoints, region: str, project_id: str, clock: CloudClock
) -> TokenAuth | SignatureAuth | FileKeysAuth | PasswordAuth | AgencyAuth:
    """The flow for credentials; `project_id` is empty where it is not known yet."""
    match credentials:
        case TokenCredentials():
            return TokenAuth(credentials)
        case KeyCredentials():
            return FileKeysAuth(credentials, clock) if credentials.read_again else SignatureAuth(credentials, clock)
        case PasswordCredentials():
            return PasswordAuth(credentials, endpoints, region, project_id, clock)
        case AgencyCredentials():
            return AgencyAuth(credentials, endpoints, clock)
