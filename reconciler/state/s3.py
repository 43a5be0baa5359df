"""A bucket of an S3-compatible store, as far as a state needs it: whole objects, written under a condition.

Everything that reaches beyond this machine is bounded: attempts, seconds, bytes. Of an answer only its status and error
code go into a message: the rest may repeat the request, and with it what must not be seen.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from reconciler.errors import StateError, UsageError

if TYPE_CHECKING:
    from obstore.store import S3Store

_Result = TypeVar("_Result")

_ENDPOINTS = ("IMGCTL_STATE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_KEYS = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
# Where keys come from on a runner that has none in its environment: a token of the workflow, or its container's role.
_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

# Seconds: to connect, for one request, between attempts, and the moment after which no further attempt is made.
_CONNECT: Final = timedelta(seconds=5)
_REQUEST: Final = timedelta(seconds=60)
_PAUSES: tuple[float, ...] = (0.2, 1.0, 3.0)
_LONGEST = 60.0
# An object that stands in the way of a write is read up to this size, in bytes.
_LOOK: Final = 1 << 28

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_NO_SUCH_KEY = "NoSuchKey"
# An answer that another attempt does not change. A conflict (409) is none: two conditional writes have met.
_FINAL = frozenset({301, 307, 308, 400, 401, 403, 404, 405, 411, 413, 501})


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was read: its bytes, and the ETag by which a write can require that it is still this one."""

    content: bytes
    tag: str


class Changed(Exception):  # noqa: N818 - it is what was found, not what went wrong
    """The condition of a write does not hold: `found` is what is there instead, None for nothing."""

    def __init__(self, found: Found | None) -> None:
        super().__init__("the object is another one")
        self.found = found


