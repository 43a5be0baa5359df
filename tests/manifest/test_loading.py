"""What right manifests mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.manifest import reader
from reconciler.manifest.load import VariableSources, load
from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits, Manifest, Override, SimulatorSettings

EXAMPLES = Path(__file__).parents[2] / "examples"

DESIGN = """\
# yaml-language-server: $schema=schemas/manifest.schema.json
version: 1
region: ap-southeast-1
project_id: a4da8115c9d8464ead3a38309130523f   # optional: found through IAM from the region
vars:
  release: "2026.11"                            # patch day: change this line
defaults:                                       # any key of a server but server_id
  image:
    name: ${server.name}-${var.release}
    description: "Built from ${server.name}, release ${var.release}"
    execute_sysprep: true
image_servers:
  office:                                       # the name used everywhere else
    server_id: 25b1dd14-0c84-4558-aa57-03a6c54b8e75
    labels: {team: finance, ring: canary}
  cad:
    server_id: "697612196993040384"
    image: {name: cad-workstation-2026}
    triggers: {gpu_driver: "551.86"}            # free map; a changed value means a rebuild
    protect: true
"""


def test_the_manifest_of_the_design(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(DESIGN)
    assert manifest == Manifest(
        servers={
            "office": DeclaredServer(
                "office",
                "25b1dd14-0c84-4558-aa57-03a6c54b8e75",
                ImageSpec("office-2026.11", "Built from office, release 2026.11", execute_sysprep=True),
                {"team": "finance", "ring": "canary"},
            ),
            "cad": DeclaredServer(
                "cad",
                "697612196993040384",
                ImageSpec(
                    "cad-workstation-2026",
                    "Built from cad, release 2026.11",
                    execute_sysprep=True,
                    triggers={"gpu_driver": "551.86"},
                ),
                protect=True,
            ),
        },
        region="ap-southeast-1",
        project_id="a4da8115c9d8464ead3a38309130523f",
        files=("imgctl.yaml",),
    )
    assert manifest.servers["cad"].origin == Origin("imgctl.yaml", 16, 3)


@pytest.mark.parametrize(("path", "servers"), [("quickstart", 3), ("quickstart/imgctl.yaml", 3), ("patch-day", 6)])
def test_the_examples_load(path: str, servers: int) -> None:
    manifest = load(EXAMPLES / path)
    assert len(manifest.servers) == servers
    assert manifest.diagnostics == ()


def test_the_quick_start_is_simulated() -> None:
    manifest = load(EXAMPLES / "quickstart")
    assert manifest.simulator == SimulatorSettings(servers=3, build_time=3.0)
    assert [server.server_id for server in manifest.servers.values()] == [
        "25b1dd14-0c84-4558-aa57-03a6c54b8e75",
        "697612196993040384",
        "627989489700044800",
    ]


def test_every_setting(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(
        "version: 1\nprovider: {simulator: {servers: 7, build_time: 0.5}}\n"
        "limits: {max_changes: 20, max_prunes: 0, max_in_flight: 0}\nstate: {url: 'https://state.example/imgctl'}\n"
        "image_servers: {}\n"
    )
    assert manifest.simulator == SimulatorSettings(servers=7, build_time=0.5)
    assert manifest.limits == Limits(max_changes=20, max_prunes=0, max_in_flight=0)
    assert manifest.state_url == "https://state.example/imgctl"
    assert manifest.region is None


def test_the_simulators_own_defaults(loaded: Callable[..., Manifest]) -> None:
    assert loaded("version: 1\nprovider: {simulator: {}}\nimage_servers: {}\n").simulator == SimulatorSettings()


def test_sysprep_that_is_not_said_stays_unsaid(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded("version: 1\nimage_servers: {a: {server_id: x, image: {name: y}}}\n")
    assert manifest.servers["a"].image.execute_sysprep is None


def test_every_reference(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded("""\
version: 1
vars: {v: "1"}
image_servers:
  a:
    server_id: x
    labels: {ring: "r${var.v}", of: "${server.name}", id: "${server.id}"}
    image: {name: "${server.name}-${server.id}-${server.labels.ring}-${var.v}", description: "$${var.v} $$ $ {} $$${x}"}
    triggers: {t: "${var.v}${server.labels.of}"}
