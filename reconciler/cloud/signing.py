"""SDK-HMAC-SHA256, the signature of an access key. Pure functions; source: facts 3.2, and the official SDK's Signer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"


def format_date(moment: datetime) -> str:
    """The X-Sdk-Date header of a moment; more than 15 minutes off the cloud's clock is refused."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Sorted, percent-encoded pairs. The URL must carry exactly this text: a `+` for a space breaks the signature."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(pairs))


def _canonical_path(path: str) -> str:
    segments = "/".join(quote(segment, safe="") for segment in unquote(path).split("/"))
    # In the signed text only; the URL has no such slash.
    return segments if segments.endswith("/") else segments + "/"


def canonical_request(
    method: str, path: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], body: bytes
) -> str:
    """The text whose hash is signed. `path` is as sent; `headers` are those to sign, names in any case."""
    signed = _signed(headers)
    lines = [f"{name}:{value}" for name, value in signed.items()]
    return "\n".join(
        [
            method.upper(),
            _canonical_path(path),
            canonical_query(query),
            *lines,
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def _signed(headers: Mapping[str, str]) -> dict[str, str]:
    """Names with an underscore are left out: proxies drop such headers."""
    lowered = {name.lower(): value.strip() for name, value in headers.items() if "_" not in name}
    return dict(sorted(lowered.items()))


def authorization(access_key: str, secret_key: str, headers: Mapping[str, str], canonical: str) -> str:
    """The Authorization header for a canonical request made of the same `headers`; X-Sdk-Date must be among them."""
    signed = _signed(headers)
    to_sign = "\n".join([ALGORITHM, signed["x-sdk-date"], hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(secret_key.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={';'.join(signed)}, Signature={signature}"
