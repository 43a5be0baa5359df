"""The API operations that imgctl calls, as their pages describe them (facts 1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import quote

from reconciler.cloud.endpoints import Service
from reconciler.errors import UsageError

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_id(text: str) -> bool:
    """True for what may stand in a path as an id; every id of the manifest, the state and the cloud is held to it."""
    return _ID.fullmatch(text) is not None


class Repeat(Enum):
    """After which failures a request may be sent again (facts 6.7)."""

    # It changes nothing that matters: after any failure that may pass.
    SAFE = "safe"
    # It changes something: only where the cloud certainly did not act on it.
    IF_UNSEEN = "if-unseen"
    # Its caller decides, since every sending must be recorded first.
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the endpoint index. `name` is the API page's; `action` and `dependencies` are IAM permissions."""

    name: str
    service: Service
    method: str
    path: str
    action: str = ""
    dependencies: tuple[str, ...] = ()
    repeat: Repeat = Repeat.SAFE
    good: frozenset[int] = frozenset({200})


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an operation. `ids` fill its path; `body` is a JSON value, None for none."""

    operation: Operation
    ids: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    project_id: str = ""

    @property
    def title(self) -> str:
        """For messages: `RecreateServerImage for server 6976…`."""
        about = [f" for {name.removesuffix('_id')} {value}" for name, value in self.ids.items()]
        return self.operation.name + "".join(about)

    @property
    def path(self) -> str:
        """The path as sent. Raises UsageError for an id that is none: it must not reach another path."""
        ids = dict(self.ids)
        if "{project_id}" in self.operation.path:
            ids["project_id"] = self.project_id
        for name, value in ids.items():
            if not is_id(value):
                raise UsageError(
                    f"{value[:140]!r} is not a {name.replace('_', ' ')}",
                    hint="an id has 1 to 128 letters, digits, underscores and hyphens",
                )
        return self.operation.path.format(**{name: quote(value, safe="") for name, value in ids.items()})


_SERVERS = "/v1/{project_id}/image-servers"
_JOBS = "/v1/{project_id}/image-server-jobs"

RECREATE = Operation(
    "RecreateServerImage",
    Service.WORKSPACEAPP,
    "POST",
    _SERVERS + "/{server_id}/actions/recreate-image",
    "workspace:imageServer:recreate",
    # The page's table of dependencies.
    (
        "vpc:ports:get",
        "vpc:subnets:get",
        "ims:quotas:get",
        "ims:images:get",
        "ims:images:list",
        "ims:images:setTags",
        "ims:images:setOrDeleteTags",
        "ims:images:updateMemberStatus",
        "ims:images:copyInRegion",
        "ims:serverImages:create",
    ),
    repeat=Repeat.NEVER,
    good=frozenset({200, 201, 202}),
)
LIST_SERVERS = Operation("ListImageServers", Service.WORKSPACEAPP, "GET", _SERVERS, "workspace:imageServer:list")
SHOW_SERVER = Operation(
    "ShowImageServer", Service.WORKSPACEAPP, "GET", _SERVERS + "/{server_id}", "workspace:imageServer:get"
)
LIST_JOBS = Operation("ListImageJobs", Service.WORKSPACEAPP, "GET", _JOBS, "workspace:images:listImageJobs")
SHOW_JOB = Operation("ShowImageJob", Service.WORKSPACEAPP, "GET", _JOBS + "/{job_id}", "workspace:images:getImageJob")
LIST_SUB_JOBS = Operation(
    "ListImageSubJobs",
    Service.WORKSPACEAPP,
    "GET",
    "/v1/{project_id}/image-server-sub-jobs",
    "workspace:imageServer:listImageSubJobs",
)
LIST_IMAGES = Operation("ListImages", Service.IMS, "GET", "/v2/cloudimages", "ims:images:list")
SHOW_IMAGE = Operation("GlanceShowImage", Service.IMS, "GET", "/v2/images/{image_id}", "ims:images:get")
# Its action is not published (facts 1.1).
UPDATE_IMAGE = Operation("UpdateImage", Service.IMS, "PATCH", "/v2/cloudimages/{image_id}", repeat=Repeat.IF_UNSEEN)
# Likewise. 204 does not prove that there was such an image (facts 1.15).
DELETE_IMAGE = Operation(
    "GlanceDeleteImage",
    Service.IMS,
    "DELETE",
    "/v2/images/{image_id}",
    repeat=Repeat.IF_UNSEEN,
    good=frozenset({200, 202, 204}),
)
SHOW_QUOTA = Operation("ShowImageQuota", Service.IMS, "GET", "/v1/cloudimages/quota", "ims:quotas:get")
CREATE_TOKEN = Operation(
    "KeystoneCreateUserTokenByPassword", Service.IAM, "POST", "/v3/auth/tokens", good=frozenset({201})
)
LIST_PROJECTS = Operation("KeystoneListProjects", Service.IAM, "GET", "/v3/projects")
# The ECS metadata service (facts 4.3). 404, 405 and 503 say that it is of a version without tokens.
METADATA_TOKEN = Operation(
    "MetadataToken",
    Service.METADATA,
    "PUT",
    "/meta-data/latest/api/token",
    good=frozenset({200, 404, 405, 503}),
)
SECURITY_KEY = Operation("MetadataSecurityKey", Service.METADATA, "GET", "/openstack/latest/securitykey")


def table() -> tuple[Operation, ...]:
    """Every operation of this module, in its order."""
    return tuple(each for each in globals().values() if isinstance(each, Operation))
