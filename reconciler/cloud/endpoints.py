"""Which host serves which region."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.model.regions import WORKSPACEAPP_REGIONS


class Service(Enum):
    """A cloud service that imgctl calls; the value is the suffix of its override's variable."""

    WORKSPACEAPP = "WORKSPACEAPP"
    IMS = "IMS"
    IAM = "IAM"


OVERRIDE_ALL = "IMGCTL_ENDPOINT"

# Facts 5.1: these five are served as appstream.*, all others as workspace.*.
_APPSTREAM_REGIONS = frozenset({"cn-north-4", "cn-north-9", "cn-east-3", "cn-south-1", "cn-southwest-2"})
_REGION = re.compile(r"[a-z]+(-[a-z0-9]+)+")
_HOST_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?/?")
_METADATA_HOST = "169.254.169.254"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs without a trailing slash. `overridden` names the variables that replaced a built-in one."""

    workspaceapp: str
    ims: str
    iam: str
    overridden: tuple[str, ...] = ()

    @classmethod
    def for_region(cls, region: str, overrides: Mapping[str, str]) -> Endpoints:
        """The region's URLs, where `overrides` (an environment) does not name others.

        Raises UsageError for an unknown region, unless WorkspaceApp's endpoint is overridden, and for a URL that is
        not https.
        """
        names = {service: _override_of(service, overrides) for service in Service}
        check_region(region, known_only=not names[Service.WORKSPACEAPP])
        prefix = "appstream" if region in _APPSTREAM_REGIONS else "workspace"
        hosts = {Service.WORKSPACEAPP: prefix, Service.IMS: "ims", Service.IAM: "iam"}
        urls = {
            service: check_url(overrides[name], name)
            if name
            else f"https://{hosts[service]}.{region}.myhuaweicloud.com"
            for service, name in names.items()
        }
        return cls(
            workspaceapp=urls[Service.WORKSPACEAPP],
            ims=urls[Service.IMS],
            iam=urls[Service.IAM],
            overridden=tuple(sorted({name for name in names.values() if name})),
        )

    def url(self, service: Service) -> str:
        """The base URL of one service."""
        return {Service.WORKSPACEAPP: self.workspaceapp, Service.IMS: self.ims, Service.IAM: self.iam}[service]


def _override_of(service: Service, environ: Mapping[str, str]) -> str:
    """The name of the variable that overrides a service's endpoint, empty where none is set."""
    return next((name for name in (f"{OVERRIDE_ALL}_{service.value}", OVERRIDE_ALL) if environ.get(name)), "")


def nearest(region: str) -> str:
    """The known region whose name looks most like this one, empty where none does."""
    return next(iter(difflib.get_close_matches(region, sorted(WORKSPACEAPP_REGIONS), n=1)), "")


def check_region(region: str, *, known_only: bool = True) -> None:
    """Raises UsageError for a name that is no region's; with `known_only` also for one not in the built-in table."""
    if not _REGION.fullmatch(region):
        raise UsageError(f"{region!r} is not the name of a region", hint="a region looks like ap-southeast-1")
    if known_only and region not in WORKSPACEAPP_REGIONS:
        guess = nearest(region)
        raise UsageError(
            f"region {region} is not known to offer image servers",
            hint=(f"did you mean {guess}? " if guess else "")
            + f"Known: {', '.join(sorted(WORKSPACEAPP_REGIONS))}. "
            + f"For a newer region set {OVERRIDE_ALL}_{Service.WORKSPACEAPP.value} to its endpoint",
        )


def check_url(url: str, name: str) -> str:
    """A base URL fit for use, without its trailing slash. `name` is the variable that it comes from.

    TLS is required except to loopback and to the metadata address: keys and tokens travel with the requests.
    """
    match = _HOST_URL.fullmatch(url)
    if not match:
        # The value is not repeated: somebody may have put a password into it.
        raise UsageError(
            f"{name} is not the URL of a host",
            hint="it looks like https://workspace.ap-southeast-1.myhuaweicloud.com: no user, path, query or fragment",
        )
    if match["port"] and int(match["port"][1:]) > 65535:
        raise UsageError(f"{name} names a port above 65535")
    if match["scheme"] == "http" and not (is_loopback(url) or match["host"] == _METADATA_HOST):
        raise UsageError(
            f"{name} is http:// to {match['host']}: keys and tokens would travel readable for anyone",
            hint="use https://; http:// is for loopback addresses only",
        )
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """True for a URL that does not leave this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
