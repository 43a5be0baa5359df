"""A manifest as text: of the image servers that exist, or an example to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

from reconciler.model.observed import ObservedServer
from reconciler.model.record import Binding
from reconciler.render.terminal import clean

_HEADER = """\
# imgctl: the image that each image server should have. Change a line, then: imgctl plan
version: 1
"""
# What stands in a name of the manifest; none begins with one of - . _ and none is longer than 64.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\-\u4e00-\u9fa5]+")
_LONGEST_NAME = 64
# Plain text to every YAML reader, old ones that know more booleans included.
_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z\u4e00-\u9fa5][a-z0-9_\-\u4e00-\u9fa5]*", re.IGNORECASE
)


def render_manifest(servers: Iterable[ObservedServer], binding: Binding) -> str:
    """A manifest that declares these servers, sorted by name: ids quoted, the cloud's names as comments."""
    lines = [
        _HEADER.rstrip(),
        f"region: {binding.region}",
        f'project_id: "{binding.project_id}"',
        "vars:",
        '  release: "1"                # patch day: change this line',
        "defaults:",
        "  image:",
        "    name: ${server.name}-${var.release}",
    ]
    by_id = {server.id: server for server in servers}
    entries: dict[str, list[str]] = {}
    for server in sorted(by_id.values(), key=lambda one: (one.name, one.id)):
        name = _free_name(server, entries)
        remarks = [clean(server.name) or "no name", clean(server.status) or "no status"]
        if server.image_id:
            remarks.append(f"shows image {clean(server.image_id)}")
        entries[name] = [f"  {_quoted(name)}:  # {', '.join(remarks)}", f"    server_id: {json.dumps(server.id)}"]
    lines += [
        "image_servers:" if entries else "image_servers: {}",
        *(line for entry in entries.values() for line in entry),
    ]
    return "\n".join(lines) + "\n"


def starter_manifest(region: str | None) -> str:
    """An example of every common field, for a reader who has none yet."""
    return (
        _HEADER
        + f"""\
region: {region or "ap-southeast-1"}
# project_id: a4da8115c9d8464ead3a38309130523f   # found through IAM where it is left out
vars:
  release: "2026.11"                  # patch day: change this line
defaults:
  image:
    name: ${{server.name}}-${{var.release}}
    description: "Built from ${{server.name}}, release ${{var.release}}"
image_servers:
  office:
    server_id: "25b1dd14-0c84-4558-aa57-03a6c54b8e75"   # the id of the image server, always quoted
    labels: {{ring: canary}}
  cad:
    server_id: "697612196993040384"
    triggers: {{gpu_driver: "551.86"}}  # any change here means a rebuild
    protect: true                     # a rebuild needs --allow cad
"""
    )


def _free_name(server: ObservedServer, taken: Collection[str]) -> str:
    """A name for the manifest that is not taken yet: the server's own as far as it can be one, else with its id."""
    own = _NOT_IN_NAMES.sub("-", server.name).strip("-._")
    if own and len(own) <= _LONGEST_NAME and own not in taken:
        return own
    tail = server.id[-8:].strip("-_") or "0"
    number = 1
    while True:
        suffix = f"-{tail}" if number == 1 else f"-{tail}-{number}"
        name = (own[: _LONGEST_NAME - len(suffix)] or "server") + suffix
        if name not in taken:
            return name
        number += 1


def _quoted(name: str) -> str:
    """Quoted where a YAML reader may take it for something else than text."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)