""")
    server = manifest.servers["a"]
    assert server.labels == {"ring": "r1", "of": "a", "id": "x"}
    assert server.image == ImageSpec("a-x-r1-1", "${var.v} $$ $ {} $${x}", triggers={"t": "1a"})


def test_what_comes_out_of_a_variable_is_not_read_again(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(
        "version: 1\nvars: {a: '$', b: '{var.a}'}\n"
        "image_servers: {s: {server_id: x, image: {name: n, description: '${var.a}${var.b}'}}}\n"
    )
    assert manifest.servers["s"].image.description == "${var.a}"


def test_anchors_and_aliases(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded("""\
version: 1
image_servers:
  a: {server_id: x, image: {name: a}, labels: &finance {team: finance}}
  b: {server_id: y, image: {name: b}, labels: *finance}
""")
    assert manifest.servers["b"].labels == {"team": "finance"}


def test_a_byte_order_mark_and_foreign_line_ends_are_no_matter(loaded: Callable[..., Manifest]) -> None:
    assert loaded(b"\xef\xbb\xbf" + DESIGN.replace("\n", "\r\n").encode()) == loaded(DESIGN)


def test_json_is_read_as_json_is_written(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(
        {
            "m.json": '{\n\t"version":1,\n\t"image_servers":{"a":{"server_id":"a\\u002db","image":\n\t\t'
            '{"name":"\\u955c\\u50cf","description":"\\ud83d\\ude00 \\/ \\\\ud83d"}}}\n}\n'
        }
    )
    assert manifest.servers["a"].image == ImageSpec("镜像", "😀 / \\ud83d")
    assert manifest.servers["a"].origin == Origin("fleet/m.json", 3, 19)


VARIABLES = """\
version: 1
vars: {release: "1", other: "2"}
image_servers: {a: {server_id: x, image: {name: "a-${var.release}"}}}
"""


@pytest.mark.parametrize(
    ("environment", "files", "flags", "expected"),
    [
        ({}, {}, (), None),
        ({"IMGCTL_VAR_release": "env", "HOME": "/"}, {}, (), Override("release", "env", "IMGCTL_VAR_release")),
        ({"IMGCTL_VAR_release": "env"}, {"v.yaml": "release: file"}, (), Override("release", "file", "v.yaml")),
        ({}, {"v.yaml": "release: one", "w.json": '{"release": "two"}'}, (), Override("release", "two", "w.json")),
        ({}, {"v.yaml": "release: file"}, ("release=flag",), Override("release", "flag", "--var")),
        ({}, {}, ("release=x", "release=a.b-c d"), Override("release", "a.b-c d", "--var")),
        ({}, {}, ("release=2026.10",), Override("release", "2026.10", "--var")),
    ],
)
def test_who_wins_over_whom(
    write: Callable[..., Path],
    environment: dict[str, str],
    files: dict[str, str],
    flags: tuple[str, ...],
    expected: Override | None,
) -> None:
    path = write(VARIABLES)
    for name, text in files.items():
        Path(name).write_text(text)
    manifest = load(path, variables=VariableSources(flags, tuple(map(Path, files)), environment))
    assert manifest.overrides == ((expected,) if expected else ())
    assert manifest.servers["a"].image.name == f"a-{expected.value if expected else '1'}"


def test_a_value_may_contain_an_equals_sign(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(VARIABLES, VariableSources(flags=("other=a=b", "release=")))
    assert manifest.overrides == (Override("other", "a=b", "--var"), Override("release", "", "--var"))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("relaese=1", "Did you mean release?"),
        ("release", "name=value"),
        ("=x", "name=value"),
        ("release=${HOME}", "meant for the shell"),
        ("release=a\x1b[31m", "U+001B"),
        ("release=" + "x" * 1025, "at most 1024"),
        ("release=caf\udce9", "U+DCE9"),
    ],
)
def test_a_flag_that_cannot_be(refused: Callable[..., list[Diagnostic]], flag: str, words: str) -> None:
    (problem,) = refused(VARIABLES, VariableSources(flags=(flag,)))
    assert words in f"{problem.summary} {problem.hint}"
    assert problem.origin is None
    assert problem.summary.isprintable()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("other: x\nrelaese: x\n", "v.yaml:2:1", "Did you mean release?"),
        ("release: 2026.10\n", "v.yaml:1:10", '"2026.10"'),
        ("release: [a]\n", "v.yaml:1:10", "one text"),
        ("- release\n", "v.yaml:1:1", "a map of variables"),
        ("release: a\nrelease: b\n", "v.yaml:2:1", "twice"),
        ("release: ${x}\n", "v.yaml:1:10", "${"),
        ("", "v.yaml:1:1", "empty"),
    ],
)
def test_a_variable_file_that_cannot_be(write: Callable[..., Path], text: str, place: str, words: str) -> None:
    path = write(VARIABLES)
    Path("v.yaml").write_text(text)
    from reconciler.errors import ManifestError

    with pytest.raises(ManifestError) as caught:
        load(path, variables=VariableSources(files=(Path("v.yaml"),)))
    (problem,) = caught.value.diagnostics
    assert str(problem.origin) == place
    assert words in f"{problem.summary} {problem.hint}"


def test_an_environment_variable_of_another_manifest_is_a_note(loaded: Callable[..., Manifest]) -> None:
    manifest = loaded(VARIABLES, VariableSources(environment={"IMGCTL_VAR_relaese": "1"}))
    assert manifest.overrides == ()
    (note,) = manifest.diagnostics
    assert note.severity is Severity.NOTE
    assert "IMGCTL_VAR_relaese" in note.summary
    assert note.hint == "Did you mean release?"


def test_the_pure_python_parser_reads_the_same(
    loaded: Callable[..., Manifest], refused: Callable[..., list[Diagnostic]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    expected = loaded(DESIGN)
    wrong = DESIGN.replace('"551.86"', "551.86").replace("protect: true", "protcet: true")
    problems = refused(wrong)
    monkeypatch.setattr(reader, "_PARSER", yaml.SafeLoader)
    assert loaded(DESIGN) == expected
    assert [server.origin for server in loaded(DESIGN).servers.values()] == [
        Origin("imgctl.yaml", n, 3) for n in (13, 16)
    ]
    assert refused(wrong) == problems
    (problem,) = refused('version: 1\nimage_servers: {a: {server_id: x, image: {name: y, description: "\\ud800"}}}\n')
    assert "surrogate" in problem.summary


def test_ten_thousand_servers_load_fast(write: Callable[..., Path]) -> None:
    text = "".join(f"  server-{i}:\n    server_id: id-{i}\n    labels: {{ring: r{i % 9}}}\n" for i in range(10_000))
    path = write(f"version: 1\ndefaults: {{image: {{name: '${{server.name}}'}}}}\nimage_servers:\n{text}")
    began = time.process_time()
    assert len(load(path).servers) == 10_000
    # About one second here; the bound leaves room for slow machines and fails where something is quadratic.
    assert time.process_time() - began < 8


def test_defaults_cannot_be_blown_up(refused: Callable[..., list[Diagnostic]]) -> None:
    triggers = ", ".join(f't{i}: "${{var.v}}${{server.name}}"' for i in range(60))
    servers = "".join(f"  s{i}: {{server_id: i{i}, image: {{name: n{i}}}}}\n" for i in range(3000))
    (problem,) = refused(
        f"version: 1\nvars: {{v: {'x' * 1000}}}\ndefaults: {{triggers: {{{triggers}}}}}\nimage_servers:\n{servers}"
    )
    assert "too much text" in problem.summary
