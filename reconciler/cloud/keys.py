"""Access keys: requests signed with them, and keys of a file that somebody else renews."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from urllib.parse import unquote

import httpx

from reconciler.cloud import signing
from reconciler.cloud.clock import CloudClock
from reconciler.cloud.credentials import KeyCredentials
from reconciler.errors import UsageError

# No more than these: httpx and proxies add and change others after signing (facts 3.2).
SIGNED = ("content-type", "host", "x-project-id", "x-sdk-date", "x-security-token")
# A token or a temporary key is renewed this long before its time is over: a request must not lose a race against it.
RENEWAL_MARGIN = timedelta(minutes=10)
# A file that holds nothing newer is not read for every request.
_READ_AGAIN_AFTER = timedelta(seconds=30)
_SECURITY_TOKEN = "X-Security-Token"  # noqa: S105 - a header's name


def sign(request: httpx.Request, credentials: KeyCredentials, now: datetime) -> None:
    """Adds the date, the temporary key's token and the signature, in place of those that are there."""
    request.headers["X-Sdk-Date"] = signing.format_date(now)
    request.headers.pop(_SECURITY_TOKEN, None)
    if credentials.security_token:
        request.headers[_SECURITY_TOKEN] = credentials.security_token.reveal()
    signed = {name: request.headers[name] for name in SIGNED if name in request.headers}
    path = request.url.raw_path.decode("ascii").partition("?")[0]
    pairs = [pair.partition("=") for pair in request.url.query.decode("ascii").split("&") if pair]
    query = [(unquote(name), unquote(value)) for name, _, value in pairs]
    canonical = signing.canonical_request(request.method, path, query, signed, request.content)
    request.headers["Authorization"] = signing.authorization(
        credentials.access_key, credentials.secret_key.reveal(), signed, canonical
    )


def renewal_time(expires_at: datetime, now: datetime) -> datetime:
    """When to renew what is good until `expires_at`: ten minutes before, or in the last quarter of a shorter life.

    The life counts from now on, so what could not be renewed, or only by the same again, is asked for ever more often.
    """
    return expires_at - min(RENEWAL_MARGIN, max(timedelta(0), expires_at - now) / 4)


class SignatureAuth(httpx.Auth):
    """An access key that stays as it is. Every flow signs anew, with the date of the moment by the cloud's clock."""

    def __init__(self, credentials: KeyCredentials, clock: CloudClock) -> None:
        self._credentials = credentials
        self._clock = clock

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Signs."""
        sign(request, self._credentials, self._clock.now())
        yield request


class FileKeysAuth(httpx.Auth):
    """An access key of a file, which is looked at again when the key is about to end, and when the cloud refuses it.

    A request that was refused is signed once more where the file has another key by then, and only there.
    """

    def __init__(self, credentials: KeyCredentials, clock: CloudClock) -> None:
        self._keys = credentials
        self._clock = clock
        self._not_before: datetime | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Signs, and once more with a newer key where there is one."""
        keys = self._current()
        sign(request, keys, self._clock.now())
        response = yield request
        if response.status_code != 401:
            return
        newer = self._newer_than(keys)
        if newer is not None:
            sign(request, newer, self._clock.now())
            yield request

    def _current(self) -> KeyCredentials:
        now, ends = self._clock.now(), self._keys.expires_at
        due = ends is not None and ends - RENEWAL_MARGIN <= now
        if due and (self._not_before is None or self._not_before <= now):
            self._not_before = now + _READ_AGAIN_AFTER
            self._read()
        return self._keys

    def _newer_than(self, refused: KeyCredentials) -> KeyCredentials | None:
        if self._keys == refused:
            self._read()
        return self._keys if self._keys != refused else None

    def _read(self) -> None:
        if self._keys.read_again is None:
            return
        try:
            self._keys = self._keys.read_again()
        except UsageError:
            # Half written, or gone: what we have may still do, and the cloud says so if it does not.
            return
