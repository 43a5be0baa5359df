"""From what a manifest says of its servers to what each is: defaults merged, variables filled in, rules applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.manifest import rules
from reconciler.manifest.nodes import MapNode, Node, Scalar, integer_of, origin_of, text_of, value_of
from reconciler.manifest.problems import Problems, shown, shown_name
from reconciler.manifest.template import Scope, TemplateError, parse, render
from reconciler.model.spec import DeclaredServer, ImageSpec

_MERGED = ("image", "labels", "triggers")
# Entries of one map of labels or triggers; the schema says the same.
_ENTRIES_LIMIT = 64
# What all servers may come to with defaults and variables filled in, in characters. Without a bound, a file of 10 MiB
# could come to many gigabytes.
_SIZE_LIMIT = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layer:
    """Fields of a server as one place gives them, or several places merged: the value's node, by field and key.

    `broken` holds the maps that one of the places got wrong: what they lack is then no problem of its own.
    """

    image: Mapping[str, Node] = field(default_factory=dict)
    labels: Mapping[str, Node] = field(default_factory=dict)
    triggers: Mapping[str, Node] = field(default_factory=dict)
    protect: Node | None = None
    keep_images: Node | None = None
    broken: frozenset[str] = frozenset()

    def under(self, own: Node | None) -> Layer:
        """These fields, with those of `own`, a server or defaults, over them, key by key."""
        if not isinstance(own, MapNode):
            return self if own is None else replace(self, broken=frozenset(_MERGED))
        broken = self.broken
        merged: dict[str, Mapping[str, Node]] = {"image": self.image, "labels": self.labels, "triggers": self.triggers}
        for name, inherited in merged.items():
            value = value_of(own, name)
            if isinstance(value, MapNode) and len(value.entries) <= _ENTRIES_LIMIT:
                merged[name] = {**inherited, **{key: node for key, (_, node) in value.entries.items()}}
            elif value is not None:
                broken |= {name}
        return Layer(
            **merged,
            protect=value_of(own, "protect") or self.protect,
            keep_images=value_of(own, "keep_images") or self.keep_images,
            broken=broken,
        )


class ServerReader:
    """Makes servers one by one, and sees to it that no two are the same."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._keys: dict[str, Scalar] = {}
        self._ids: dict[str, tuple[str, Node]] = {}
        self._image_names: dict[str, str] = {}
        self._size_left = _SIZE_LIMIT

    def read(
        self, key: Scalar, body: Node, defaults: Layer, variables: Mapping[str, str | None]
    ) -> DeclaredServer | None:
        """One entry of `image_servers`, None where it has problems, which are then reported."""
        name = key.raw
        if self._size_left < 0:
            return None
        server_id = self._identity(key, body)
        if name in self._keys:
            first = origin_of(self._keys[name])
            self._problems.at(
                key, f"{shown_name(name)} is declared twice", f"It is declared first at {first}.", name=name
            )
            return None
        self._keys[name] = key
        fields = defaults.under(body)
        before = len(self._problems)
        outer = Scope(variables, name, server_id, None)
        labels = self._texts(fields.labels, outer, rules.label)
        inner = Scope(variables, name, server_id, labels)
        triggers = self._texts(fields.triggers, inner, rules.trigger)
        description = self._text(fields.image.get("description"), inner, rules.description)
        image_name = self._image_name(key, fields, inner)
        if len(self._problems) != before or server_id is None or image_name is None:
            return None
        sysprep = fields.image.get("execute_sysprep")
        spec = ImageSpec(
            name=image_name,
            description=description or "",
            execute_sysprep=_boolean(sysprep),
            triggers=_complete(triggers),
        )
        return DeclaredServer(
            name=name,
            server_id=server_id,
            image=spec,
            labels=_complete(labels),
            protect=bool(_boolean(fields.protect)),
            keep_images=integer_of(fields.keep_images),
            origin=origin_of(key),
        )

    def _identity(self, key: Scalar, body: Node) -> str | None:
        node = value_of(body, "server_id")
        server_id = text_of(node)
        if node is None or server_id is None:
            return None
        if server_id in self._ids:
            other, first = self._ids[server_id]
            self._problems.at(
                node,
                f"{shown_name(key.raw)} has the server_id of {shown_name(other)}",
                f"{shown_name(server_id)} stands first at {origin_of(first)}; one image server is declared once.",
                name=key.raw,
            )
            return None
        self._ids[server_id] = (key.raw, node)
        return server_id

    def _image_name(self, key: Scalar, fields: Layer, scope: Scope) -> str | None:
        node = fields.image.get("name")
        if node is None:
            if "image" not in fields.broken:
                self._problems.at(
                    key,
                    f"{shown_name(key.raw)} has no image.name",
                    "Give it one under `image`, or all servers under `defaults`: name: ${server.name}-${var.release}",
                    name=key.raw,
                )
            return None
        text = self._text(node, scope, rules.image_name)
        if text is None:
            return None
        if text in self._image_names:
            other = self._image_names[text]
            self._problems.at(
                key,
                f"{shown_name(key.raw)} and {shown_name(other)} both make an image named {shown(text)}",
                f"{shown_name(other)} stands at {origin_of(self._keys[other])}; give one of them another image.name.",
                name=key.raw,
            )
            return None
        self._image_names[text] = key.raw
        return text

    def _texts(
        self, nodes: Mapping[str, Node], scope: Scope, check: Callable[[str], rules.Complaint | None]
    ) -> dict[str, str | None]:
        return {key: self._text(node, scope, check) for key, node in nodes.items()}

    def _text(self, node: Node | None, scope: Scope, check: Callable[[str], rules.Complaint | None]) -> str | None:
        template = text_of(node)
        if node is None or template is None:
            return None
        try:
            text = render(template, scope)
        except TemplateError as error:
            self._problems.at(node, error.summary, error.hint)
            return None
        if not self._has_room(len(text or ""), node):
            return None
        complaint = check(text) if text is not None else None
        if complaint is None:
            return text
        summary = complaint.summary if text == template else f"{shown_name(scope.server_name)}: {complaint.summary}"
        self._problems.at(node, summary, complaint.hint, name=scope.server_name)
        return None

    def _has_room(self, size: int, node: Node) -> bool:
        had_room = self._size_left >= 0
        # An entry costs something even where its text is short.
        self._size_left -= size + 100
        if had_room and self._size_left < 0:
            limit = f"All servers together may have {_SIZE_LIMIT} characters, defaults and variables filled in."
            self._problems.at(node, "the servers come to too much text", limit)
        return self._size_left >= 0


def check_templates(defaults: Node | None, problems: Problems) -> None:
    """Reports references in defaults that cannot be understood, whether or not a server uses them."""
    for name in _MERGED:
        fields = value_of(defaults, name)
        for _, node in fields.entries.values() if isinstance(fields, MapNode) else ():
            text = text_of(node)
            if text is not None and "${" in text:
                try:
                    parse(text)
                except TemplateError as error:
                    problems.at(node, error.summary, error.hint)


def _boolean(node: Node | None) -> bool | None:
    data = node.data if isinstance(node, Scalar) else None
    return data if isinstance(data, bool) else None


def _complete(texts: Mapping[str, str | None]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text is not None}