class Bucket:
    """One bucket; where it is and what opens it come from the environment alone.

    A write is conditional, always, and its outcome is known when it returns: an answer that was lost is looked for.
    """

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.name = name
        self.host, self._store = _connect(name, environ)

    def __str__(self) -> str:
        return f"{self.name} at {self.host}"

    def get(self, name: str, most: int) -> Found | None:
        """A whole object of at most `most` bytes; None where the store itself says that there is none."""
        return self._repeated("read", name, lambda: self._get(name, most))

    def is_still(self, name: str, tag: str) -> bool:
        """Whether an object is the one with this ETag, without its bytes being sent again."""
        return self._repeated("read", name, lambda: self._is_still(name, tag))

    def put(self, name: str, content: bytes, expected: str | None, *, attempts: int | None = None) -> str:
        """Write an object in place of the one with the ETag `expected`, or where there is none; returns its ETag.

        Raises Changed where the condition does not hold, StateError where nobody can say whether it was written.
        """
        # To repeat a conditional write is safe: at most one of the attempts takes effect, and a late one of them finds
        # its condition gone. So each attempt that did not simply succeed is followed by a look at what is there.
        end = time.monotonic() + _LONGEST
        pauses = _PAUSES if attempts is None else _PAUSES[: attempts - 1]
        for pause in (*pauses, None):
            problem: _Unsure | None = None
            try:
                written = self._put(name, content, expected)
                if written is not None:
                    return written
            except _Unsure as unsure:
                problem = unsure
            try:
                found = self._get(name, _LOOK)
            except _Unsure as unsure:
                problem = problem or unsure
            else:
                if found is not None and found.content == content:
                    return found.tag
                if (None if found is None else found.tag) != expected:
                    raise Changed(found)
            if pause is None or (problem is not None and problem.final) or time.monotonic() + pause > end:
                raise self._failed("write", name, problem)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def try_put(self, name: str, content: bytes, expected: str | None) -> str | None:
        """One attempt to write; None where the store refused it for its condition. Raises StateError."""
        try:
            return self._put(name, content, expected)
        except _Unsure as unsure:
            raise self._failed("write", name, unsure) from None

    def remove(self, names: Iterable[str]) -> None:
        """Remove what nobody reads any more. Best effort: what stays is in nobody's way."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.delete(self._store, list(names))
        except (BaseError, OSError, ValueError):
            return

    def names(self, prefix: str, after: str, most: int) -> list[str]:
        """The first names with this prefix that come after `after`, in their order."""
        return self._repeated("list", prefix, lambda: self._names(prefix, after, most))

    # One attempt each

    def _get(self, name: str, most: int) -> Found | None:
        import obstore

        with _translated():
            try:
                result = obstore.get(self._store, name)
            except FileNotFoundError as error:
                # Only the store's own word for it counts: a proxy's 404, or a bucket that is not there, is no answer.
                if _code(error) == _NO_SUCH_KEY:
                    return None
                raise
            meta = result.meta
            if meta["size"] > most:
                raise StateError(
                    f"s3://{self.name}/{name} has {meta['size']} bytes, of which {most} are the most",
                    hint="It is not what imgctl writes there: look at it.",
                )
            content = bytes(result.bytes())
        return Found(content, self._tag(name, meta["e_tag"]))

    def _is_still(self, name: str, tag: str) -> bool:
        import obstore
        from obstore.exceptions import NotModifiedError

        with _translated():
            try:
                result = obstore.get(self._store, name, options={"if_none_match": tag})
            except NotModifiedError:
                return True
            except FileNotFoundError as error:
                if _code(error) == _NO_SUCH_KEY:
                    return False
                raise
            # A store that sends it all again is slow, not wrong.
            return self._tag(name, result.meta["e_tag"]) == tag

    def _names(self, prefix: str, after: str, most: int) -> list[str]:
        import obstore

        found: list[str] = []
        with _translated():
            for chunk in obstore.list(self._store, prefix, offset=after or None):
                found.extend(meta["path"] for meta in chunk)
                if len(found) >= most:
                    break
        return found[:most]

    def _put(self, name: str, content: bytes, expected: str | None) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with _translated():
            try:
                result = obstore.put(
                    self._store,
                    name,
                    content,
                    mode="create" if expected is None else {"e_tag": expected},
                    # In parts, the condition would be left out.
                    use_multipart=False,
                )
            except (AlreadyExistsError, PreconditionError):
                return None
            except FileNotFoundError as error:
                # What must be there and is not: some stores say so instead of 412.
                if expected is not None and _code(error) == _NO_SUCH_KEY:
                    return None
                raise
        return self._tag(name, result["e_tag"])

    def _tag(self, name: str, tag: str | None) -> str:
        if not tag:
            raise StateError(
                f"the store at {self.host} gives no ETag for s3://{self.name}/{name}",
                hint="Without ETags no write can be conditional: keep the state elsewhere.",
            )
        return tag

    def _repeated(self, verb: str, name: str, attempt: Callable[[], _Result]) -> _Result:
        end = time.monotonic() + _LONGEST
        for pause in (*_PAUSES, None):
            try:
                return attempt()
            except _Unsure as unsure:
                if unsure.final or pause is None or time.monotonic() + pause > end:
                    raise self._failed(verb, name, unsure) from None
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _failed(self, verb: str, name: str, unsure: _Unsure | None) -> StateError:
        what = str(unsure) if unsure is not None else "it keeps refusing the condition that holds"
        return StateError(
            f"cannot {verb} s3://{self.name}/{name} at {self.host}: {what}",
            hint=_hint(unsure) if unsure is not None else "Other writers may be at work; run the command again.",
        )


class _Unsure(Exception):  # noqa: N818
    """An attempt that gave no usable answer; `final`: another one would not either."""

    def __init__(self, status: int, code: str, what: str) -> None:
        super().__init__(what)
        self.status = status
        self.code = code

    @property
    def final(self) -> bool:
        return self.status in _FINAL


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what the library says as _Unsure, without its words."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        text = str(error)
        status = int(found[1]) if (found := _STATUS.search(text)) else 0
        code = _code(error)
        raise _Unsure(status, code, f"the answer is {status} {code}".strip() if status else _connection(text)) from None


def _code(error: BaseException) -> str:
    return found[1] if (found := _CODE.search(str(error))) else ""


def _connection(text: str) -> str:
    """What kept an answer from coming, in words of our own."""
    for sign, words in (
        ("ertificate", "its certificate is not trusted"),
        ("Timeout", "no answer in time"),
        ("TimedOut", "no answer in time"),
        ("dns error", "its host name is not known"),
        ("Connection refused", "nothing listens there"),
        ("kind: Connect", "it cannot be reached"),
        ("redentials", "there are no usable keys in the environment"),
    ):
        if sign in text:
            return words
    return "the connection was lost"


def _hint(unsure: _Unsure) -> str:
    if unsure.code == "NoSuchBucket":
        return "Create the bucket, or name another with --state."
    match unsure.status:
        case 301 | 307 | 308:
            return "The bucket is in another region: set AWS_REGION to its own."
        case 400 | 401 | 403:
            return (
                "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, and that they may "
                "get, put, delete and list objects there."
            )
        case 404:
            return "Check the endpoint: this is not how a store of objects answers."
        case _:
            return f"Check the endpoint ({', '.join(_ENDPOINTS)}) and the network, then run the command again."


# Connecting


def _connect(bucket: str, environ: Mapping[str, str]) -> tuple[str, S3Store]:
    """The host, for messages, and the bucket there. Raises UsageError, StateError."""
    try:
        from obstore.store import S3Store
    except ImportError:
        raise StateError(
            f"a state in object storage (s3://{bucket}) needs obstore, which is not installed",
            hint="Install it with: pip install 'imgctl[s3]'",
        ) from None
    config: Any = {option: value for option, names in _KEYS.items() if (value := _first(environ, names)) is not None}
    if not {"access_key_id", "secret_access_key"} <= config.keys() and not _first(environ, _ROLES):
        raise StateError(
            f"there are no keys for s3://{bucket} in the environment",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN for temporary ones.",
        )
    client: Any = {
        "allow_http": False,
        "allow_invalid_certificates": False,
        "connect_timeout": _CONNECT,
        "timeout": _REQUEST,
    }
    host = "s3.amazonaws.com"
    virtual = environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() in ("1", "true")
    endpoint = _first(environ, _ENDPOINTS)
    if endpoint is not None:
        host, loopback = _check(endpoint)
        url = urlsplit(endpoint)
        where = f"{url.scheme}://{bucket}.{url.netloc}" if virtual else f"{url.scheme}://{url.netloc}"
        # By both names, since the library itself looks into the environment, and prefers the second.
        config |= {"endpoint": where, "aws_endpoint_url_s3": where}
        if loopback:
            # A proxy with this exception, in place of those of the environment: none.
            client |= {"allow_http": True, "proxy_url": where, "proxy_excludes": url.hostname or ""}
    # One by one: the request that removes many at once is not the same everywhere.
    config |= {"conditional_put": "etag", "virtual_hosted_style_request": virtual, "disable_bulk_delete": True}
    # Attempts are counted here: what became of a lost one has to be known before the next.
    retry: Any = {"max_retries": 0, "retry_timeout": _REQUEST}
    return host, S3Store(bucket, config=config, client_options=client, retry_config=retry)


def _check(endpoint: str) -> tuple[str, bool]:
    """The host of an endpoint, and whether it is this machine. Raises UsageError."""
    try:
        url = urlsplit(endpoint)
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port, url = "", None, urlsplit("")
    if not host or url.username is not None or url.path not in ("", "/") or url.query or url.fragment:
        raise UsageError(
            f"{' or '.join(_ENDPOINTS)} is no endpoint",
            hint="It is a scheme and a host, without path, user or password: https://obs.ap-southeast-1.myhuaweicloud.com",
        )
    loopback = _is_loopback(host)
    if url.scheme != "https" and not (url.scheme == "http" and loopback):
        raise UsageError(f"the endpoint of the state is not https: {url.scheme}://{host}", hint="Only loopback may be.")
    return host if port is None else f"{host}:{port}", loopback


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _first(environ: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)
