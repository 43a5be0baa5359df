"""Whatever a file holds: a manifest, or a ManifestError with printable words; nothing else, and soon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import ManifestError
from reconciler.manifest.load import VariableSources, load
from reconciler.manifest.nodes import Kind, classify
from reconciler.model.spec import ImageSpec, Manifest
from tests.support import examples

FUZZ = settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

BASE = Path(__file__).parents[2].joinpath("examples", "quickstart", "imgctl.yaml").read_text("utf-8")
FRAGMENTS = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#~\n\t ${}\\",
        "version: 1\n",
        "image_servers:\n",
        "  a: {server_id: x, image: {name: y}}\n",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "---\n",
        "...\n",
        "${var.",
        "${server.labels.",
        "}",
        "%YAML 1.2\n---\n",
        "%TAG ! tag:x,2000:\n---\n",
        "vars: ",
        "defaults: ",
        "1e999",
        "0x",
        "\\ud800",
        "\ufeff",
        "\r",
    ]
)


def check(path: Path, content: bytes) -> Manifest | None:
    path.write_bytes(content)
    try:
        return load(path, variables=VariableSources(flags=("release=1",) if b"release" in content else ()))
    except ManifestError as error:
        problems = error.diagnostics
    assert problems
    for problem in problems:
        assert problem.summary.isprintable(), problem
        assert problem.hint.isprintable(), problem
        assert len(problem.summary) < 500, problem
        if problem.origin:
            assert problem.origin.line >= 1
            assert problem.origin.column >= 1
    return None


def test_a_name_with_a_tab_in_it_is_never_suggested_raw(tmp_path: Path) -> None:
    for name in ("r\\telease", "x\\ty"):
        check(
            tmp_path / "imgctl.yaml", f'version: 1\nvars: {{"{name}": "1"}}\nimage_servers: {{}}\n# release\n'.encode()
        )


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "imgctl.yaml", content)


@FUZZ
@given(st.lists(FRAGMENTS | st.text(max_size=4), max_size=30).map("".join))
def test_any_text_of_yamls_own_pieces(tmp_path: Path, text: str) -> None:
    check(tmp_path / "imgctl.yaml", text.encode("utf-8", "replace"))
    check(tmp_path / "imgctl.json", text.encode("utf-8", "replace"))


@FUZZ
@given(st.data())
def test_a_good_manifest_with_something_put_in(tmp_path: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(BASE)))
    end = data.draw(st.integers(start, min(len(BASE), start + 20)))
    check(tmp_path / "imgctl.yaml", (BASE[:start] + data.draw(FRAGMENTS) + BASE[end:]).encode())


KEYS = st.sampled_from(
    [
        *("version", "region", "vars", "defaults", "image_servers", "image", "name", "labels", "triggers", "server_id"),
        *("protect", "description", "provider", "simulator", "state", "url", "limits", "max_changes", "a", "b"),
    ]
) | st.text(max_size=5)
DATA = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.text(max_size=10), st.just("${var.a}")),
        st.just(1),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=20,
)


@FUZZ
@given(DATA, st.booleans())
def test_any_data(tmp_path: Path, data: Any, flow: bool) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)
    check(tmp_path / "imgctl.yaml", text.encode("utf-8", "surrogatepass"))


NAMES = st.from_regex(r"[A-Za-z一-龥][A-Za-z0-9_.\-一-龥]{0,12}", fullmatch=True).filter(
    lambda name: classify(name) is Kind.TEXT
)
IMAGE_NAMES = st.from_regex(r"[A-Za-z0-9_.\-一-龥]([ A-Za-z0-9_.\-一-龥]{0,20}[A-Za-z0-9_.\-一-龥])?", fullmatch=True)
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="<>"), max_size=30)
TRIGGERS = st.dictionaries(NAMES, PRINTABLE, max_size=3)
LABELS = st.dictionaries(NAMES, st.sampled_from(["", "canary", "a b", "财务", "2026.10", "yes", "~"]), max_size=3)
SERVERS = st.lists(
    st.tuples(
        NAMES,
        st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
        st.builds(
            ImageSpec, IMAGE_NAMES, PRINTABLE.filter(lambda text: text[:1] != " "), st.none() | st.booleans(), TRIGGERS
        ),
        LABELS,
        st.booleans(),
    ),
    max_size=4,
    unique_by=(lambda server: server[0], lambda server: server[1], lambda server: server[2].name),
)


def escaped(text: str) -> str:
    return text.replace("${", "$${")


def block(data: dict[str, Any], indent: str = "") -> str:
    """Block style YAML, text in quotes."""
    lines = ""
    for key, value in data.items():
        inside = isinstance(value, dict) and value
        text = f"\n{block(value, indent + '  ')}" if inside else f" {json.dumps(value, ensure_ascii=False)}\n"
        lines += f"{indent}{json.dumps(key, ensure_ascii=False)}:{text}"
    return lines


@FUZZ
@given(SERVERS, st.sampled_from(["block", "flow", "json", "ascii"]))
def test_a_right_manifest_means_what_was_meant(tmp_path: Path, servers: list[Any], form: str) -> None:
    declared = {}
    for name, server_id, image, labels, protect in servers:
        spec: dict[str, Any] = {"name": image.name, "description": escaped(image.description)}
        if image.execute_sysprep is not None:
            spec["execute_sysprep"] = image.execute_sysprep
        triggers = {key: escaped(value) for key, value in image.triggers.items()}
        declared[name] = {
            "server_id": server_id,
            "image": spec,
            "labels": labels,
            "protect": protect,
            "triggers": triggers,
        }
    data = {"version": 1, "region": "cn-east-3", "image_servers": declared}
    path = tmp_path / ("m.yaml" if form in ("block", "flow") else "m.json")
    path.write_text(block(data) if form == "block" else json.dumps(data, ensure_ascii=form == "ascii"), "utf-8")
    manifest = load(path)
    assert [
        (server.name, server.server_id, server.image, server.labels, server.protect)
        for server in manifest.servers.values()
    ] == servers
