"""What sets a manifest's variables from outside: flags, files, the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.manifest.nodes import MapNode, Scalar, text_of
from reconciler.manifest.paths import forbidden_character, read_source
from reconciler.manifest.problems import Problems, did_you_mean, shown, shown_name
from reconciler.manifest.reader import read_nodes
from reconciler.manifest.rules import TEXT_LIMIT
from reconciler.model.spec import Override

ENVIRONMENT_PREFIX = "IMGCTL_VAR_"


@dataclass(frozen=True, slots=True)
class VariableSources:
    """Where a variable's value may come from beside the manifest.

    `flags` are the values of --var as typed, "name=value"; `files` those of --var-file, YAML or JSON maps of text;
    `environment` the process's, of which only IMGCTL_VAR_name is looked at; `recorded` what a saved plan was
    made with. Flags win over files, files over the environment, and among flags and among files the later one.
    """

    flags: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[Override, ...] = ()


def read_overrides(sources: VariableSources, declared: frozenset[str], problems: Problems) -> tuple[Override, ...]:
    """The variables set from outside, by name.

    A flag or a file that sets an undeclared variable is a problem: somebody meant something by it. The environment is
    shared by many manifests and outlives them, so there it is a note.
    """
    found: dict[str, Override] = {}
    for variable in sorted(sources.environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name, value = variable.removeprefix(ENVIRONMENT_PREFIX), sources.environment[variable]
        if name not in declared:
            if not problems.incomplete:
                hint = did_you_mean(name, declared, "It has no effect here.")
                problems.note(f"{shown_name(variable)} sets no variable of this manifest", hint)
        elif (wrong := _wrong_value(value)) is None:
            found[name] = Override(name, value, variable)
        else:
            problems.without_place(f"{variable} {wrong[0]}", wrong[1])
    found |= _recorded(sources.recorded, declared, problems)
    for path in sources.files:
        found |= _from_file(path, declared, problems)
    for flag in sources.flags:
        name, equals, value = flag.partition("=")
        if not equals or not name:
            problems.without_place(f"--var {shown_name(flag)} sets nothing", "Write --var name=value.")
        elif name not in declared:
            if not problems.incomplete:
                problems.without_place(
                    f"--var {shown_name(name)}: no such variable is declared", _undeclared(name, declared)
                )
        elif (wrong := _wrong_value(value)) is None:
            found[name] = Override(name, value, "--var")
        else:
            problems.without_place(f"--var {name} {wrong[0]}", wrong[1])
    return tuple(found[name] for name in sorted(found))


def _recorded(overrides: tuple[Override, ...], declared: frozenset[str], problems: Problems) -> dict[str, Override]:
    """What a saved plan was made with. A variable that is gone is a note: what comes out is compared with the plan."""
    found: dict[str, Override] = {}
    for override in overrides:
        if override.name not in declared:
            if not problems.incomplete:
                name = shown_name(override.name)
                problems.note(f"the plan sets {name}, no variable of this manifest", "It has no effect here.")
        elif (wrong := _wrong_value(override.value)) is None:
            found[override.name] = override
        else:
            problems.without_place(f"{override.name} of the plan {wrong[0]}", wrong[1])
    return found


def _from_file(path: Path, declared: frozenset[str], problems: Problems) -> dict[str, Override]:
    read = read_source(path, problems)
    document = read_nodes(*read, problems) if read else None
    if document is None:
        return {}
    if not isinstance(document, MapNode):
        problems.at(document, "a map of variables is expected", "Write `name: value`, one variable a line.")
        return {}
    found: dict[str, Override] = {}
    for name, (key, node) in document.entries.items():
        value = text_of(node)
        if name not in declared:
            if not problems.incomplete:
                problems.at(key, f"no variable {shown(name)} is declared", _undeclared(name, declared))
        elif value is None:
            if isinstance(node, Scalar):
                from reconciler.manifest.wording import wrong_scalar

                summary, hint = wrong_scalar(node)
                problems.at(node, f"{name}: {summary}", hint)
            else:
                problems.at(node, f"{name}: text is expected", "A variable is one text; it cannot be a map or a list.")
        elif (wrong := _wrong_value(value)) is None:
            found[name] = Override(name, value, str(path))
        else:
            problems.at(node, f"{name} {wrong[0]}", wrong[1])
    return found


def _wrong_value(value: str) -> tuple[str, str] | None:
    if "${" in value:
        return "contains ${", "A variable is taken as it is and cannot refer to anything; was this meant for the shell?"
    if len(value) > TEXT_LIMIT:
        return f"has {len(value)} characters", f"A variable has at most {TEXT_LIMIT} characters."
    code = forbidden_character(value)
    return (f"contains the character {code}", "Remove it.") if code else None


def _undeclared(name: str, declared: frozenset[str]) -> str:
    names = ", ".join(shown_name(each) for each in sorted(declared)[:20])
    known = f"The variables are: {names}." if declared else "The manifest has no `vars`."
    return did_you_mean(name, sorted(declared), known)
