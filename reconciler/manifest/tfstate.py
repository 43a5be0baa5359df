"""Reads a Terraform or OpenTofu state, as far as it is about images: nothing else in it is looked at, or ever shown.

Source: the state format, version 4 (Terraform 0.12 and later, every OpenTofu), and the provider's docs and code of
huaweicloud_workspace_app_image. Such a state holds secrets in the clear, so no message repeats a value of it but
addresses, ids and regions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from reconciler.errors import UsageError

MAX_BYTES = 64 * 1024 * 1024

IMAGE_TYPE = "huaweicloud_workspace_app_image"
SERVER_TYPE = "huaweicloud_workspace_app_image_server"

_VERSION = 4
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REGION = re.compile(r"[a-z]+(?:-[a-z0-9]+)+")
_NAME = re.compile(r"[^\W\d][\w-]*")
# A key of count or for_each in an address.
_KEY = re.compile(r'\[(?:[0-9]+|"(?:[^"\\]|\\.)*")\]')
# What stands before a resource in an address: the modules that it is in, each with its key.
_MODULE = re.compile(r'(?:(?:^|\.)module\.[^\W\d][\w-]*(?:\[(?:[0-9]+|"(?:[^"\\]|\\.)*")\])?)*')
_WORD = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fa5]+")
_PULL = "terraform state pull | imgctl init --from-tfstate -"


@dataclass(frozen=True, slots=True)
class TerraformImage:
    """One object of the image resource.

    `address` names it as Terraform does; `resource` is its resource without the keys of count and for_each. `id` is the
    image's, or the job's where the create failed or timed out. `name` and `description` are what was asked for, empty
    where the state marks them as sensitive. `suggestion` is what a manifest could call it. A deposed object is an older
    one that Terraform has still to destroy.
    """

    source: str
    address: str
    resource: str
    suggestion: str
    id: str
    server_id: str
    region: str = ""
    name: str = ""
    description: str = ""
    deposed: bool = False


@dataclass(frozen=True, slots=True)
class TerraformState:
    """What one state says of images.

    `servers` holds the address of each image server that it manages, by id; `unusable` what could not be taken over,
    in words; `incomplete` the resources of which something is among them.
    """

    source: str
    images: tuple[TerraformImage, ...] = ()
    servers: Mapping[str, str] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    incomplete: frozenset[str] = frozenset()


def read_tfstate(content: bytes, source: str) -> TerraformState:
    """The images of a state; `source` says where it was read, for messages. Raises UsageError."""
    if len(content) > MAX_BYTES:
        raise UsageError(f"{source} has more than {MAX_BYTES // 1024 // 1024} MiB", hint="Is it a Terraform state?")
    try:
        # Bytes, so that a byte order mark and UTF-16, as PowerShell writes it, are read too.
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"{source} is not JSON", hint=f"A state is what this prints: {_PULL}") from None
    _check_version(document, source)
    return _Reader(source).read(document)


def _check_version(document: Any, source: str) -> None:
    if not isinstance(document, dict):
        _no_state(source)
    version = document.get("version")
    if "encrypted_data" in document:
        raise UsageError(f"{source} is encrypted", hint=f"OpenTofu decrypts it: {_PULL.replace('terraform', 'tofu')}")
    if "format_version" in document:
        raise UsageError(
            f"{source} is the output of terraform show, not a state", hint=f"The state itself is wanted: {_PULL}"
        )
    if not isinstance(version, int) or isinstance(version, bool):
        _no_state(source)
    if version < _VERSION:
        raise UsageError(
            f"{source} is a state of version {version}: Terraform 0.11 or older wrote it",
            hint="terraform apply with Terraform 0.12 or newer writes it anew; then run this again.",
        )
    if version > _VERSION:
        raise UsageError(
            f"{source} is a state of version {version}; this imgctl reads version {_VERSION}",
            hint="Look for a newer imgctl. Without Terraform's state: imgctl init --from-cloud",
        )


def _no_state(source: str) -> NoReturn:
    raise UsageError(f"{source} is no Terraform state", hint=f"A state is what this prints: {_PULL}")


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._images: list[TerraformImage] = []
        self._servers: dict[str, str] = {}
        self._unusable: list[str] = []
        self._incomplete: set[str] = set()

    def read(self, document: Mapping[str, Any]) -> TerraformState:
        resources = document.get("resources")
        if not isinstance(resources, list):
            _no_state(self._source)
        for index, resource in enumerate(resources):
            if not isinstance(resource, dict) or resource.get("mode") != "managed":
                continue
            if resource.get("type") in (IMAGE_TYPE, SERVER_TYPE):
                self._resource(resource, resource["type"], f"resources[{index}]")
        return TerraformState(
            self._source,
            tuple(self._images),
            self._servers,
            tuple(self._unusable),
            frozenset(self._incomplete),
        )

    def _resource(self, resource: Mapping[str, Any], kind: str, place: str) -> None:
        module, name, instances = resource.get("module", ""), resource.get("name"), resource.get("instances")
        # They go into blocks and commands that somebody is to run.
        placed = isinstance(module, str) and _MODULE.fullmatch(module)
        named = placed and isinstance(name, str) and _NAME.fullmatch(name)
        if not named or not isinstance(name, str) or not isinstance(instances, list):
            raise UsageError(
                f"{self._source}: {place} is no resource as Terraform writes one",
                hint="Was the state edited by hand? terraform state list must be able to read it.",
            )
        own = f"{module}.{kind}.{name}" if module else f"{kind}.{name}"
        plain = _KEY.sub("", own)
        for instance in instances:
            key = _key(instance.get("index_key")) if isinstance(instance, dict) else None
            if key is None or not isinstance(instance, dict):
                self._leave_out(own, plain, "is damaged in the state")
                continue
            attributes = instance.get("attributes") or instance.get("attributes_flat")
            if not isinstance(attributes, dict):
                self._leave_out(own + key, plain, "has no attributes in the state")
            elif kind == SERVER_TYPE:
                if _ID.fullmatch(_text(attributes, "id")):
                    self._servers[_text(attributes, "id")] = own + key
            else:
                words = [*_WORD.findall(re.sub(r"(?:^|\.)module\.", ".", module)), name, *_WORD.findall(key)]
                self._image(instance, attributes, own + key, plain, _suggestion(words, name))

    def _image(
        self, instance: Mapping[str, Any], attributes: Mapping[str, Any], address: str, resource: str, suggestion: str
    ) -> None:
        own, server_id, region = (_text(attributes, name) for name in ("id", "server_id", "region"))
        deposed = bool(instance.get("deposed"))
        if not _ID.fullmatch(own) or not _ID.fullmatch(server_id):
            missing = "id" if not _ID.fullmatch(own) else "server_id"
            self._leave_out(address, resource, f"has no {missing} that could be one")
            return
        hidden = _sensitive(instance)
        self._images.append(
            TerraformImage(
                source=self._source,
                address=address,
                resource=resource,
                suggestion=suggestion,
                id=own,
                server_id=server_id,
                region=region if _REGION.fullmatch(region) else "",
                name="" if hidden & {"name", ""} else _text(attributes, "name"),
                description="" if hidden & {"description", ""} else _text(attributes, "description"),
                deposed=deposed,
            )
        )

    def _leave_out(self, address: str, resource: str, why: str) -> None:
        self._unusable.append(f"{address} {why}")
        self._incomplete.add(resource)


def _suggestion(words: list[str], name: str) -> str:
    """`this` is what modules call their only resource: it says nothing beside other words."""
    return "-".join([word for word in words if word != "this"] or [name])


def _key(value: object) -> str | None:
    """A key of count or for_each as an address has it, empty where there is none; None for what is no key."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"[{value}]"
    if not isinstance(value, str):
        return None
    text = json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
    return f"[{text}]"


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    return value if isinstance(value, str) else ""


def _sensitive(instance: Mapping[str, Any]) -> set[str]:
    """The attributes that the state marks as sensitive; an empty name among them stands for all."""
    paths = instance.get("sensitive_attributes") or []
    return set(_first_steps(paths)) if isinstance(paths, list) else {""}


def _first_steps(paths: list[Any]) -> Iterator[str]:
    for path in paths:
        first = path[0] if isinstance(path, list) and path else None
        value = first.get("value") if isinstance(first, dict) else None
        yield value if isinstance(value, str) else ""
