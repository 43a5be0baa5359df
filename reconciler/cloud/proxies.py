"""Which proxy a host is reached through, as the environment's variables say it. It opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.cloud.endpoints import METADATA_URL, is_loopback


def proxy_for(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The proxy that requests to a URL go through, without its credentials, and the variable that names it.

    None: the direct way, as always on this machine and to the metadata service.
    """
    host = (urlsplit(url).hostname or "").lower()
    if is_loopback(url) or url.startswith(METADATA_URL) or _is_excepted(host, _value(environ, "no_proxy")[0]):
        return None
    for name in (f"{urlsplit(url).scheme}_proxy", "all_proxy"):
        value, variable = _value(environ, name)
        if value:
            return _without_credentials(value), variable
    return None


def _value(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """A variable's value and its name as it stands; the lower-case one wins, even an empty one, as for httpx."""
    return next(((environ[each], each) for each in (name, name.upper()) if each in environ), ("", ""))


def _is_excepted(host: str, no_proxy: str) -> bool:
    for entry in no_proxy.lower().split(","):
        pattern = entry.strip()
        if pattern == "*":
            return True
        bare = pattern.lstrip(".")
        if bare and ((host == bare and pattern == bare) or host.endswith(f".{bare}")):
            return True
    return False


def _without_credentials(proxy: str) -> str:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    if "@" in proxy.rpartition(parts.netloc)[2]:
        # What stands before it may be the beginning of a password with a slash in it.
        return "(not a URL)"
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
