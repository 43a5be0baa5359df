"""A manifest as text: of the image servers that exist, or an example to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from reconciler.model.observed import ObservedServer
from reconciler.model.record import Binding
from reconciler.render.terminal import clean

_HEADER = """\
# imgctl: the image that each image server should have. Change a line, then: imgctl plan
version: 1
"""


def render_manifest(servers: Iterable[ObservedServer], binding: Binding) -> str:
    """A manifest that declares these servers, sorted by name: ids quoted, the cloud's names as comments."""
    lines = [
        _HEADER.rstrip(),
        f"region: {binding.region}",
        f"project_id: {binding.project_id}",
        "vars:",
        '  release: "1"                # patch day: change this line',
        "defaults:",
        "  image:",
        "    name: ${server.name}-${var.release}",
        "image_servers:",
    ]
    taken: set[str] = set()
    for server in sorted(servers, key=lambda one: (one.name, one.id)):
        key = _key(server, taken)
        taken.add(key)
        remarks = [clean(server.name) or "no name", server.status]
        if server.image_id:
            remarks.append(f"shows image {server.image_id}")
        lines += [f"  {key}:  # {', '.join(remarks)}", f"    server_id: {json.dumps(server.id)}"]
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


def _key(server: ObservedServer, taken: set[str]) -> str:
    """A name for the manifest, from the server's own where that can be one; the id makes it unique."""
    name = re.sub(r"[^A-Za-z0-9_.\\-\u4e00-\u9fa5]", "-", server.name).strip("-._")[:48]
    if name and name not in taken:
        return _quoted(name)
    return _quoted(f"{name or 'server'}-{server.id[-8:].strip('-_')}")


def _quoted(name: str) -> str:
    """Quoted where YAML would read something else than text."""
    return (
        name
        if re.fullmatch(r"[A-Za-z\u4e00-\u9fa5][A-Za-z0-9_\-\u4e00-\u9fa5]*", name)
        and name.lower()
        not in {
            "y",
            "n",
            "yes",
            "no",
            "on",
            "off",
            "true",
            "false",
            "null",
        }
        else json.dumps(name, ensure_ascii=False)
    )
