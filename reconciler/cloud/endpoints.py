"""Which host serves which region."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

from reconciler.errors import UsageError
from reconciler.model.regions import WORKSPACEAPP_REGIONS


class Service(Enum):
    """A cloud service that imgctl calls; the value is the suffix of its override's variable."""

    WORKSPACEAPP = "WORKSPACEAPP"
    IMS = "IMS"
    IAM = "IAM"
    # Of the machine itself, where it is an ECS instance: it has one address, whatever the region.
    METADATA = "METADATA"


OVERRIDE_ALL = "IMGCTL_ENDPOINT"
# Other tools' names for IAM's URL, Terraform's provider's and the SDK's: a password must not go elsewhere than theirs.
_IAM_VARIABLES = ("HW_AUTH_URL", "HUAWEICLOUD_SDK_IAM_ENDPOINT")
_CLOUD_VARIABLE, _CLOUD = "HW_CLOUD", "myhuaweicloud.com"
OVERRIDE_METADATA = f"{OVERRIDE_ALL}_{Service.METADATA.value}"

# Facts 5.1: these five are served as appstream.*, all others as workspace.*.
_APPSTREAM_REGIONS = frozenset({"cn-north-4", "cn-north-9", "cn-east-3", "cn-south-1", "cn-southwest-2"})
_REGION = re.compile(r"[a-z]+(-[a-z0-9]+)+")
# No name in Punycode: no host of the cloud has one, and it can look like another.
_LABEL = r"(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?P<port>:[0-9]{{1,5}})?/?", re.IGNORECASE
)
_METADATA_HOST = "169.254.169.254"
METADATA_URL = f"http://{_METADATA_HOST}"
# Whose hosts a profile file may name: a file of keys must not be able to send a password elsewhere.
_CLOUD_DOMAINS = (".myhuaweicloud.com", ".myhuaweicloud.eu")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs without a trailing slash. `overridden` says by service where one comes from that is not built in."""

    workspaceapp: str
    ims: str
    iam: str
    overridden: Mapping[Service, str] = field(default_factory=dict)
    metadata: str = METADATA_URL

    @classmethod
    def for_region(
        cls, region: str, overrides: Mapping[str, str], *, profile_iam: tuple[str, str] | None = None
    ) -> Endpoints:
        """The region's URLs, where `overrides` (an environment) does not name others.

        `profile_iam` is IAM's URL as a profile file has it, and where it stands; a variable wins. Raises UsageError for
        an unknown region, unless WorkspaceApp's endpoint is overridden, for a URL that must not be used, and where
        HW_CLOUD asks for another cloud than the built-in hosts belong to.
        """
        names = {service: _override_of(service, overrides) for service in Service if service is not Service.METADATA}
        check_region(region, known_only=not names[Service.WORKSPACEAPP])
        prefix = "appstream" if region in _APPSTREAM_REGIONS else "workspace"
        hosts = {Service.WORKSPACEAPP: prefix, Service.IMS: "ims", Service.IAM: "iam"}
        urls = {
            service: check_url(_value(overrides[name], name), name)
            if name
            else f"https://{hosts[service]}.{region}.{_CLOUD}"
            for service, name in names.items()
        }
        _check_cloud(overrides.get(_CLOUD_VARIABLE, ""), [service for service, name in names.items() if not name])
        overridden: dict[Service, str] = {service: name for service, name in names.items() if name}
        if profile_iam is not None and not names[Service.IAM]:
            urls[Service.IAM] = _check_profile_url(*profile_iam)
            overridden[Service.IAM] = profile_iam[1]
        metadata = METADATA_URL
        if overrides.get(OVERRIDE_METADATA):
            metadata = _check_metadata_url(overrides[OVERRIDE_METADATA])
            overridden[Service.METADATA] = OVERRIDE_METADATA
        return cls(
            workspaceapp=urls[Service.WORKSPACEAPP],
            ims=urls[Service.IMS],
            iam=urls[Service.IAM],
            overridden=overridden,
            metadata=metadata,
        )

    def url(self, service: Service) -> str:
        """The base URL of one service."""
        match service:
            case Service.WORKSPACEAPP:
                return self.workspaceapp
            case Service.IMS:
                return self.ims
            case Service.IAM:
                return self.iam
            case Service.METADATA:
                return self.metadata


def _override_of(service: Service, environ: Mapping[str, str]) -> str:
    """The name of the variable that overrides a service's endpoint, empty where none is set."""
    foreign = _IAM_VARIABLES if service is Service.IAM else ()
    names = (f"{OVERRIDE_ALL}_{service.value}", OVERRIDE_ALL, *foreign)
    return next((name for name in names if environ.get(name)), "")


def _value(url: str, name: str) -> str:
    """A variable's URL; others than ours may have the version of IAM's API in it."""
    return url.removesuffix("/").removesuffix("/v3") if name in _IAM_VARIABLES else url


def _check_cloud(cloud: str, built_in: list[Service]) -> None:
    """Raises UsageError where the services with `built_in` hosts are meant to be another cloud's."""
    if cloud and cloud != _CLOUD and built_in:
        names = ", ".join(f"{OVERRIDE_ALL}_{service.value}" for service in built_in)
        raise UsageError(
            f"{_CLOUD_VARIABLE} asks for another cloud than {_CLOUD}, whose hosts imgctl knows alone",
            hint=f"set {names} to that cloud's endpoints, or unset {_CLOUD_VARIABLE}",
        )


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
    if not match or not _is_host(match["host"]):
        # The value is not repeated: somebody may have put a password into it.
        raise UsageError(
            f"{name} is not the URL of a host",
            hint="it looks like https://workspace.ap-southeast-1.myhuaweicloud.com: no user, path, query or fragment",
        )
    if match["port"] and not 0 < int(match["port"][1:]) <= 65535:
        raise UsageError(f"{name} names a port that cannot be", hint="a port is a number from 1 to 65535")
    if match["scheme"].lower() == "http" and not (is_loopback(url) or match["host"] == _METADATA_HOST):
        raise UsageError(
            f"{name} is http:// to {match['host']}: keys and tokens would travel readable for anyone",
            hint="use https://; http:// is for loopback addresses only",
        )
    return url.rstrip("/")


def _is_host(host: str) -> bool:
    """False for what looks like an IP address and is none, which names nothing."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        elif host.rpartition(".")[2].isdigit():
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _check_metadata_url(url: str) -> str:
    """Keys are believed to whoever answers there: it is this machine, or the one address of the metadata service."""
    checked = check_url(url, OVERRIDE_METADATA)
    if not is_loopback(checked) and checked not in (METADATA_URL, f"{METADATA_URL}:80"):
        raise UsageError(
            f"{OVERRIDE_METADATA} is neither {METADATA_URL} nor a loopback address",
            hint=f"unset it: the metadata service of an ECS instance is always at {METADATA_URL}",
        )
    return checked


def _check_profile_url(url: str, name: str) -> str:
    checked = check_url(url, name)
    host = urlsplit(checked).hostname or ""
    if not is_loopback(checked) and not (checked.startswith("https://") and host.endswith(_CLOUD_DOMAINS)):
        raise UsageError(
            f"{name} is no host of Huawei Cloud, and a profile may name no other",
            hint=f"it ends in {' or '.join(_CLOUD_DOMAINS)}; for a host of your own set {OVERRIDE_ALL}_IAM",
        )
    return checked


def is_loopback(url: str) -> bool:
    """True for a URL that does not leave this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
