"""Terraform's `http` backend protocol: JSON documents by name on a server that locks them.

    GET           200 with the document, 204 or 404 where there is none
    POST ?ID=…    store one, under the lock of that ID
    DELETE        remove one
    LOCK, UNLOCK  with a record of who; 409 or 423 with the holder's record where somebody else has it

GitLab's managed state speaks it with POST and DELETE of `NAME/lock` in the place of LOCK and UNLOCK, and keeps one
version for each top-level `serial` (its lib/api/terraform/state.rb): a serial that is there already is refused with
422, and so is a document without one. A write under a lock that is not held is answered with a plain 500.

This is the one module of the state that knows httpx.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from reconciler import __version__
from reconciler.errors import StateError, UsageError
from reconciler.state.address import Credentials, HttpAddress

TIMEOUT = httpx.Timeout(connect=10.0, read=30.0, write=30.0, pool=10.0)
# The pauses before a request is made again, in seconds: what takes longer than all of them is not a hiccup.
PAUSES = (0.3, 1.0, 3.0, 8.0)
# No exchange takes longer, however slowly it drips; in seconds.
LONGEST_EXCHANGE = 120.0
LARGEST_BODY = 256 * 1024**2
_STORED = frozenset({200, 201, 204})
_PASSING = frozenset({429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0
# Everything that sending may raise. Of these, what certainly did not reach the server:
_FOREIGN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class _Lost(Exception):  # noqa: N818 - it is what became of the exchange
    """No answer came. `sent` is False where the request certainly did not reach the server."""

    def __init__(self, words: str, *, sent: bool) -> None:
        super().__init__(words)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str = ""

    @property
    def words(self) -> str:
        """The status, and what the server says about it."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "no known status"
        said = self.fields().get("message")
        text = " ".join(said.split())[:200] if isinstance(said, str) else ""
        plain = f"{self.status} {phrase}"
        return f"{plain} ({text})" if text.isprintable() and text not in ("", plain, str(self.status)) else plain

    def fields(self) -> dict[str, Any]:
        """The body's JSON object, empty where it has none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class StateServer:
    """The documents at one address: its own, and others whose names begin like it.

    `suffix` is what a name has in addition; every method raises StateError, saying what did not work and what to do.
    """

    def __init__(self, address: HttpAddress, credentials: Credentials | None) -> None:
        self.address = address
        self._credentials = credentials
        self._client = _client(address, credentials)
        # What nobody closes is closed with this, not at some time later.
        weakref.finalize(self, self._client.close)

    def read(self, suffix: str) -> dict[str, Any] | None:
        """A document, None where there is none."""
        answer = self._repeated("GET", suffix, f"cannot read {self._name(suffix)}")
        if answer.status == 404 and self._is_hidden(answer):
            raise StateError(
                f"cannot read {self._name(suffix)}: {answer.words}",
                hint=f"No such project, or its state is not for these credentials to see. {self._advice}",
            )
        if answer.status in (204, 404) or (answer.status == 200 and not answer.body.strip()):
            return None
        if answer.status != 200:
            raise self._refusal(f"cannot read {self._name(suffix)}", answer)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise StateError(
                f"what {self._name(suffix)} answers is no JSON object", hint="Check the URL: is it that of a state?"
            )
        return found

    def write(self, suffix: str, content: Mapping[str, Any], lock_id: str = "") -> None:
        """Store a document; on return it is stored for certain.

        Whatever is not a plain success is looked at before anything is concluded: what was stored counts, not what was
        answered. A write is made again only where the first certainly did not arrive, or where it cannot arrive as a
        second one: GitLab keeps each serial once.
        """
        what = f"cannot write {self._name(suffix)}"
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        for pause in (*PAUSES, None):
            error: StateError
            try:
                answer = self._send("POST", suffix, body, {"ID": lock_id} if lock_id else {})
            except _Lost as lost:
                if not lost.sent and pause is not None:
                    time.sleep(pause)
                    continue
                error, again = self._unreachable(what, lost), self.address.is_gitlab
                if not lost.sent:
                    raise error from lost
            else:
                if answer.status in _STORED:
                    return
                error, again = self._refusal(what, answer), answer.status in _PASSING and self.address.is_gitlab
                if answer.status == 429 and pause is not None:
                    time.sleep(_wait(answer, pause))
                    continue
            if self._is_stored_after(error, suffix, content):
                return
            if not again or pause is None:
                raise error
            time.sleep(pause)

    def offer(self, suffix: str, content: Mapping[str, Any], lock_id: str) -> bool:
        """Try to store a document, once; True where it is stored then."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            answer = self._send("POST", suffix, body, {"ID": lock_id})
        except _Lost as lost:
            if not lost.sent:
                raise self._unreachable(f"cannot write {self._name(suffix)}", lost) from lost
        else:
            if answer.status in _STORED:
                return True
        return self.read(suffix) == content

    def _is_stored_after(self, error: StateError, suffix: str, content: Mapping[str, Any]) -> bool:
        try:
            return self.read(suffix) == content
        except StateError as unread:
            raise StateError(
                f"{error.summary}; nor can it be found out whether it was written", hint=error.hint or unread.hint
            ) from unread

    def delete(self, suffix: str) -> bool:
        """Remove a document; False where the server did not do so. Never raises: nothing depends on it."""
        try:
            return self._send("DELETE", suffix).status in (*_STORED, 202, 404)
        except _Lost:
            return False

    def lock(self, suffix: str, record: Mapping[str, str]) -> dict[str, Any] | None:
        """Take a document's lock; None on success, otherwise the record of who has it."""
        what = f"cannot lock {self._name(suffix)}"
        answer = self._repeated(*self._locking("LOCK", suffix), what, json.dumps(record).encode())
        if answer.status in _STORED:
            return None
        if answer.status not in (409, 423):
            raise self._refusal(what, answer)
        holder = answer.fields()
        # An answer that was lost is followed by a refusal in our own favour.
        return None if holder.get("ID") == record["ID"] else holder

    def unlock(self, suffix: str, record: Mapping[str, Any]) -> bool:
        """Give a lock back; False where it is not the record's any more."""
        what = f"cannot unlock {self._name(suffix)}"
        method, place = self._locking("UNLOCK", suffix)
        lock_id = str(record.get("ID", ""))
        answer = self._repeated(method, place, what, json.dumps(dict(record)).encode(), {"ID": lock_id})
        if answer.status in _STORED:
            return True
        if answer.status in (404, 409, 423):
            return False
        raise self._refusal(what, answer)

    def _locking(self, method: str, suffix: str) -> tuple[str, str]:
        if self.address.is_gitlab:
            return {"LOCK": "POST", "UNLOCK": "DELETE"}[method], f"{suffix}/lock"
        return method, suffix

    def _repeated(
        self, method: str, suffix: str, what: str, body: bytes = b"", query: Mapping[str, str] | None = None
    ) -> _Answer:
        """An answer to a request that may be made any number of times."""
        for pause in PAUSES:
            try:
                answer = self._send(method, suffix, body, query or {})
            except _Lost:
                time.sleep(pause)
                continue
            if answer.status not in _PASSING:
                return answer
            time.sleep(_wait(answer, pause))
        try:
            return self._send(method, suffix, body, query or {})
        except _Lost as lost:
            raise self._unreachable(what, lost) from lost

    def _send(self, method: str, suffix: str, body: bytes = b"", query: Mapping[str, str] | None = None) -> _Answer:
        """One exchange. Raises _Lost."""
        try:
            url = httpx.URL(f"{self.address}{suffix}", params=dict(query) if query else None)
        except (httpx.InvalidURL, UnicodeEncodeError):
            # A lock's ID comes from the server, and JSON can spell half a character.
            raise _Lost("what it names cannot be asked for", sent=False) from None
        headers = {"Content-Type": "application/json"} if body else {}
        started = time.monotonic()
        try:
            with self._client.stream(method, url, content=body or None, headers=headers) as response:
                encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
                if encoding != "identity":
                    raise _Lost(f"the answer is packed ({encoding[:20]!r}), which was not asked for", sent=True)
                found = bytearray()
                for part in response.iter_raw():
                    found += part
                    if len(found) > LARGEST_BODY:
                        raise _Lost(f"the answer is larger than {LARGEST_BODY // 1024**2} MiB", sent=True)
                    if time.monotonic() - started > LONGEST_EXCHANGE:
                        raise _Lost(f"the answer takes longer than {LONGEST_EXCHANGE:.0f} s", sent=True)
                return _Answer(response.status_code, bytes(found), response.headers.get("Retry-After", ""))
        except _FOREIGN as error:
            detail = " ".join(str(error).split())[:200]
            words = f"{_kind(error)} ({detail})" if detail and detail.isprintable() else _kind(error)
            raise _Lost(words, sent=not isinstance(error, _UNSENT)) from error

    def _name(self, suffix: str) -> str:
        return f"{self.address}{suffix.removesuffix('/lock')}"

    @property
    def _advice(self) -> str:
        if self._credentials is None:
            return "Set IMGCTL_STATE_USERNAME and IMGCTL_STATE_PASSWORD."
        return f"They come from {self._credentials.source}."

    def _is_hidden(self, answer: _Answer) -> bool:
        # GitLab answers 404 for a project that the asker may not see: that is no state that is not there yet.
        return "project not found" in str(answer.fields().get("message", "")).lower()

    def _unreachable(self, what: str, lost: _Lost) -> StateError:
        return StateError(
            f"{what}: {lost}",
            hint="Check the network, HTTPS_PROXY and NO_PROXY; a certificate of your own goes into SSL_CERT_FILE.",
        )

    def _refusal(self, what: str, answer: _Answer) -> StateError:
        gitlab = self.address.is_gitlab
        match answer.status:
            case 401:
                hint = self._advice
                if gitlab:
                    hint += " GitLab takes a user name and a token of scope api, or gitlab-ci-token and a job token."
            case 403:
                hint = "These credentials may not do that."
                if gitlab:
                    hint += " In GitLab reading takes the role Developer, writing and locking Maintainer."
            case 404:
                hint = f"Check the URL. {self._advice}"
            case 409 | 422 | 423:
                hint = "Its lock is not this run's any more, or another run has written it."
            case 405 | 501:
                hint = "The server does not do that: imgctl needs one that locks, by LOCK and UNLOCK or as GitLab does."
            case 413:
                hint = "The server bounds the size of a state: ask its administrator for more."
            case status if 300 <= status < 400:
                hint = "A redirect is not followed: name the place itself."
            case 500 if gitlab:
                hint = "GitLab also answers so where the lock was taken away from this run: was it force-unlocked?"
            case _:
                hint = ""
        return StateError(f"{what}: {answer.words}", hint=hint)


def _client(address: HttpAddress, credentials: Credentials | None) -> httpx.Client:
    # At its debug level this logger prints headers.
    logging.getLogger("httpcore").setLevel(logging.INFO)
    auth = httpx.BasicAuth(credentials.username, credentials.password) if credentials is not None else None
    try:
        return httpx.Client(
            auth=auth,
            # Certificates take longer to read than a request on this machine: where none is shown, none is trusted.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if address.scheme == "http" else True,
            # Proxies and certificates as the environment says, but on this machine none.
            trust_env=not address.is_local,
            timeout=TIMEOUT,
            follow_redirects=False,
            headers={
                "User-Agent": f"imgctl/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
        raise UsageError(
            f"the proxy or certificate settings cannot be used: {error}",
            hint="Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.",
        ) from error


def _kind(error: BaseException) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case httpx.TimeoutException() | TimeoutError():
            return "no answer in time"
        case httpx.ProxyError():
            return "the proxy refused"
        case httpx.ConnectError():
            return "no connection"
        case _:
            return "the connection was lost"


def _wait(answer: _Answer, pause: float) -> float:
    told = answer.retry_after.strip()
    return min(float(told[:6]), _LONGEST_WAIT) if told.isascii() and told.isdigit() else pause
