"""Which files are read, and what is refused before it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import ManifestError
from reconciler.manifest.load import VariableSources, load
from reconciler.model.diagnostics import Diagnostic
from reconciler.model.spec import Manifest

EMPTY = "version: 1\nimage_servers: {}\n"


def server(name: str, extra: str = "") -> str:
    return f"version: 1\nimage_servers:\n  {name}: {{server_id: id-{name}, image: {{name: {name}}}}}\n{extra}"


def refusal(path: Path) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        load(path)
    return caught.value


def test_a_missing_manifest_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(Path("imgctl.yaml"))
    assert error.summary == "there is no manifest imgctl.yaml"
    assert "imgctl init" in error.hint
    assert "-f" in error.hint
    assert [problem.summary for problem in error.diagnostics] == [error.summary]


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    error = refusal(tmp_path)
    assert "holds no manifest" in error.summary
    assert "imgctl init" in error.hint


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "imgctl.yaml")
    assert "not a regular file" in refusal(tmp_path / "imgctl.yaml").summary


def test_a_device_is_refused() -> None:
    assert "not a regular file" in refusal(Path("/dev/zero")).summary


def test_a_folder_with_a_manifests_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub.yaml").mkdir()
    assert "not a regular file" in refusal(tmp_path).summary


@pytest.mark.parametrize("path", ["a\0b", "imgctl.yaml/x", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imgctl.yaml").write_text(EMPTY)
    assert "cannot be read" in refusal(Path(path)).summary


def test_ten_mebibytes_are_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imgctl.yaml"
    path.write_text(EMPTY + "#" * (10 * 1024 * 1024 - len(EMPTY)))
    load(path)
    path.write_text(EMPTY + "#" * (10 * 1024 * 1024 - len(EMPTY) + 1))
    assert "more than 10 MiB" in refusal(path).summary


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text(EMPTY)
    (tmp_path / "imgctl.yaml").symlink_to("real.txt")
    assert load(tmp_path / "imgctl.yaml").servers == {}


def test_a_link_that_leaves_its_folder_is_refused_and_nothing_of_its_target_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("aws_key: hunter2\n")
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "imgctl.yaml").symlink_to("../secret")
    for path in (folder, folder / "imgctl.yaml"):
        error = refusal(path)
        assert "symbolic link" in error.summary
        assert "hunter2" not in repr(error.diagnostics)


def test_a_folder_that_is_a_link_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "imgctl.yaml").write_text("secret: hunter2\n")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "fleet").symlink_to("../outside")
    monkeypatch.chdir(tmp_path / "repo")
    for path in (Path("fleet"), Path("fleet/imgctl.yaml")):
        error = refusal(path)
        assert "fleet is a symbolic link" in error.summary
        assert "hunter2" not in repr(error.diagnostics)


def test_a_broken_or_circular_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").symlink_to("nothing.yaml")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    for name in ("broken.yaml", "circle.yaml"):
        assert name in refusal(tmp_path / name).summary


def test_a_folder_is_read_by_name_without_what_is_no_manifest(loaded: Callable[..., Manifest]) -> None:
    junk = "not: [a manifest"
    manifest = loaded(
        {
            "b.yaml": server("b"),
            "a.yml": server("a"),
            "c.json": '{"version": 1, "image_servers": {"c": {"server_id": "idc", "image": {"name": "c"}}}}',
            "imgctl.state.json": junk,
            "imgctl.state.json.journal": junk,
            "imgctl.state.json.backup.json": junk,
            "imgctl.state.json.world.json": junk,
            "other.world.json": junk,
            "images.tfvars.json": junk,
            ".hidden.yaml": junk,
            "notes.md": junk,
        }
    )
    assert manifest.files == ("fleet/a.yml", "fleet/b.yaml", "fleet/c.json")
    assert list(manifest.servers) == ["a", "b", "c"]


def test_the_root_files_variables_and_defaults_reach_all_and_another_files_its_own(
    loaded: Callable[..., Manifest],
) -> None:
    manifest = loaded(
        {
            "imgctl.yaml": (
                'version: 1\nvars: {r: "1", s: base}\n'
                "defaults: {image: {name: '${server.name}-${var.r}-${var.s}', description: all},\n"
                "  labels: {team: it, x: y}}\n"
            ),
            "a.yaml": (
                'version: 1\nvars: {r: "2"}\ndefaults: {image: {description: of a}, labels: {x: z}, protect: true}\n'
                "image_servers: {a: {server_id: ida}}\n"
            ),
            "b.yaml": "version: 1\nimage_servers: {b: {server_id: idb, labels: {x: own}, protect: false}}\n",
        }
    )
    a, b = manifest.servers["a"], manifest.servers["b"]
    assert (a.image.name, a.image.description, a.labels, a.protect) == (
        "a-2-base",
        "of a",
        {"team": "it", "x": "z"},
        True,
    )
    assert (b.image.name, b.image.description, b.labels, b.protect) == (
        "b-1-base",
        "all",
        {"team": "it", "x": "own"},
        False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("region", "cn-east-3"),
        ("project_id", "a" * 32),
        ("provider", "{simulator: {}}"),
        ("limits", "{max_changes: 1}"),
        ("state", "{url: 'https://state.example/x'}"),
    ],
)
def test_what_may_stand_once_stands_once(refused: Callable[..., list[Diagnostic]], name: str, value: str) -> None:
    (problem,) = refused(
        {
            "a.yaml": server("a", f"{name}: {value}\n"),
            "b.yaml": server("b", f"{name}: {value}\n"),
        }
    )
    assert str(problem.origin) == "fleet/b.yaml:4:1"
    assert problem.summary == f"{name} is set twice"
    assert "fleet/a.yaml:4:1" in problem.hint


def test_names_and_ids_are_declared_once_in_all_files(refused: Callable[..., list[Diagnostic]]) -> None:
    entry = "  {}: {{server_id: {}, image: {{name: {}}}}}\n"
    head = "version: 1\nimage_servers:\n"
    problems = refused(
        {
            "a.yaml": head + entry.format("x", "one", "n1") + entry.format("y", "two", "n2"),
            "b.yaml": head + entry.format("x", "three", "n3") + entry.format("z", "two", "n2"),
        }
    )
    said = [(str(problem.origin), f"{problem.summary} {problem.hint}") for problem in problems]
    assert [place for place, _ in said] == ["fleet/b.yaml:3:3", "fleet/b.yaml:4:3", "fleet/b.yaml:4:18"]
    for (_, words), first in zip(said, ("fleet/a.yaml:3:3", "fleet/a.yaml:4:3", "fleet/a.yaml:4:18"), strict=True):
        assert first in words


def test_variables_of_another_file_are_not_those_of_this_one(refused: Callable[..., list[Diagnostic]]) -> None:
    (problem,) = refused(
        {
            "a.yaml": 'version: 1\nvars: {only_a: "1"}\nimage_servers: {}\n',
            "b.yaml": "version: 1\nimage_servers: {b: {server_id: x, image: {name: 'b-${var.only_a}'}}}\n",
        }
    )
    assert str(problem.origin) == "fleet/b.yaml:2:49"


def test_a_variable_file_is_read_as_carefully_as_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(EMPTY)
    os.mkfifo(tmp_path / "v.yaml")
    with pytest.raises(ManifestError, match="not a regular file"):
        load(tmp_path / "m.yaml", variables=VariableSources(files=(tmp_path / "v.yaml",)))
