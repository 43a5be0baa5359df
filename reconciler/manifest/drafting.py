"""From what exists to entries that a manifest may hold: valid names, no two alike, and images as they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from reconciler.manifest import rules
from reconciler.model.draft import Draft, Entry, FoundServer
from reconciler.model.spec import ImageSpec

# What stands in a server's name; none begins with one of - . _ and none is longer than 64.
_NOT_IN_SERVER_NAMES = re.compile(r"[^A-Za-z0-9_.\-\u4e00-\u9fa5]+")
_LONGEST_SERVER_NAME = 64
_NOT_IN_IMAGE_NAMES = re.compile(r"[^ .\-\w\u4e00-\u9fa5]+", re.ASCII)
# Halves of characters, which no file can hold, are among them.
_NOT_IN_DESCRIPTIONS = re.compile(r"[\r\n<>\ud800-\udfff]+")

_DECIDE = "It is protected: rename the image in IMS and here, or let a new one be built (--allow {name})."


def draft_manifest(found: Iterable[FoundServer]) -> Draft:
    """The entries of these servers, sorted by name, each server once.

    An image whose name or description a manifest cannot hold, or whose name another one has already, is declared
    with the nearest that it can, and protected: the plan then shows what would change and apply does nothing about it.
    """
    by_id = {server.server_id: server for server in found}
    servers = sorted(by_id.values(), key=lambda one: (one.name, one.server_id))
    # By image name, the server that has it. What is merely made up must not take the name of an image that exists.
    owners: dict[str, str] = {}
    for server in servers:
        if server.image is not None and rules.image_name(server.image.name) is None:
            owners.setdefault(server.image.name, server.server_id)
    entries: dict[str, Entry] = {}
    for server in servers:
        name = _free(_NOT_IN_SERVER_NAMES.sub("-", server.name).strip("-._"), server.server_id, entries)
        entry = Entry(name, server.server_id, remarks=server.remarks, comments=server.comments, builds=server.builds)
        problems = list(server.problems)
        if server.image is not None:
            image, complaints = _declarable(server.image, server.server_id, owners)
            owners[image.name] = server.server_id
            problems += [*complaints, *([_DECIDE.format(name=name)] if complaints else [])]
            entry = replace(entry, image=image, protect=bool(complaints))
        entries[name] = replace(entry, problems=tuple(problems))
    return Draft(_free_release(entries.values(), owners), tuple(entries.values()))


def _declarable(image: ImageSpec, server_id: str, owners: Mapping[str, str]) -> tuple[ImageSpec, list[str]]:
    """The image as a manifest can declare it, and what it could not take over; `owners` of the names in use."""
    complaints = []
    name, description = image.name, image.description
    if (wrong := rules.image_name(name)) is not None:
        complaints.append(f"{wrong.summary}, which no manifest can declare.")
        name = _NOT_IN_IMAGE_NAMES.sub("-", name)[: rules.NAME_LIMIT].strip() or "image"
    if owners.get(name, server_id) != server_id:
        if not complaints:
            complaints.append("Its image has the name of another one here, which a manifest cannot declare twice.")
        name = _free(name, server_id, owners, rules.NAME_LIMIT)
    if _NOT_IN_DESCRIPTIONS.search(description) or rules.description(description) is not None:
        complaints.append("Its image's description is one that no manifest can declare.")
        description = _shortened(_NOT_IN_DESCRIPTIONS.sub(" ", description).strip())
    return replace(image, name=name, description=description), complaints


def _shortened(description: str) -> str:
    description = description[: rules.DESCRIPTION_LIMIT]
    while rules.description(description) is not None:
        description = description[:-1]
    return description


def _free_release(entries: Iterable[Entry], image_names: Collection[str]) -> str:
    """A release with which the default name of no entry is that of an image."""
    by_default = [entry.name for entry in entries if entry.image is None]
    release = 1
    while any(f"{name}-{release}" in image_names for name in by_default):
        release += 1
    return str(release)


def _free(own: str, server_id: str, taken: Collection[str], longest: int = _LONGEST_SERVER_NAME) -> str:
    """A name that is not taken yet: the server's own as far as it can be one, else with its id."""
    if own and len(own) <= longest and own not in taken:
        return own
    tail = server_id[-8:].strip("-_") or "0"
    number = 1
    while True:
        suffix = f"-{tail}" if number == 1 else f"-{tail}-{number}"
        name = (own[: longest - len(suffix)] or "server") + suffix
        if name not in taken:
            return name
        number += 1
