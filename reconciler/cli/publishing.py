"""Writing a plan in one format or several: to standard output, and into files for a workflow's next step."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.private_file import check_replaceable, write_private
from reconciler.errors import UsageError
from reconciler.model.plan import Plan
from reconciler.model.review import Review
from reconciler.render.terminal import Style

PLAN_FORMATS = ("text", "json", "markdown", "gitlab", "github")
_STDOUT = "-"
_MANIFEST = Path("imgctl.yaml")
_LEAST, _MOST = 6_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Output:
    """One format of a plan, and the file that it goes into; None for standard output."""

    form: str
    file: Path | None = None


def _parsed(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Output, ...]:
    """`FORMAT` or `FORMAT=FILE` each. Raises click.BadParameter."""
    outputs = []
    for value in values:
        form, separator, file = value.partition("=")
        if form not in PLAN_FORMATS:
            raise click.BadParameter(f"{form!r} is not one of {', '.join(PLAN_FORMATS)}.", ctx, param)
        if separator and not file:
            raise click.BadParameter(f"{value!r} names no file.", ctx, param)
        outputs.append(Output(form, Path(file) if separator and file != _STDOUT else None))
    return tuple(outputs)


_Command = TypeVar("_Command", bound=Callable[..., Any])


def publishing_options(command: _Command) -> _Command:
    """`--format`, which may be repeated, and `--max-chars`: `outputs` and `max_chars` of the command."""
    command = click.option(
        "--max-chars",
        type=click.IntRange(min=_LEAST, max=_MOST),
        default=60_000,
        show_default=True,
        metavar="N",
        help="How long the Markdown may be; GitHub takes 65536 characters.",
    )(command)
    return click.option(
        "--format",
        "outputs",
        callback=_parsed,
        multiple=True,
        default=("text",),
        show_default=True,
        metavar="FORMAT[=FILE]",
        help=f"How to print it, or what to write into a file; may be repeated. One of {', '.join(PLAN_FORMATS)}.",
    )(command)


def check_outputs(outputs: Sequence[Output], inputs: Iterable[Path]) -> None:
    """Raise UsageError for outputs that cannot all be written; none may replace one of `inputs`."""
    if sum(output.file is None for output in outputs) > 1:
        raise UsageError(
            "two formats would go to standard output",
            hint="Write all but one into a file: --format markdown=plan.md --format json=plan.json",
        )
    if all(output.file is None for output in outputs):
        return
    taken = {_place(file): "imgctl keeps something else there" for file in inputs}
    for output in outputs:
        if output.file is None:
            continue
        place = _place(output.file)
        if place in taken:
            raise UsageError(
                f"--format {output.form} cannot be written into {output.file}: {taken[place]}",
                hint="Name another file.",
            )
        taken[place] = "another format goes there"
        check_replaceable(output.file)


def files_of(inputs: Inputs, source: ManifestFlags) -> Iterator[Path]:
    """The files that a command reads, and those of its state: what it writes must not replace them."""
    yield from map(Path, inputs.manifest.files)
    yield from source.variable_files
    # Of a state elsewhere too: where its emergencies and a simulated world are kept.
    state = inputs.local_path
    yield state
    yield from (state.with_name(state.name + ending) for ending in (".journal", ".lock", ".emergency", ".world.json"))


def publish(
    console: Console,
    plan: Plan,
    review: Review,
    outputs: Sequence[Output],
    *,
    max_chars: int,
    verbose: bool,
    instead: Mapping[str, Callable[[Style], str]] = MappingProxyType({}),
) -> None:
    """Write the plan in each format; where all of them go into files, it is printed as text too. Raises UsageError.

    `instead` gives the text of some formats where more than the plan is to be told.
    """

    def rendered(form: str, style: Style) -> str:
        if form in instead:
            return instead[form](style)
        return _rendered(plan, review, form, style, max_chars=max_chars, verbose=verbose)

    # All are rendered before anything is written: there are all of them or none.
    texts = [(output, rendered(output.form, Style())) for output in outputs if output.file is not None]
    form = next((output.form for output in outputs if output.file is None), "text")
    printed = rendered(form, console.style)
    for output, text in texts:
        if output.file is not None:
            write_private(output.file, text)
    console.result(printed)


def review_of(source: ManifestFlags, state: str | None, flags: PlanFlags, command: Sequence[str] = ()) -> Review:
    """Where a plan of these flags belongs; `command` applies it, by default `imgctl apply` with the same flags."""
    here = Path.cwd()
    top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    manifest = Path(os.path.abspath(source.file))  # noqa: PTH100 - `resolve` would follow links out of the repository
    folder = manifest.parent if manifest.name == _MANIFEST.name else manifest
    root = folder.relative_to(top).as_posix() if folder.is_relative_to(top) else source.file.as_posix()
    return Review(
        root="" if root == "." else root,
        folder="" if here == top else here.relative_to(top).as_posix(),
        selectors=tuple(_selectors(flags)),
        command=shlex.join(command or ("imgctl", "apply", *_flags(source, state, flags))),
    )


def typed_state(state: str | None) -> str | None:
    """`--state`, if it was typed: what the environment says it will say to an apply, too."""
    source = click.get_current_context().get_parameter_source("state")
    return state if source is ParameterSource.COMMANDLINE else None


def _rendered(plan: Plan, review: Review, form: str, style: Style, *, max_chars: int, verbose: bool) -> str:
    """The plan in one format. What one needs is imported for that one only."""
    match form:
        case "json":
            from reconciler.render.plan_json import render_plan_json

            return render_plan_json(plan)
        case "markdown":
            from reconciler.render.plan_markdown import render_plan_markdown

            return render_plan_markdown(plan, review, max_characters=max_chars)
        case "gitlab":
            from reconciler.render.plan_gitlab import render_plan_gitlab

            return render_plan_gitlab(plan)
        case "github":
            from reconciler.render.plan_annotations import render_plan_github

            return render_plan_github(plan, review)
        case _:
            from reconciler.render.plan_text import render_plan

            return render_plan(plan, style, verbose=verbose)


def _selectors(flags: PlanFlags) -> Iterator[str]:
    for option, values in (("--target", flags.targets), ("--exclude", flags.excludes), ("-l", flags.labels)):
        for value in values:
            yield from (option, value)


def _flags(source: ManifestFlags, state: str | None, flags: PlanFlags) -> Iterator[str]:
    """The command line that plans the same again."""
    if source.file != _MANIFEST:
        yield from ("-f", str(source.file))
    if state:
        yield from ("--state", state)
    for value in source.variables:
        yield from ("--var", value)
    for file in source.variable_files:
        yield from ("--var-file", str(file))
    yield from _selectors(flags)
    for field in fields(flags):
        value = getattr(flags, field.name)
        option = f"--{field.name.replace('_', '-')}"
        if field.name in ("targets", "excludes", "labels") or value is None or value is False:
            continue
        if value is True:
            yield option
        elif isinstance(value, tuple):
            for one in value:
                yield from (option, one)
        else:
            yield from (option, str(value))


def _place(file: Path) -> Path:
    """A file by whatever name it is called."""
    return file.parent.resolve() / file.name
