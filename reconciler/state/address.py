"""Where a remote state is, and who asks for it. No I/O."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from reconciler.errors import UsageError

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# What GitLab takes as a state's name, with room for what is added to it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PATH = re.compile(r"(/[A-Za-z0-9._~%+:@!$&'()*,;=-]+)+")
_GITLAB = re.compile(r"/api/v4/projects/[^/]+/terraform/state/[^/]+$")
_PORTS = {"https": 443, "http": 80}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._=-]*(/[A-Za-z0-9_-][A-Za-z0-9._=-]*)*")
_LONGEST_KEY = 512
DATABASE_SCHEMES = ("postgresql", "postgres")
_DATABASE_PORT = 5432
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_EXAMPLE = "It looks like https://gitlab.example.com/api/v4/projects/42/terraform/state/images."


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user and password for a state's host. `source` names the variables that they came from, for messages."""

    username: str
    password: str = field(repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """The URL of a state, in parts that are safe to join and to print."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> HttpAddress:
        """Raises UsageError where it cannot be one. The URL is not repeated: it may hold a secret."""
        parts, port = _parts(url, _EXAMPLE, "IMGCTL_STATE_USERNAME and IMGCTL_STATE_PASSWORD")
        host = parts.hostname or ""
        if parts.scheme not in _PORTS or not (_HOST.fullmatch(host) or _is_ip(host)):
            raise UsageError("the URL of the state is no https URL", hint=_EXAMPLE)
        if parts.scheme == "http" and not _is_loopback(host):
            raise UsageError(
                f"the state would go to {host} unencrypted",
                hint="Use https; http is for servers on this machine only.",
            )
        folders, _, name = parts.path.rpartition("/")
        if not _NAME.fullmatch(name) or not _PATH.fullmatch(parts.path) or {".", ".."} & set(folders.split("/")):
            raise UsageError(
                "the URL of the state does not end in a name for it",
                hint=f"Letters, digits, '.', '-' and '_', at most 200 of them. {_EXAMPLE}",
            )
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], parts.path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def place(self) -> str:
        """The host, with its port unless that is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True where requests do not leave this machine."""
        return _is_loopback(self.host)

    @property
    def is_gitlab(self) -> bool:
        """True for GitLab's managed state, by its path: it locks in its own way, and keeps each serial once."""
        return bool(_GITLAB.search(self.path))

    def is_at(self, place: str) -> bool:
        """True where `place`, a host or host:port, is this one's."""
        return place.strip().lower() in (self.place, f"{self.place}:{self.port}")


def _parts(url: str, example: str, variables: str) -> tuple[SplitResult, int | None]:
    """The parts of a URL, with its port, where it holds nothing but a place. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("the URL of the state cannot be read", hint=example) from None
    if "@" in parts.netloc:
        raise UsageError(
            "the URL of the state has a user or a password in it", hint=f"Remove it, and set {variables} instead."
        )
    if "?" in url or "#" in url:
        raise UsageError("the URL of the state has a query or a fragment in it", hint=example)
    return parts, port


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


@dataclass(frozen=True, slots=True)
class DatabasePlace:
    """The state of a name in a PostgreSQL database. `host` is empty for the server behind this machine's socket."""

    host: str
    port: int
    database: str
    name: str

    @classmethod
    def parse(cls, url: str) -> DatabasePlace:
        """Raises UsageError where it cannot be one. The URL is not repeated: it may hold a secret."""
        example = "It looks like postgresql://db.example.com/DATABASE/NAME."
        parts, port = _parts(url, example, "PGUSER and PGPASSWORD")
        host = parts.hostname or ""
        if parts.scheme not in DATABASE_SCHEMES or not (not parts.netloc or _HOST.fullmatch(host) or _is_ip(host)):
            raise UsageError("the URL of the state names no PostgreSQL server", hint=example)
        names = parts.path.removeprefix("/").split("/")
        if len(names) != 2 or not all(_DATABASE_NAME.fullmatch(name) for name in names):
            raise UsageError(
                "the URL of the state does not end in a database and a name for the state",
                hint=f"Letters, digits, '.', '-' and '_', at most 63 of them each. {example}",
            )
        return cls(host, port or _DATABASE_PORT, *names)

    def __str__(self) -> str:
        return f"postgresql://{self.place if self.host else ''}/{self.database}/{self.name}"

    @property
    def place(self) -> str:
        """The host, with its port unless that is the usual one; `localhost` for this machine's socket."""
        host = f"[{self.host}]" if ":" in self.host else self.host or "localhost"
        return host if self.port == _DATABASE_PORT else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True where nothing leaves this machine."""
        return not self.host or _is_loopback(self.host)

    def is_at(self, place: str) -> bool:
        """True where `place`, a host or host:port, is this one's."""
        return place.strip().lower() in (self.place, f"{self.place}:{self.port}")


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """The bucket and key of a state in object storage: where that is, no URL says."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> ObjectPlace:
        """Raises UsageError where it cannot be one. The URL is not repeated: it may hold a secret."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise UsageError(
                "the URL of the state names no bucket", hint="It looks like s3://BUCKET/imgctl.state.json."
            )
        if not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY:
            raise UsageError(
                f"the URL of the state names no key in the bucket {bucket}",
                hint=f"Letters, digits, '.', '_', '=' and '-', and single slashes between, at most {_LONGEST_KEY} of "
                f"them. It looks like s3://{bucket}/team/imgctl.state.json.",
            )
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
