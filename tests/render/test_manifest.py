"""The manifest of what exists: whatever the cloud's names, it loads, and declares every server."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.manifest.load import load
from reconciler.model.observed import ObservedServer
from reconciler.model.regions import WORKSPACEAPP_REGIONS
from reconciler.model.spec import Manifest
from reconciler.render.manifest import render_manifest, starter_manifest
from tests.planning.figures import BINDING


def loaded(text: str, folder: Path) -> Manifest:
    path = folder / "imgctl.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40) | st.sampled_from(
    ["697612196993040384", "-", "--", "0x1f", "1e3", "no", "null", "a" * 128]
)
names = st.text(st.characters(), max_size=70) | st.sampled_from(
    [
        "office",
        "办公",
        "on",
        "NULL",
        "1",
        "0x1f",
        "2026-11-03",
        "~",
        "-a",
        "a: b",
        "a #b",
        "&a",
        "*",
        "\\",
        "[",
        "${x}",
        "x" * 64,
    ]
)
servers = st.lists(
    st.builds(
        ObservedServer, id=ids, name=names, status=st.text(st.characters(), max_size=8), image_id=st.just("") | ids
    ),
    max_size=6,
    unique_by=lambda server: server.id,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(servers)
@example([])
@example([ObservedServer(f"{'0' * 8}-{i}1234567", "office", "BUILT") for i in range(3)])
@example([ObservedServer(f"s{i}", "x" * 64 + "y" * i, "BUILT") for i in range(3)])
@example(
    [ObservedServer("b", "office", "BUILT"), ObservedServer("a", "a-office", ""), ObservedServer("c", "a_b\\c", "")]
)
def test_it_loads_and_declares_every_server(tmp_path: Path, found: list[ObservedServer]) -> None:
    text = render_manifest(found, BINDING)
    manifest = loaded(text, tmp_path)
    assert (manifest.region, manifest.project_id) == (BINDING.region, BINDING.project_id)
    assert {one.server_id for one in manifest.servers.values()} == {server.id for server in found}
    assert all(one.image.name == f"{name}-1" for name, one in manifest.servers.items())
    assert not manifest.diagnostics
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
    # Other readers of YAML see the same.
    assert (yaml.safe_load(text)["image_servers"] or {}).keys() == manifest.servers.keys()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("office", "office"),
        ("CAD_1.x", '"CAD_1.x"'),
        ("财务-1", "财务-1"),
        ("front desk (2)", "front-desk-2"),
        ("a\\b", "a-b"),
        ("--x--", "x"),
        ("on", '"on"'),
        ("NO", '"NO"'),
        ("1e3", '"1e3"'),
        ("", "server-12345678"),
        ("!!", "server-12345678"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 55 + "-12345678"),
    ],
)
def test_names(given: str, name: str) -> None:
    text = render_manifest([ObservedServer("0-12345678", given, "BUILT")], BINDING)
    assert text.splitlines()[-2].split("  # ")[0] == f"  {name}:"


def test_what_a_reader_sees() -> None:
    found = [
        ObservedServer("697612196993040384", "办公 2", "BUILT", "i2"),
        ObservedServer("25b1dd14-0c84-4558-aa57-03a6c54b8e75", "cad", "ACTIVE"),
        ObservedServer("25b1dd14-0c84-4558-aa57-03a6c54b8e76", "cad", "ERROR"),
    ]
    assert render_manifest(found, BINDING) == (
        "# imgctl: the image that each image server should have. Change a line, then: imgctl plan\n"
        "version: 1\n"
        "region: ap-southeast-1\n"
        'project_id: "a4da8115c9d8464ead3a38309130523f"\n'
        "vars:\n"
        '  release: "1"                # patch day: change this line\n'
        "defaults:\n"
        "  image:\n"
        "    name: ${server.name}-${var.release}\n"
        "image_servers:\n"
        "  cad:  # cad, ACTIVE\n"
        '    server_id: "25b1dd14-0c84-4558-aa57-03a6c54b8e75"\n'
        "  cad-c54b8e76:  # cad, ERROR\n"
        '    server_id: "25b1dd14-0c84-4558-aa57-03a6c54b8e76"\n'
        "  办公-2:  # 办公 2, BUILT, shows image i2\n"
        '    server_id: "697612196993040384"\n'
    )


@pytest.mark.parametrize("region", [None, *sorted(WORKSPACEAPP_REGIONS)])
def test_the_starter_loads(region: str | None, tmp_path: Path) -> None:
    manifest: Any = loaded(starter_manifest(region), tmp_path)
    assert manifest.region == region or region is None
    assert [one.image.name for one in manifest.servers.values()] == ["office-2026.11", "cad-2026.11"]
    assert manifest.servers["cad"].protect
