"""Verification of SDK-HMAC-SHA256 signatures, written from the published algorithm (facts sheet 3.2)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
MAX_SKEW = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Access=(?P<access>[^,\s]+), *"
    r"SignedHeaders=(?P<headers>[^,\s]+), *Signature=(?P<signature>[0-9a-f]+)"
)
_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)


class SignatureError(Exception):
    """The signature does not hold; the text says why. `skewed`: only the time is wrong."""

    def __init__(self, text: str, *, skewed: bool = False) -> None:
        super().__init__(text)
        self.skewed = skewed


@dataclass(frozen=True)
class Signed:
    """A request as it came in. `path` and `query` are still percent-encoded; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Authorization:
    """The parts of an `Authorization` header."""

    access: str
    signed_headers: tuple[str, ...]
    signature: str


def parse_authorization(text: str) -> Authorization:
    """The header's parts. Raises SignatureError where it is no SDK-HMAC-SHA256 one."""
    match = _AUTHORIZATION.fullmatch(text.strip())
    if match is None:
        raise SignatureError("the authorization header is malformed")
    return Authorization(match["access"], tuple(match["headers"].split(";")), match["signature"])


def query_pairs(query: str) -> list[tuple[str, str]]:
    """The pairs of a query string, decoded. A plus sign is a plus sign: to the signature a space is `%20` only."""
    pairs = []
    for piece in query.split("&"):
        if piece:
            key, _, value = piece.partition("=")
            pairs.append((unquote(key), unquote(value)))
    return pairs


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def canonical_request(request: Signed, signed_headers: tuple[str, ...]) -> str:
    """The text whose hash is signed. Raises SignatureError where a signed header did not come with the request."""
    path = "/".join(_encode(segment) for segment in unquote(request.path).split("/"))
    if not path.endswith("/"):
        path += "/"
    query = "&".join(f"{_encode(key)}={_encode(value)}" for key, value in sorted(query_pairs(request.query)))
    names = sorted(name.lower() for name in signed_headers)
    missing = [name for name in names if name not in request.headers]
    if missing:
        raise SignatureError(f"the signed header {missing[0]} is missing")
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    return "\n".join((request.method.upper(), path, query, headers, ";".join(names), _body_hash(request, names)))


def _body_hash(request: Signed, signed: list[str]) -> str:
    digest = hashlib.sha256(request.body).hexdigest()
    claimed = request.headers.get("x-sdk-content-sha256")
    if not request.body or claimed is None or claimed == digest:
        return digest
    # The body may go unsigned only where it is neither JSON nor BSON, and only where the signature says so.
    kind = request.headers.get("content-type", "")
    if (
        claimed == UNSIGNED
        and "x-sdk-content-sha256" in signed
        and not kind.startswith(("application/json", "application/bson"))
    ):
        return UNSIGNED
    raise SignatureError("the body does not have the hash that X-Sdk-Content-Sha256 tells")


def _hash(text: str) -> str:
    # What was no UTF-8 in a header is hashed as it came.
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def sign(request: Signed, signed_headers: tuple[str, ...], secret: str) -> str:
    """The signature that the request should have, in lower-case hexadecimal."""
    canonical = canonical_request(request, signed_headers)
    text = "\n".join((ALGORITHM, request.headers.get("x-sdk-date", ""), _hash(canonical)))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def verify(request: Signed, authorization: Authorization, secret: str, now: datetime) -> None:
    """Raise SignatureError unless the request was signed with the secret, within 15 minutes of `now`.

    Any set of signed headers will do that contains X-Sdk-Date: clients of the real gateway differ there.
    """
    date = request.headers.get("x-sdk-date", "")
    if "x-sdk-date" not in (name.lower() for name in authorization.signed_headers) or not _DATE.fullmatch(date):
        raise SignatureError("X-Sdk-Date is missing, malformed or not signed")
    if not hmac.compare_digest(sign(request, authorization.signed_headers, secret), authorization.signature):
        raise SignatureError("verify aksk signature fail")
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureError("X-Sdk-Date is no date") from None
    if abs(now - moment) > MAX_SKEW:
        raise SignatureError("the request's time differs from the gateway's by more than 15 minutes", skewed=True)
