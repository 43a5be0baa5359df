"""What every command starts from: manifest, state, and where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags
from reconciler.cli.places import find_place
from reconciler.cloud.location import PROJECT_VARIABLES, REGION_VARIABLES
from reconciler.errors import UsageError
from reconciler.manifest.load import VariableSources, load
from reconciler.model.record import Binding, Record, Recorded
from reconciler.model.spec import Manifest
from reconciler.render.plan_text import SIMULATED
from reconciler.state.store import Store, read

# Where the embedded simulator pretends to be, unless the manifest says otherwise.
SIMULATED_REGION = "ap-southeast-1"
SIMULATED_PROJECT = "a4da8115c9d8464ead3a38309130523f"


@dataclass(frozen=True, slots=True)
class Inputs:
    """A manifest, the place of its state, and the state as it was read.

    `local_path` is the state's file, or where it would be: what is kept beside it is found by it. `binding` is where
    they belong as far as is known without asking the cloud; empty parts are not known.
    """

    manifest: Manifest
    store: Store
    local_path: Path
    recorded: Recorded
    binding: Binding


def load_manifest(console: Console, source: ManifestFlags) -> Manifest:
    """The manifest with its variables, checked against what the workflow pins. Raises ManifestError, UsageError."""
    sources = VariableSources(source.variables, source.variable_files, console.environ)
    if source.recorded is not None:
        sources = VariableSources(recorded=source.recorded)
    manifest = load(source.file, variables=sources)
    _check_pin("IMGCTL_PROVIDER", "provider", _provider(manifest), console.environ)
    _check_pin("IMGCTL_PROJECT_ID", "project", manifest.project_id or "", console.environ)
    return manifest


def load_inputs(console: Console, source: ManifestFlags, state: str | None, *, announce: bool = True) -> Inputs:
    """Manifest and state. Raises ManifestError, StateError, UsageError.

    `announce` says on stderr where all of it is simulated; not for a command whose own output says so.
    """
    manifest = load_manifest(console, source)
    if announce and manifest.simulator is not None:
        console.say(console.error_style(SIMULATED, "cyan"))
    place = find_place(console.environ, source.file, state, manifest.state_url)
    binding = _binding(manifest, console.environ)
    return Inputs(manifest, place.store, place.local_path, read(place.store), binding)


def find_record(recorded: Recorded, name: str, *, managed: bool = False) -> Record:
    """The record of a name or server id; forgotten servers too, unless only `managed` ones count. Raises UsageError."""
    records = list(recorded.servers.values())
    if not managed:
        records += recorded.retired.values()
    for record in records:
        if name in (record.name, record.server_id):
            return record
    near = get_close_matches(name, [record.name for record in records], n=1)
    raise UsageError(
        f"nothing is recorded of {name}",
        hint=f"Did you mean {near[0]}?" if near else "imgctl status lists what is declared and recorded.",
    )


def _check_pin(variable: str, what: str, found: str, environ: Mapping[str, str]) -> None:
    pinned = environ.get(variable)
    if pinned and found and pinned != found:
        raise UsageError(
            f"the manifest is for {what} {found}, and {variable} allows only {pinned}",
            hint=f"{variable} pins what a workflow may touch: correct the manifest, or unset it.",
        )


def _provider(manifest: Manifest) -> str:
    return "simulator" if manifest.simulator is not None else "huaweicloud"


def _binding(manifest: Manifest, environ: Mapping[str, str]) -> Binding:
    provider = _provider(manifest)
    if manifest.simulator is not None:
        return Binding(provider, manifest.region or SIMULATED_REGION, manifest.project_id or SIMULATED_PROJECT)
    region = manifest.region or _first(environ, REGION_VARIABLES)
    return Binding(provider, region, manifest.project_id or _first(environ, PROJECT_VARIABLES))


def _first(environ: Mapping[str, str], names: Sequence[str]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")
