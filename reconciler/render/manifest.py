"""A manifest as text: of what exists, or an example to start from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from reconciler.model.draft import Draft, Entry
from reconciler.model.record import Binding
from reconciler.model.spec import ImageSpec
from reconciler.render.terminal import clean

_HEADER = """\
# imgctl: the image that each image server should have. Change a line, then: imgctl plan
version: 1
"""
_OWN_IMAGES = """\
# A server with an `image` holds that image now. Take the line out on patch day: the defaults name the next one.\
"""
# A server's name has 64 characters at most by its API page; a comment must not fill a screen because one has not.
_LONGEST_REMARK = 80
_LONGEST_COMMENT = 1000
# Plain text to every YAML reader, old ones that know more booleans included.
_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z\u4e00-\u9fa5][a-z0-9_\-\u4e00-\u9fa5]*", re.IGNORECASE
)


def render_manifest(draft: Draft, binding: Binding, notes: Iterable[str] = ()) -> str:
    """A manifest of these entries: ids and texts quoted, what a reader should know as comments."""
    lines = [
        _HEADER.rstrip(),
        f"region: {binding.region}",
        f'project_id: "{binding.project_id}"',
        "vars:",
        f'  release: "{draft.release}"                # patch day: change this line',
        "defaults:",
        "  image:",
        "    name: ${server.name}-${var.release}",
        *(f"# {clean(note)}" for note in notes),
    ]
    if any(entry.image is not None for entry in draft.entries):
        lines.append(_OWN_IMAGES)
    lines.append("image_servers:" if draft.entries else "image_servers: {}")
    lines += [line for entry in draft.entries for line in _lines(entry)]
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


def _lines(entry: Entry) -> Iterator[str]:
    name = entry.name if _PLAIN.fullmatch(entry.name) else _quoted(entry.name)
    remarks = ", ".join(_shortened(clean(one), _LONGEST_REMARK) for one in entry.remarks)
    yield f"  {name}:{f'  # {remarks}' if remarks else ''}"
    yield from (f"    # {_shortened(clean(text), _LONGEST_COMMENT)}" for text in (*entry.comments, *entry.problems))
    yield f"    server_id: {_quoted(entry.server_id)}"
    if entry.image is not None:
        yield f"    image: {_image(entry.image)}"
    if entry.protect:
        yield "    protect: true"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _image(image: ImageSpec) -> str:
    described = f", description: {_quoted(_literal(image.description))}" if image.description else ""
    return f"{{name: {_quoted(_literal(image.name))}{described}}}"


def _literal(text: str) -> str:
    """A text that refers to nothing, as a manifest writes it."""
    return text.replace("${", "$${")


def _quoted(text: str) -> str:
    """A text in double quotes, as YAML and JSON both read it; what cannot be seen is escaped."""
    plain = json.dumps(text, ensure_ascii=False)
    return plain if plain.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in plain)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
