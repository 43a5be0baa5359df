"""Ways of proving who we are, as flows: they yield requests and receive answers, and do no I/O of their own.

The sender drives them. It has checked that a request goes to our endpoint before a flow sees it.
"""

from __future__ import annotations

import copy
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
from reconciler.cloud.flows import Renewal, answer_of, own_request
from reconciler.cloud.keys import FileKeysAuth, SignatureAuth, renewal_time
from reconciler.cloud.operations import CREATE_TOKEN
from reconciler.errors import CloudError, Refused

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
    # None: its end is not known.
    expires_at: datetime | None
    # Past it a new one is obtained.
    renew_at: datetime | None = None
    # True once the cloud has taken it. One that it never took is not worth replacing by another.
    accepted: bool = False


class PasswordAuth(httpx.Auth):
    """An IAM user and its password: obtains a token, keeps it in memory, renews it when it is due or the gateway asks.

    However many requests wait, one obtains the token. Where that fails, a token that is still good goes on being used.
    A refused password is remembered and never sent again: repeated ones lock the account.
    """

    def __init__(
        self,
        credentials: PasswordCredentials,
        endpoints: Endpoints,
        project_name: str,
        project_id: str,
        clock: CloudClock,
    ) -> None:
        self._credentials = credentials
        self._iam = endpoints.iam
        self._scope = {"id": project_id} if project_id else {"name": project_name}
        self._clock = clock
        self._renewal = Renewal()
        self._token: _Token | None = None
        self._refused: Refused | None = None
        # The project of the token's scope, known once there is a token.
        self.project_id = project_id

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Obtains a token where none is at hand, adds it, and once replaces one that the gateway no longer wants."""
        token = self._usable()
        if token is None:
            async with self._renewal.turn():
                token = self._usable()
                if token is None:
                    try:
                        token = self._accept((yield self._token_request(request)))
                    except CloudError:
                        token = self._still_good()
                        if token is None:
                            raise
        request.headers[TOKEN_HEADER] = token.value
        response = yield request
        if response.status_code != 401:
            token.accepted = True
            return
        if not (token.accepted and problems.wants_new_token(answer_of(CREATE_TOKEN, response))):
            return
        async with self._renewal.turn():
            if self._token is token:
                self._token = None
            token = self._usable() or self._accept((yield self._token_request(request)))
        request.headers[TOKEN_HEADER] = token.value
        if (yield request).status_code != 401:
            token.accepted = True

    def _usable(self) -> _Token | None:
        """The token at hand, None where one is to be obtained. Raises the refusal of an earlier attempt to."""
        token = self._token
        if token is not None and (token.renew_at is None or token.renew_at > self._clock.now()):
            return token
        if self._refused is None:
            return None
        if token := self._still_good():
            return token
        raise copy.copy(self._refused)

    def _still_good(self) -> _Token | None:
        """The old token, for a while longer, where its time is not over yet."""
        token = self._token
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock.now()):
            return None
        self._set_renewal(token)
        return token

    def _set_renewal(self, token: _Token) -> None:
        if token.expires_at is not None:
            token.renew_at = renewal_time(token.expires_at, self._clock.now())

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
        obtained = _Token(value, parse_time(token.text("expires_at")))
        self._set_renewal(obtained)
        self._token = obtained
        return obtained


def auth_for(
    credentials: Credentials, endpoints: Endpoints, project_name: str, project_id: str, clock: CloudClock
) -> TokenAuth | SignatureAuth | FileKeysAuth | PasswordAuth | AgencyAuth:
    """The flow for credentials; `project_id` is empty where only its name is known yet."""
    match credentials:
        case TokenCredentials():
            return TokenAuth(credentials)
        case KeyCredentials():
            return FileKeysAuth(credentials, clock) if credentials.read_again else SignatureAuth(credentials, clock)
        case PasswordCredentials():
            return PasswordAuth(credentials, endpoints, project_name, project_id, clock)
        case AgencyCredentials():
            return AgencyAuth(credentials, endpoints, clock)
