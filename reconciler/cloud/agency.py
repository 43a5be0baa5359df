"""Temporary keys of an ECS instance's agency, from its metadata service (facts 4.3), as a flow without I/O of its own.

PUT /meta-data/latest/api/token        a token of the metadata service, where it is of a version that has them
GET /openstack/latest/securitykey      the keys, and when they end
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

import httpx

from reconciler.cloud import problems
from reconciler.cloud.answers import Answer
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.credentials import AgencyCredentials, KeyCredentials, Secret, header_safe
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.flows import Renewal, answer_of, operation_of, own_request
from reconciler.cloud.keys import renewal_time, sign
from reconciler.cloud.operations import METADATA_TOKEN, SECURITY_KEY
from reconciler.errors import CloudError, Refused, UsageError

# The service is in the same machine's hypervisor: what does not answer soon is not there (facts 4.3).
TIMEOUT = httpx.Timeout(3.0, pool=None)
_TOKEN_SECONDS = "21600"  # noqa: S105 - six hours
_LONGEST_TOKEN = 8192
_NO_AGENCY = "configure cloud service agency"


class AgencyAuth(httpx.Auth):
    """Obtains keys, keeps them in memory, and renews them before they end, in the middle of a run of hours too.

    However many requests wait, one renews. Where that fails, keys that are still good go on being used.
    """

    def __init__(self, credentials: AgencyCredentials, endpoints: Endpoints, clock: CloudClock) -> None:
        self._credentials = credentials
        self._url = endpoints.metadata
        self._clock = clock
        self._renewal = Renewal()
        self._keys: KeyCredentials | None = None
        # Past it they are to be renewed; None: their end is not known.
        self._renew_at: datetime | None = None
        # True once the cloud has taken these keys.
        self._accepted = False
        self._token = ""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Obtains keys where none are at hand or these are about to end, signs, and replaces refused ones once."""
        keys = self._current()
        if keys is None:
            async with self._renewal.turn():
                keys = self._current()
                if keys is None:
                    asking = _Asking(self, request)
                    try:
                        while (asked := asking.next_request()) is not None:
                            asking.take((yield asked))
                    except CloudError:
                        # Those that we have are still good: later will do.
                        if not self._still_good():
                            raise
                    keys = self._keep(asking.keys)
        sign(request, keys, self._clock.now())
        response = yield request
        if response.status_code != 401:
            self._accepted = self._accepted or keys is self._keys
            return
        try:
            async with self._renewal.turn():
                if keys is self._keys:
                    if not self._accepted:
                        return
                    # They were good and are no more: somebody took them back, or a clock is wrong.
                    asking = _Asking(self, request)
                    while (asked := asking.next_request()) is not None:
                        asking.take((yield asked))
                    self._keep(asking.keys)
        except CloudError:
            # The refusal itself says more.
            return
        newer = self._keys
        if newer is not None and newer != keys:
            sign(request, newer, self._clock.now())
            if (yield request).status_code != 401:
                self._accepted = self._accepted or newer is self._keys

    def _current(self) -> KeyCredentials | None:
        due = self._renew_at is not None and self._renew_at <= self._clock.now()
        return None if due else self._keys

    def _still_good(self) -> bool:
        return self._keys is not None and (self._keys.expires_at is None or self._keys.expires_at > self._clock.now())

    def _keep(self, keys: KeyCredentials | None) -> KeyCredentials:
        """The keys to use from now on: new ones where there are, otherwise the old ones for a while longer."""
        kept = keys or self._keys
        if kept is None:
            raise ValueError("no keys were obtained")
        if kept != self._keys:
            self._accepted = False
        self._keys = kept
        self._renew_at = renewal_time(kept.expires_at, self._clock.now()) if kept.expires_at is not None else None
        return kept

    @property
    def url(self) -> str:
        """Where the metadata service is."""
        return self._url

    @property
    def token(self) -> str:
        """The metadata service's token; empty where it has none, or we have not."""
        return self._token

    def keep_token(self, token: str) -> None:
        """Use this token from now on; empty for none."""
        self._token = token

    def refused(self, answer: Answer) -> Refused:
        """The error for an answer without keys, with what it means."""
        _, message = problems.code_and_message(answer)
        if answer.status in (401, 404) and _NO_AGENCY in message.lower():
            hint = (
                "this ECS instance has no agency: create one in IAM with Elastic Cloud Server as the trusted service, "
                "and choose it in the instance's management information"
            )
        elif answer.status == 404:
            hint = (
                "whatever answers there has no keys: this machine is no ECS instance of Huawei Cloud, or has no agency"
            )
        else:
            hint = self._credentials.advice
        error = problems.refusal(answer, advice=hint)
        error.hint = hint
        return error

    def keys_of(self, answer: Answer) -> KeyCredentials:
        """The keys in a good answer. Raises BadAnswer."""
        credential = answer.fields().object("credential")
        values = {}
        for name in ("access", "secret", "securitytoken"):
            try:
                values[name] = header_safe(credential.text(name), name)
            except UsageError:
                raise credential.unusable(name, "is empty or no key") from None
        return KeyCredentials(
            values["access"],
            Secret(values["secret"]),
            self._credentials.source,
            Secret(values["securitytoken"]),
            credential.time("expires_at"),
        )


class _Asking:
    """The way to keys: a token where there is none, the keys, and once more with a new token if the old one is over."""

    def __init__(self, auth: AgencyAuth, like: httpx.Request) -> None:
        self._auth = auth
        self._like = like
        self._wants_token = not auth.token
        self._token_is_new = False
        self.keys: KeyCredentials | None = None

    def next_request(self) -> httpx.Request | None:
        """What to send next, None once there are keys."""
        if self.keys is not None:
            return None
        if self._wants_token:
            headers = {"X-Metadata-Token-Ttl-Seconds": _TOKEN_SECONDS}
            return own_request(
                METADATA_TOKEN, self._auth.url, self._like, headers=headers, content=b"", timeout=TIMEOUT
            )
        headers = {"X-Metadata-Token": self._auth.token} if self._auth.token else {}
        return own_request(SECURITY_KEY, self._auth.url, self._like, headers=headers, timeout=TIMEOUT)

    def take(self, response: httpx.Response) -> None:
        """Take the answer to it. Raises Refused, BadAnswer."""
        answer = answer_of(operation_of(response.request), response)
        if answer.operation is METADATA_TOKEN:
            if answer.status not in METADATA_TOKEN.good:
                raise self._auth.refused(answer)
            self._auth.keep_token(_text(answer) if answer.status == 200 else "")
            self._wants_token, self._token_is_new = False, True
        elif answer.status in SECURITY_KEY.good:
            self.keys = self._auth.keys_of(answer)
        elif (
            answer.status == 401
            and not self._token_is_new
            and _NO_AGENCY not in answer.body.decode(errors="replace").lower()
        ):
            self._wants_token = True
        else:
            raise self._auth.refused(answer)


def _text(answer: Answer) -> str:
    """The token in a good answer. Raises BadAnswer."""
    token = answer.body.decode("ascii", "replace").strip()
    try:
        if len(token) <= _LONGEST_TOKEN:
            return header_safe(token, "the token")
    except UsageError:
        pass
    raise answer.unusable("it is no token")
