"""Options that several commands share, each group handed to the command as one value."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reconciler.cli.flags import ApplyFlags, LockFlags, ManifestFlags, PlanFlags, RequestFlags


class Seconds(click.FloatRange):
    """A finite number of seconds, 0 or more; `nan` would compare with nothing."""

    name = "seconds"

    def __init__(self, *, min_open: bool = False) -> None:
        super().__init__(min=0, max=1e9, min_open=min_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds

    def _describe_range(self) -> str:
        return "x>0" if self.min_open else "x>=0"


_Command = TypeVar("_Command", bound=Callable[..., Any])
_Options = tuple[Callable[[Any], Any], ...]


def _grouped(argument: str, flags: type, options: _Options) -> Callable[[_Command], _Command]:
    """Options whose values reach the command as one argument, a `flags`."""

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def grouping(*args: Any, **values: Any) -> Any:
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(flags) if field.name in values}
            return command(*args, **values, **{argument: flags(**fields)})

        wrapped: Any = grouping
        for option in reversed(options):
            wrapped = option(wrapped)
        result: _Command = wrapped
        return result

    return decorate


_SELECTORS: _Options = (
    click.option("--target", "targets", multiple=True, metavar="NAME", help="Only these servers; globs as in 'web-*'."),
    click.option("--exclude", "excludes", multiple=True, metavar="NAME", help="All but these servers; globs too."),
    click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only servers with these labels."),
)

manifest_options = _grouped(
    "source",
    ManifestFlags,
    (
        click.option(
            "-f",
            "--file",
            "file",
            type=click.Path(path_type=Path),
            default=Path("imgctl.yaml"),
            show_default=True,
            help="The manifest: a file, or a folder of them.",
        ),
        click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable of the manifest."),
        click.option(
            "--var-file",
            "variable_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Set variables from a YAML or JSON file.",
        ),
    ),
)

state_option = click.option(
    "--state",
    metavar="PLACE",
    envvar="IMGCTL_STATE",
    help="The state: a file or a URL, also IMGCTL_STATE.  [default: imgctl.state.json beside the manifest]",
)

lock_options = _grouped(
    "lock",
    LockFlags,
    (
        click.option(
            "--lock-timeout",
            type=Seconds(),
            default=0.0,
            show_default=True,
            metavar="SECONDS",
            help="Wait so long for a run that holds the state's lock.",
        ),
        click.option("--allow-network-state", is_flag=True, help="Trust a network file system's locks with the state."),
    ),
)

selector_options = _grouped("flags", PlanFlags, _SELECTORS)

planning_options = _grouped(
    "flags",
    PlanFlags,
    (
        *_SELECTORS,
        click.option("--replace", multiple=True, metavar="NAME", help="Build this server anew though nothing differs."),
        click.option("--allow", multiple=True, metavar="NAME", help="Let a gated change of this server start."),
        click.option("--allow-empty", is_flag=True, help="Let an empty image_servers forget every server."),
        click.option("--refresh-only", is_flag=True, help="Only record what the cloud shows."),
        click.option("--max-changes", type=click.IntRange(min=0), metavar="N", help="Gate everything above N changes."),
        click.option(
            "--max-prunes", type=click.IntRange(min=0), metavar="N", help="Gate prunes of more than N images."
        ),
        click.option(
            "--max-in-flight",
            type=click.IntRange(min=0),
            metavar="N",
            help="At most N builds at one time, 0 for no bound.  [default: 40]",
        ),
    ),
)

_TIMEOUT = click.option("--timeout", type=Seconds(min_open=True), metavar="SECONDS", help="Stop waiting then, exit 7.")

_QUIET_TIME = click.option(
    "--quiet-time",
    type=Seconds(),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="A request in doubt that left no trace for so long was not issued.",
)

wait_options = _grouped("how", ApplyFlags, (_TIMEOUT, _QUIET_TIME))

apply_options = _grouped(
    "how",
    ApplyFlags,
    (
        click.option("--auto-approve", is_flag=True, help="Do not ask; for CI, after a review."),
        click.option("--strict", is_flag=True, help="Start nothing if some change cannot start."),
        click.option("--no-wait", is_flag=True, help="Submit, record, leave; imgctl wait does the rest."),
        _TIMEOUT,
        click.option("--note", default="", metavar="TEXT", help="Recorded with each build, for the auditor."),
        _QUIET_TIME,
    ),
)

_NO_COLOUR = click.option("--no-color", is_flag=True, expose_value=False, help="No colours; NO_COLOR does the same.")

request_options = _grouped(
    "requests",
    RequestFlags,
    (
        click.option(
            "--max-requests",
            type=click.IntRange(min=1, max=256),
            default=16,
            show_default=True,
            metavar="N",
            help="At most N requests at one time.",
        ),
        _NO_COLOUR,
        click.option("-v", "--verbose", count=True, help="Say more; -vv also every request, with its id."),
    ),
)

# For commands that never ask the cloud.
output_options = _NO_COLOUR


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """`--format`, the first one being the default."""
    return click.option(
        "--format", "form", type=click.Choice(formats), default=formats[0], show_default=True, help="How to print it."
    )
