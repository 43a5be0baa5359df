"""The manifest of what exists: whatever the cloud's names and images, it loads, and declares every server as it is."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.manifest.drafting import draft_manifest
from reconciler.manifest.load import load
from reconciler.model.draft import FoundServer
from reconciler.model.record import Build, BuildStatus
from reconciler.model.regions import WORKSPACEAPP_REGIONS
from reconciler.model.spec import ImageSpec, Manifest
from reconciler.render.manifest import render_manifest, starter_manifest
from tests.planning.figures import BINDING
from tests.support import examples


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
descriptions = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["", " a", "a ", "a\nb", "<b>", "${x}", "$${x}", "$$${", "${", "\x00", "\ud800", "\u2028", "a" * 1024, "😀" * 600]
)
image_names = names | st.sampled_from(["office-1", "1-1", "Office 2026", "a" * 128, "a" * 129, " a", "a\n", "имя"])


def made(name: str, description: str = "") -> tuple[Build, ...]:
    """A build that has made such an image."""
    spec = ImageSpec(name, description)
    return (Build("a", spec, BuildStatus.SUCCEEDED, datetime(2026, 1, 1, tzinfo=UTC), image_id="i"),)


remarks = st.lists(st.text(st.characters(), max_size=8), max_size=2).map(tuple)
servers = st.lists(
    st.builds(
        FoundServer,
        server_id=ids,
        name=names,
        remarks=remarks,
        comments=remarks,
        problems=remarks,
        builds=st.just(()) | st.builds(made, image_names, descriptions),
    ),
    max_size=6,
    unique_by=lambda server: server.server_id,
)


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(servers)
@example([])
@example([FoundServer(f"{'0' * 8}-{i}1234567", "office") for i in range(3)])
@example([FoundServer(f"s{i}", "x" * 64 + "y" * i) for i in range(3)])
@example([FoundServer("b", "office"), FoundServer("a", "a-office"), FoundServer("c", "a_b\\c")])
@example([FoundServer("a", "a", builds=made("b-1")), FoundServer("b", "b"), FoundServer("c", "c", builds=made("b-2"))])
@example([FoundServer("a", "a", builds=made("x(y")), FoundServer("b", "b", builds=made("x-y"))])
@example([FoundServer(one, one, builds=made("same")) for one in "abc"])
def test_it_loads_and_declares_every_server_as_it_is(tmp_path: Path, found: list[FoundServer]) -> None:
    draft = draft_manifest(found)
    text = render_manifest(draft, BINDING, ["a note\nover lines"])
    manifest = loaded(text, tmp_path)
    assert (manifest.region, manifest.project_id) == (BINDING.region, BINDING.project_id)
    assert {one.server_id for one in manifest.servers.values()} == {server.server_id for server in found}
    assert not manifest.diagnostics
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
    # Other readers of YAML see the same.
    assert (yaml.safe_load(text)["image_servers"] or {}).keys() == manifest.servers.keys()
    by_id = {server.server_id: server for server in found}
    for entry in draft.entries:
        server, declared = by_id[entry.server_id], manifest.servers[entry.name]
        held = server.image
        if held is None:
            assert declared.image.name == f"{entry.name}-{draft.release}"
        # What is declared is what is held, or else waits for a person, who is told.
        assert declared.protect == entry.protect == (held is not None and declared.image != held)
        assert len(entry.problems) > len(server.problems) or not entry.protect


def test_the_name_of_an_image_that_exists_is_not_given_away() -> None:
    first, second = draft_manifest(
        [FoundServer("a", "a", builds=made("x(y")), FoundServer("b", "b", builds=made("x-y"))]
    ).entries
    assert first.image is not None
    assert first.image.name == "x-y-a"
    assert (first.protect, second.protect) == (True, False)


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
    text = render_manifest(draft_manifest([FoundServer("0-12345678", given)]), BINDING)
    assert text.splitlines()[-2].split("  # ")[0] == f"  {name}:"


def test_what_a_reader_sees() -> None:
    found = [
        FoundServer(
            "697612196993040384", "办公 2", ("办公 2", "BUILT"), ("Terraform: x",), builds=made("Win (1)", 'a "b" ${c}')
        ),
        FoundServer("25b1dd14-0c84-4558-aa57-03a6c54b8e75", "cad", ("cad", "ACTIVE")),
        FoundServer("25b1dd14-0c84-4558-aa57-03a6c54b8e76", "cad", builds=made("cad 1")),
    ]
    assert render_manifest(draft_manifest(found), BINDING) == (
        "# imgctl: the image that each image server should have. Change a line, then: imgctl plan\n"
        "version: 1\n"
        "region: ap-southeast-1\n"
        'project_id: "a4da8115c9d8464ead3a38309130523f"\n'
        "vars:\n"
        '  release: "1"                # patch day: change this line\n'
        "defaults:\n"
        "  image:\n"
        "    name: ${server.name}-${var.release}\n"
        "# A server with an `image` holds that image now. Take the line out on patch day: the defaults name the next"
        " one.\n"
        "image_servers:\n"
        "  cad:  # cad, ACTIVE\n"
        '    server_id: "25b1dd14-0c84-4558-aa57-03a6c54b8e75"\n'
        "  cad-c54b8e76:\n"
        '    server_id: "25b1dd14-0c84-4558-aa57-03a6c54b8e76"\n'
        '    image: {name: "cad 1"}\n'
        "  办公-2:  # 办公 2, BUILT\n"
        "    # Terraform: x\n"
        '    # the image name "Win (1)" has "(" as character 5, which no manifest can declare.\n'
        "    # It is protected: rename the image in IMS and here, or let a new one be built (--allow 办公-2).\n"
        '    server_id: "697612196993040384"\n'
        '    image: {name: "Win -1-", description: "a \\"b\\" $${c}"}\n'
        "    protect: true\n"
    )


@pytest.mark.parametrize("region", [None, *sorted(WORKSPACEAPP_REGIONS)])
def test_the_starter_loads(region: str | None, tmp_path: Path) -> None:
    manifest: Any = loaded(starter_manifest(region), tmp_path)
    assert manifest.region == region or region is None
    assert [one.image.name for one in manifest.servers.values()] == ["office-2026.11", "cad-2026.11"]
    assert manifest.servers["cad"].protect


def test_long_remarks_and_comments_are_cut() -> None:
    found = FoundServer("697612196993040384", "x", ("n" * 300_000, "BUILT"), ("a" * 300_000,))
    text = render_manifest(draft_manifest([found]), BINDING)
    assert f"  # {'n' * 79}…, BUILT\n" in text
    assert max(map(len, text.splitlines())) < 1010
