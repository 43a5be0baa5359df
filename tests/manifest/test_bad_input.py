"""Every kind of bad manifest: where the error points, and what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.manifest import reader
from reconciler.model.diagnostics import Diagnostic, Origin, Severity

ID = "25b1dd14-0c84-4558-aa57-03a6c54b8e75"


def manifest(server: str = "", top: str = "") -> str:
    """One server on line 4, `server` being its lines from 6 on; `top` goes between version and servers."""
    lines = ["version: 1", f"region: ap-southeast-1{top and chr(10) + top}", "image_servers:", "  office:"]
    return "\n".join([*lines, f"    server_id: {ID}", *(f"    {line}" for line in server.split("\n"))]) + "\n"


def named(name: str) -> str:
    return manifest(f"image: {{name: {name}}}")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)

CASES: dict[str, tuple[str | bytes, int, int, list[str]]] = {
    # The text itself
    "empty": ("", 1, 1, ["empty", "imgctl init"]),
    "only a comment": ("# nothing\n", 2, 1, ["empty"]),
    "not utf-8": (b"version: 1\n# caf" + b"\xe9\n", 2, 6, ["UTF-8", "0xe9"]),
    "utf-16": ("version: 1".encode("utf-16"), 1, 1, ["UTF-8", "0xff"]),
    "nul": (b"version: 1\nregion: a\0b\n", 2, 10, ["U+0000"]),
    "escape character": (b"version: 1\nregion: \x1b[31m\n", 2, 9, ["U+001B", "\\u001b"]),
    "right to left override": ("version: 1 # \u202e\n", 1, 14, ["U+202E"]),
    "invisible line break": ("version: 1 # \u2028region: x\n", 1, 14, ["U+2028"]),
    "tab": ("version: 1\nvars:\n\ta: b\n", 3, 1, ["Indent with spaces"]),
    "unclosed quote": ('version: 1\nregion: "ap\n', 2, 9, ["Close the quotes"]),
    "unclosed brace": ("version: 1\nvars: {a: b\n", 2, 7, ["Close the brackets"]),
    "colon in text": ("version: 1\nregion: a: b\n", 2, 10, ["quotes"]),
    "list": ("- version: 1\n", 1, 1, ["a manifest is a map"]),
    "text": ("hello\n", 1, 1, ["a manifest is a map"]),
    "several documents": ("version: 1\n---\nversion: 1\n", 2, 1, ["second document"]),
    "deep": ("version: 1\nvars: " + "[" * 900, 2, 56, ["nested more than 50"]),
    "deep maps": ("".join(" " * i + "a:\n" for i in range(200)), 51, 51, ["nested more than 50"]),
    "deep keys": ("? " * 2000, 1, 101, ["nested more than 50"]),
    "alias bomb": (BOMB, 5, 36, ["aliases", "100000"]),
    "recursive alias": ("version: 1\nvars: &v {a: *v}\n", 2, 14, ["contains it"]),
    "undefined alias": ("version: 1\nregion: *r\n", 2, 9, ["*r stands for nothing", "&r"]),
    "tag python": (named("!!python/object/apply:os.getcwd []"), 6, 19, ["tags are not supported"]),
    "tag str": (named("!!str 2026"), 6, 19, ["tags are not supported"]),
    "tag own": (named("!secret x"), 6, 19, ["tags are not supported"]),
    "anchor twice": (manifest("image: &a {name: &a x}"), 6, 22, ["&a is defined twice"]),
    "merge key": (manifest("<<: {protect: true}\nimage: {name: x}"), 6, 5, ["merge keys", "defaults"]),
    "duplicate key": (manifest("image: {name: x}\nprotect: true\nprotect: false"), 8, 5, ["twice", "imgctl.yaml:7:5"]),
    "complex key": ("version: 1\nimage_servers:\n  [a]: {}\n", 3, 3, ["a key must be text"]),
    "number as key": ("version: 1\nimage_servers:\n  2026: {server_id: x, image: {name: y}}\n", 3, 3, ['"2026"']),
    # Fields
    "no version": ("image_servers: {}\n", 1, 1, ["no version", "version: 1"]),
    "version 2": ("version: 2\nimage_servers: {}\n", 1, 10, ["version 2", "reads version 1"]),
    "version text": ('version: "1"\nimage_servers: {}\n', 1, 10, ['the text "1"', "write `version: 1`"]),
    "no servers": ("version: 1\n", 1, 1, ["image_servers: {}"]),
    "servers null": ("version: 1\nimage_servers:\n", 2, 15, ["a map is expected, not nothing", "Write {}"]),
    "servers list": ("version: 1\nimage_servers: [office]\n", 2, 16, ["a map is expected, not a list"]),
    "unknown top field": ("version: 1\nimage_server: {}\nimage_servers: {}\n", 2, 1, ["Did you mean image_servers?"]),
    "unknown server field": (manifest("image: {name: x}\nprotected: true"), 7, 5, ["protected", "mean protect?"]),
    "unknown image field": (manifest("image: {name: x, sysprep: true}"), 6, 22, ["sysprep", "execute_sysprep"]),
    "keep none": (manifest("image: {name: x}\nkeep_images: 0"), 7, 18, ["keep_images", "1 or more"]),
    "keep text": (manifest('image: {name: x}\nkeep_images: "3"'), 7, 18, ["keep_images", "whole number"]),
    "keep a part": (manifest("image: {name: x}\nkeep_images: 1.5"), 7, 18, ["keep_images", "1.5"]),
    "server null": ("version: 1\nimage_servers:\n  office:\n", 3, 10, ["It needs server_id"]),
    "no server_id": ("version: 1\nimage_servers:\n  office: {image: {name: x}}\n", 3, 3, ["office has no server_id"]),
    "no image name": (manifest("protect: true"), 4, 3, ["office has no image.name", "defaults"]),
    "image text": (manifest("image: office-2026"), 6, 12, ["image: a map is expected", "office-2026"]),
    "protect text": (manifest('image: {name: x}\nprotect: "yes"'), 7, 14, ["true or false", "yes"]),
    "protect yes": (manifest("image: {name: x}\nprotect: yes"), 7, 14, ["true or false", "not yes"]),
    "sysprep number": (manifest("image: {name: x, execute_sysprep: 1}"), 6, 39, ["true or false is expected, not 1"]),
    "limits negative": (manifest("image: {name: x}", "limits: {max_changes: -1}"), 3, 23, ["cannot be -1"]),
    "limits fraction": (manifest("image: {name: x}", "limits: {max_in_flight: 1.5}"), 3, 25, ["whole number"]),
    "limits octal": (manifest("image: {name: x}", "limits: {max_prunes: 010}"), 3, 22, ["whole number", "010"]),
    "limits infinite": (manifest("image: {name: x}", "limits: {max_prunes: .inf}"), 3, 22, ["whole number", ".inf"]),
    "build time": (
        manifest("image: {name: x}", "provider: {simulator: {build_time: fast}}"),
        3,
        36,
        ["a number is expected", "fast"],
    ),
    "provider text": (
        manifest("image: {name: x}", "provider: simulator"),
        3,
        11,
        ["a map is expected", "simulator: {}"],
    ),
    "provider unknown": (manifest("image: {name: x}", "provider: {simulater: {}}"), 3, 12, ["mean simulator?"]),
    "state path": (manifest("image: {name: x}", "state: {url: ../s.json}"), 3, 14, ["../s.json", "not a path"]),
    "state file": (manifest("image: {name: x}", 'state: {url: "file:///s"}'), 3, 14, ["not a path"]),
    "state secret": (manifest("image: {name: x}", 'state: {url: "https://u:p@h/s"}'), 3, 14, ["environment"]),
    "labels list": (manifest("image: {name: x}\nlabels: [a]"), 7, 13, ["labels: a map is expected"]),
    "label with comma": (manifest('image: {name: x}\nlabels: {a: "b,c"}'), 7, 17, ["could not be selected"]),
    "label name": (manifest("image: {name: x}\nlabels: {a=b: c}"), 7, 14, ['"a=b"', "1 to 64"]),
    # Text that is not
    "release number": (manifest("image: {name: x}", "vars: {release: 2026.10}"), 3, 17, ['"2026.10"', "2026.1."]),
    "long id": (named("x").replace(ID, "697612196993040384"), 5, 16, ['"697612196993040384"', "round"]),
    "old octal": (named("017"), 6, 19, ['"017"']),
    "new octal": (named("0o17"), 6, 19, ['"0o17"']),
    "hexadecimal": (named("0x1F"), 6, 19, ['"0x1F"']),
    "exponent": (named("1e3"), 6, 19, ['"1e3"', "1000.0"]),
    "sexagesimal": (named("12:30:45"), 6, 19, ['"12:30:45"']),
    "underscores": (named("1_000"), 6, 19, ['"1_000"']),
    "date": (named("2026-11-05"), 6, 19, ["a date", '"2026-11-05"']),
    "time": (named("2026-11-05T10:00:00Z"), 6, 19, ["a date"]),
    "yes": (named("yes"), 6, 19, ["a boolean", '"yes"']),
    "False": (named("False"), 6, 19, ["a boolean", '"False"']),
    "tilde": (named("~"), 6, 19, ["nothing", '"~"']),
    "null": (named("null"), 6, 19, ["nothing", '"null"']),
    "absent text": (manifest("image:\n  name: x\n  description:"), 8, 19, ["no value", '""']),
    "not a number": (named(".nan"), 6, 19, ['".nan"']),
    "name map": (named("{a: b}"), 6, 19, ["image.name: text is expected, not a map"]),
    "trigger number": (manifest("image: {name: x}\ntriggers: {gpu: 551.86}"), 7, 21, ['"551.86"']),
    # Ids, regions, names
    "id with slash": (named("x").replace(ID, "a/b"), 5, 16, ['server_id "a/b"', "1 to 128 letters"]),
    "id with dots": (named("x").replace(ID, "a..b"), 5, 16, ['"a..b"']),
    "id only dots": (named("x").replace(ID, '".."'), 5, 16, ['".."']),
    "id with line break": (named("x").replace(ID, '"abc\\n"'), 5, 16, ['"abc\\n"']),
    "id too long": (named("x").replace(ID, "a" * 129), 5, 16, ["1 to 128"]),
    "id empty": (named("x").replace(ID, '""'), 5, 16, ["1 to 128"]),
    "id reference": (named("x").replace(ID, '"${server.name}"'), 5, 16, ["1 to 128"]),
    "region unknown": (named("x").replace("ap-southeast-1", "ap-southeast-11"), 2, 9, ["Did you mean ap-southeast-1?"]),
    "region host": (named("x").replace("ap-southeast-1", "evil.example/"), 2, 9, ["offers no image servers"]),
    "project upper": (manifest("image: {name: x}", f"project_id: {'A' * 32}"), 3, 13, ["32 characters"]),
    "project break": (manifest("image: {name: x}", f'project_id: "{"a" * 32}\\n"'), 3, 13, ["32 characters"]),
    "server name": (
        "version: 1\nimage_servers:\n  a b: {server_id: x, image: {name: y}}\n",
        3,
        3,
        ['"a b"', "1 to 64"],
    ),
    "server name glob": ('version: 1\nimage_servers:\n  "a*": {server_id: x, image: {name: y}}\n', 3, 3, ["a*"]),
    "server name dash": ('version: 1\nimage_servers:\n  "-a": {server_id: x, image: {name: y}}\n', 3, 3, ["-a"]),
    "empty name": (named('""'), 6, 19, ["is empty"]),
    "name begins with space": (named('" a"'), 6, 19, ["begins with a space"]),
    "name ends with space": (named('"a "'), 6, 19, ["ends with a space"]),
    "name too long": (named("a" * 129), 6, 19, ["129 characters, 1 too many"]),
    "name line break": (named('"a\\n"'), 6, 19, ["U+000A (line break) as character 2"]),
    "name tab": (named('"a\\tb"'), 6, 19, ["U+0009 (tab)"]),
    "name no-break space": (named('"a\\_b"'), 6, 19, ["U+00A0 (no-break space) as character 2"]),
    "name latin": (named("naïve"), 6, 19, ["U+00EF", "character 3"]),
    "name cyrillic": (named("имя"), 6, 19, ["U+0438 (cyrillic small letter i)"]),
    "name arabic digit": (named('"٣"'), 6, 19, ["U+0663"]),
    "name fullwidth digit": (named("１２"), 6, 19, ["U+FF11 (fullwidth digit one)"]),
    "name rare chinese": (named("㐀"), 6, 19, ["U+3400"]),
    "name zero": (named("〇"), 6, 19, ["U+3007"]),
    "name past the range": (named("龦"), 6, 19, ["U+9FA6"]),
    **{f"name {char}": (named(f'"a{char}b"'), 6, 19, [f'has "{char}"']) for char in "/@()+"},
    "description angle": (manifest("image: {name: x, description: a<b}"), 6, 35, ['"<" as character 2']),
    "description space": (manifest('image: {name: x, description: " a"}'), 6, 35, ["begins with a space"]),
    "description block": (manifest("image:\n  name: x\n  description: |\n    hello"), 8, 20, ["U+000A", ">-"]),
    "description long": (manifest(f"image: {{name: x, description: {'a' * 1025}}}"), 6, 35, ["1025", "1 too many"]),
    "description emoji": (manifest(f"image: {{name: x, description: {'😀' * 513}}}"), 6, 35, ["1026", "UTF-16"]),
    # References
    "undefined variable": (
        named('"x-${var.relaese}"').replace("image_s", "vars: {release: x}\nimage_s"),
        7,
        19,
        ["mean release?"],
    ),
    "no variables": (named('"x-${var.release}"'), 6, 19, ['"release" is not declared', "under `vars`"]),
    "reference without quotes": (named("x-${var.a}"), 6, 22, ["belongs in quotes"]),
    "unclosed": (named('"x-${var.release"'), 6, 19, ["no closing }"]),
    "nested": (named('"${var.${var.a}}"'), 6, 19, ["nested"]),
    "environment": (named('"${env.HW_SECRET_KEY}"'), 6, 19, ["stands for nothing", "${var.NAME}"]),
    "code": (named('"${1+1}"'), 6, 19, ["stands for nothing"]),
    "spaces": (named('"${ server.name }"'), 6, 19, ["Did you mean ${server.name}?"]),
    "near form": (named('"${server.nam}"'), 6, 19, ["Did you mean ${server.name}?"]),
    "no label": (
        named('"${server.labels.rung}"').replace("    image", "    labels: {ring: a}\n    image"),
        7,
        19,
        ["mean ring?"],
    ),
    "label to label": (
        manifest('image: {name: x}\nlabels: {a: b, c: "${server.labels.a}"}'),
        7,
        23,
        ["a label cannot refer to a label"],
    ),
    "reference in variable": (
        manifest("image: {name: x}", 'vars: {a: b, c: "${var.a}"}'),
        3,
        17,
        ["vars.c", "as it is"],
    ),
    "variable makes a bad name": (
        manifest('image: {name: "a-${var.v}"}', 'vars: {v: "1/2"}'),
        7,
        19,
        ["office: the image name", '"a-1/2"', 'has "/" as character 4'],
    ),
    "literal reference": (named('"a$${b}"'), 6, 19, ['"a${b}"', 'has "$"']),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_its_place_and_helpful_words(
    case: str, refused: Callable[..., list[Diagnostic]]
) -> None:
    text, line, column, words = CASES[case]
    problems = refused(text)
    assert problems[0].origin == Origin("imgctl.yaml", line, column), problems
    said = f"{problems[0].summary}\n{problems[0].hint}"
    assert [word for word in words if word not in said] == [], said
    assert len(problems) == 1, problems
    assert said.isprintable() or said.replace("\n", "").isprintable()
    assert problems[0].severity is Severity.ERROR
    shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
    if len(excerpt := shown.split("\n")[line - 1]) <= 500:
        assert problems[0].excerpt == excerpt


def test_everything_wrong_is_said_at_once_in_the_order_of_the_places(
    refused: Callable[..., list[Diagnostic]],
) -> None:
    problems = refused(
        {
            "a.yaml": "version: 1\nregion: nowhere\nimage_servers:\n  a: {server_id: 12, image: {name: b@}}\n",
            "b.yaml": "version: 1\nregion: cn-east-3\nimage_servers:\n  b: {server_id: x/y}\n",
            "c.yaml": "version: [\n",
        }
    )
    assert [(str(problem.origin), problem.name) for problem in problems] == [
        ("fleet/a.yaml:2:9", None),
        ("fleet/a.yaml:4:18", "a"),
        ("fleet/a.yaml:4:36", "a"),
        ("fleet/b.yaml:2:1", None),
        ("fleet/b.yaml:4:18", "b"),
        ("fleet/c.yaml:2:1", None),
    ]


def test_an_unreadable_file_does_not_make_the_others_look_wrong(refused: Callable[..., list[Diagnostic]]) -> None:
    problems = refused(
        {
            "imgctl.yaml": 'version: 1\nvars: {release: "1"\ndefaults: {}\n',
            "ring.yaml": "version: 1\nimage_servers:\n  a: {server_id: x, image: {name: '${var.release}'}}\n",
        }
    )
    assert [problem.origin.file for problem in problems if problem.origin] == ["fleet/imgctl.yaml"]


def test_a_wrong_variable_or_default_is_said_once_and_not_at_every_use(
    refused: Callable[..., list[Diagnostic]],
) -> None:
    servers = "".join(f"  s{i}: {{server_id: id{i}}}\n" for i in range(20))
    problems = refused(
        "version: 1\nvars: {release: 2026.10}\ndefaults: {image: {name: '${server.name}-${var.release}'}}\n"
        f"image_servers:\n{servers}"
    )
    assert [str(problem.origin) for problem in problems] == ["imgctl.yaml:2:17"]


def test_a_long_report_ends_with_how_many_more(refused: Callable[..., list[Diagnostic]]) -> None:
    servers = "".join(f"  s{i}: {{server_id: {i}, image: {{name: n{i}}}}}\n" for i in range(250))
    problems = refused(f"version: 1\nimage_servers:\n{servers}")
    assert len(problems) == 101
    assert problems[-1].summary == "150 more problems are not shown"


@pytest.mark.parametrize(
    ("servers", "place", "words"),
    [
        (
            "  a: {server_id: x, image: {name: n}}\n  b: {server_id: x, image: {name: m}}\n",
            "imgctl.yaml:4:18",
            ["b has the server_id of a", "imgctl.yaml:3:18"],
        ),
        (
            "  a: {server_id: x, image: {name: n}}\n  b: {server_id: y, image: {name: n}}\n",
            "imgctl.yaml:4:3",
            ["b and a both make an image named", '"n"', "imgctl.yaml:3:3"],
        ),
        (
            "  a: {server_id: x, image: {name: 'b-${server.name}'}}\n  b: {server_id: y, image: {name: b-a}}\n",
            "imgctl.yaml:4:3",
            ["b and a both make"],
        ),
    ],
)
def test_no_two_servers_are_the_same(
    refused: Callable[..., list[Diagnostic]], servers: str, place: str, words: list[str]
) -> None:
    (problem,) = refused(f"version: 1\nimage_servers:\n{servers}")
    assert str(problem.origin) == place
    said = f"{problem.summary} {problem.hint}"
    assert [word for word in words if word not in said] == [], said


def test_a_flood_of_problems_ends_the_search(refused: Callable[..., list[Diagnostic]]) -> None:
    for text in (
        "version: 1\nimage_servers: {}\n" + "".join(f"field{i}: x\n" for i in range(5_000)),
        "version: 1\nimage_servers:\n" + "".join(f"  s{i}:\n" for i in range(5_000)),
        "version: 1\nimage_servers: {}\nvars:\n" + "  a: b\n" * 5_000,
    ):
        problems = refused(text)
        assert len(problems) == 101
        assert problems[-1].summary == "at least 1900 more problems are not shown"


def test_a_file_of_too_many_values_is_refused(
    refused: Callable[..., list[Diagnostic]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reader.MAX_NODES == 1_000_000
    monkeypatch.setattr(reader, "MAX_NODES", 10_000)
    (problem,) = refused("version: 1\nvars: [" + "a," * 10_001 + "]\n")
    assert "10000 keys and values" in problem.summary


def test_nesting_that_the_parser_itself_refuses_is_one_problem_with_a_hint(
    refused: Callable[..., list[Diagnostic]],
) -> None:
    # Newer versions of libyaml stop at a thousand levels, before our own limit is looked at; older ones reach ours.
    problems = refused("version: 1\nvars: " + "[" * 5000)
    assert len(problems) == 1
    assert "nest" in problems[0].summary
    assert "six levels" in problems[0].hint
