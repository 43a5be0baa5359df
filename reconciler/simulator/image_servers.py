"""WorkspaceApp image servers: list, show, rename, recreate-image (facts sheet 1.2 to 1.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice

from reconciler.simulator.answers import Answer, ApiError, BadValue, fraction_time, gateway_error, workspace_error
from reconciler.simulator.calls import MOST_OFFSET, Call, Operation
from reconciler.simulator.records import BuildRequest, Server
from reconciler.simulator.world import Busy

# The API's own patterns. Its \w is ASCII: the backend's regular expressions are Java's (facts sheet 8, 14).
IMAGE_NAME = re.compile(r"(?! +)[ .\-\w\u4e00-\u9fa5]{0,127}[.\-\w\u4e00-\u9fa5]", re.ASCII)
IMAGE_DESCRIPTION = re.compile(r"(?! +)[^\r\n<>]{0,1024}")
SERVER_NAME = re.compile(r"[\w\u4e00-\u9fa5\-]{1,64}", re.ASCII)
_DEFAULT_PROJECT = ("", "0", "all_granted_eps")


def server_item(call: Call, server: Server) -> dict[str, object]:
    """A server as the API shows it. What a lagging build does to it does not show yet."""
    return {
        "id": server.id,
        "name": server.name,
        "description": server.description,
        "image_ref": {
            "id": server.source_image_id,
            "image_type": "gold",
            "product_id": "",
            "spce_code": server.spec_code,
        },
        "server_group_id": server.server_group_id,
        "app_group_id": server.app_group_id,
        "server_id": server.aps_server_id,
        "instance_id": server.instance_id,
        "image_id": server.image_id,
        "status": call.world.shown_status(server, call.now),
        "authorize_accounts": [{"account": server.account, "account_type": "USER", "domain": ""}],
        "enterprise_project_id": "0",
        "create_time": fraction_time(server.created_at),
        "update_time": fraction_time(server.updated_at),
    }


def find_server(call: Call) -> Server:
    """The server that the path names. Raises ApiError 404."""
    server = call.world.servers.get(call.path["server_id"])
    if server is None:
        raise workspace_error(404, "WKS.00211902", "The image server does not exist.")
    return server


def list_servers(call: Call) -> Answer:
    """ListImageServers."""
    offset = call.number("offset", 0, 0, MOST_OFFSET)
    limit = call.number("limit", 10, 1, 100)
    name = call.text("server_name")
    server_id = call.text("server_id", most=128)
    project = call.text("enterprise_project_id", most=128)
    every = call.world.servers
    servers: Iterable[Server] = every.values()
    count = len(every)
    if server_id:
        servers = [every[server_id]] if server_id in every else []
    if name:
        servers = [server for server in servers if name in server.name]
    if project not in _DEFAULT_PROJECT:
        servers = []
    if isinstance(servers, list):
        count = len(servers)
    page = islice(servers, offset, offset + limit)
    return Answer(200, {"count": count, "items": [server_item(call, server) for server in page]})


def show_server(call: Call) -> Answer:
    """ShowImageServer: one item, not wrapped."""
    return Answer(200, server_item(call, find_server(call)))


def update_server(call: Call) -> Answer:
    """UpdateImageServer: the server's own name and description, not those of its image."""
    body = call.json_object()
    name, description = body.get("name"), body.get("description")
    if name is not None and not (isinstance(name, str) and SERVER_NAME.fullmatch(name)):
        raise BadValue("name is invalid")
    if description is not None and not (isinstance(description, str) and len(description) <= 255):
        raise BadValue("description is invalid")
    server = find_server(call)
    if isinstance(name, str):
        server.name = name
    if isinstance(description, str):
        server.description = description
    server.updated_at = call.now
    call.world.touch()
    return Answer(200)


def _build_request(call: Call) -> BuildRequest:
    body = call.json_object()
    name, description = body.get("name"), body.get("description")
    if not isinstance(name, str) or not IMAGE_NAME.fullmatch(name):
        raise BadValue("name is invalid")
    if description is None:
        description = ""
    if not isinstance(description, str) or not IMAGE_DESCRIPTION.fullmatch(description):
        raise BadValue("description is invalid")
    # Reserved: checked, and then ignored.
    project = body.get("enterprise_project_id")
    if project is not None and not (isinstance(project, str) and len(project) <= 64):
        raise BadValue("enterprise_project_id is invalid")
    sysprep = body.get("execute_sysprep")
    if sysprep is not None and not isinstance(sysprep, bool):
        raise BadValue("execute_sysprep is invalid")
    return BuildRequest(call.path["server_id"], name, description, sysprep)


def recreate_image(call: Call) -> Answer:
    """RecreateServerImage. The body is checked first, then the server, then its status."""
    request = _build_request(call)
    find_server(call)
    world, faults = call.world, call.faults
    fate = faults.fate(call.operation, world.build_time)
    delay = faults.seconds("late-effect", call.operation, 1.0)
    if delay is not None:
        world.build_late(request, fate, call.now + timedelta(seconds=delay))
        raise gateway_error(504, "APIGW.0201", "Backend timeout")
    try:
        job = world.build(request, fate, call.now)
    except Busy as busy:
        raise _conflict(str(busy)) from None
    world.touch()
    return Answer(200, {"job_id": job.id})


def _conflict(status: str) -> ApiError:
    return workspace_error(409, "WKS.00211103", f"The image server is in the status {status}, which does not allow it.")


_SERVERS = "/v1/{project_id}/image-servers"
OPERATIONS = (
    Operation("GET", _SERVERS, "workspace", list_servers),
    Operation("GET", _SERVERS + "/{server_id}", "workspace", show_server),
    Operation("PATCH", _SERVERS + "/{server_id}", "workspace", update_server),
    Operation("POST", _SERVERS + "/{server_id}/actions/recreate-image", "workspace", recreate_image),
)
RECREATE = str(OPERATIONS[-1])
