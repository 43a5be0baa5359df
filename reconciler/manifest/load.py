"""The way in: a path to a checked manifest, or to every problem of all its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.manifest.nodes import MapNode, Node, Scalar, integer_of, origin_of, text_of, value_of
from reconciler.manifest.paths import ROOT_FILE, find_files, read_source
from reconciler.manifest.problems import Problems
from reconciler.manifest.reader import read_nodes
from reconciler.manifest.servers import Layer, ServerReader, check_templates
from reconciler.manifest.validation import validate
from reconciler.manifest.variables import VariableSources, read_overrides
from reconciler.model.spec import DeclaredServer, Limits, Manifest, Override, SimulatorSettings

__all__ = ["VariableSources", "load"]

# What holds for the whole manifest, and so may stand in one file only.
_SINGLE = ("region", "project_id", "provider", "state", "limits")


@dataclass(frozen=True, slots=True)
class _File:
    """A file that could be read, right or not."""

    path: Path
    document: MapNode


def load(path: Path, *, variables: VariableSources | None = None) -> Manifest:
    """Reads the manifest at `path`, a file or a folder, with `variables` set from outside.

    A folder's files are its `*.yaml`, `*.yml` and `*.json` sorted by name, without folders in it, hidden files and what
    imgctl writes itself (state, simulator worlds, `*.plan.json`, `*.tfvars.json`). `vars` and `defaults` of its
    imgctl.yaml reach all files; those of another file reach its own servers and win.

    Raises ManifestError with every problem of all files. One about a path has no place; where it is the only one, it is
    also the error's own summary and hint.
    """
    problems = Problems()
    paths = find_files(path, problems)
    files = _read_files(paths, problems)
    settings = _single_settings(files, problems)
    root = next((file for file in files if len(paths) == 1 or file.path.name == ROOT_FILE), None)
    overrides = read_overrides(variables or VariableSources(), _declared_variables(files), problems)
    # With a file unread, what the others lack may stand in it.
    servers = {} if problems.incomplete else _servers(files, root, overrides, problems)
    problems.raise_if_any()
    return Manifest(
        servers=servers,
        region=text_of(settings.get("region")),
        project_id=text_of(settings.get("project_id")),
        simulator=_simulator(settings.get("provider")),
        limits=Limits(
            **{name: integer_of(value_of(settings.get("limits"), name)) for name in Limits.__dataclass_fields__}
        ),
        state_url=text_of(value_of(settings.get("state"), "url")),
        overrides=overrides,
        diagnostics=tuple(problems.notes),
        files=tuple(str(file.path) for file in files),
    )


def _read_files(paths: list[Path], problems: Problems) -> list[_File]:
    files = []
    for path in paths:
        read = read_source(path, problems)
        document = read_nodes(*read, problems) if read else None
        if isinstance(document, MapNode):
            files.append(_File(path, document))
            validate(document, problems)
            check_templates(value_of(document, "defaults"), problems)
            continue
        problems.incomplete = True
        if document is not None:
            problems.at(
                document, "a manifest is a map", "Begin with `version: 1`; `imgctl init` writes a first manifest."
            )
    if files and not problems.incomplete and all("image_servers" not in file.document.entries for file in files):
        problems.at(
            files[0].document,
            "no image servers are declared",
            "Add image_servers; write `image_servers: {}` where there are to be none.",
        )
    return files


def _single_settings(files: list[_File], problems: Problems) -> Mapping[str, Node]:
    found: dict[str, tuple[Scalar, Node]] = {}
    for file in files:
        for name in _SINGLE:
            entry = file.document.entries.get(name)
            if entry is None:
                continue
            if name in found:
                first = origin_of(found[name][0])
                problems.at(entry[0], f"{name} is set twice", f"It is set first at {first}; one place is enough.")
            else:
                found[name] = entry
    return {name: node for name, (_, node) in found.items()}


def _declared_variables(files: list[_File]) -> frozenset[str]:
    return frozenset(name for file in files for name in _variables(file))


def _variables(file: _File | None) -> dict[str, str | None]:
    declared = value_of(file.document, "vars") if file else None
    if not isinstance(declared, MapNode):
        return {}
    return {name: text_of(node) for name, (_, node) in declared.entries.items()}


def _servers(
    files: list[_File], root: _File | None, overrides: tuple[Override, ...], problems: Problems
) -> dict[str, DeclaredServer]:
    reader = ServerReader(problems)
    outside = {override.name: override.value for override in overrides}
    root_defaults = Layer().under(value_of(root.document, "defaults")) if root else Layer()
    root_variables = _variables(root)
    servers: dict[str, DeclaredServer] = {}
    for file in files:
        own = file is not root
        defaults = root_defaults.under(value_of(file.document, "defaults")) if own else root_defaults
        variables = root_variables | (_variables(file) if own else {})
        variables |= {name: value for name, value in outside.items() if name in variables}
        declared = value_of(file.document, "image_servers")
        for key, body in declared.entries.values() if isinstance(declared, MapNode) else ():
            if problems.full:
                return servers
            server = reader.read(key, body, defaults, variables)
            if server is not None:
                servers[server.name] = server
    return servers


def _simulator(provider: Node | None) -> SimulatorSettings | None:
    settings = value_of(provider, "simulator")
    if settings is None:
        return None
    servers, build_time = integer_of(value_of(settings, "servers")), value_of(settings, "build_time")
    seconds = build_time.data if isinstance(build_time, Scalar) else None
    standard = SimulatorSettings()
    return SimulatorSettings(
        servers=standard.servers if servers is None else servers,
        build_time=float(seconds) if isinstance(seconds, int | float) else standard.build_time,
    )
