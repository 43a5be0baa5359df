"""How an apply or a wait tells what it does: in lines for people, or as JSON lines for programs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import click

from reconciler.cli.console import Console
from reconciler.model.outcome import Outcome
from reconciler.model.plan import Plan
from reconciler.model.progress import Progress

_Command = TypeVar("_Command", bound=Callable[..., Any])


def report_option(command: _Command) -> _Command:
    """`--format text|ndjson`: `form` of the command."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(("text", "ndjson")),
        default="text",
        show_default=True,
        help="Lines for people, or a JSON object a line.",
    )(command)


class Report(Protocol):
    """What is told on the way. None of it is needed to know what was done, and none of it raises in mid-run."""

    def plan(self, plan: Plan, heading: str = "") -> None:
        """What is about to be done."""
        ...

    def nothing(self, why: str) -> None:
        """There is nothing to do."""
        ...

    def begins(self) -> None:
        """From here on things happen."""
        ...

    def happened(self, progress: Progress) -> None:
        """One step."""
        ...

    def ended(self, outcome: Outcome, plan: Plan) -> None:
        """What became of the plan."""
        ...


def report_as(form: str, console: Console, *, verbose: bool) -> Report:
    """The report that `--format` asks for."""
    return JsonReport(console) if form == "ndjson" else TextReport(console, verbose=verbose)


class TextReport:
    """Lines for people."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose

    def plan(self, plan: Plan, heading: str = "") -> None:
        """See Report."""
        from reconciler.render.plan_text import render_plan

        if heading:
            self._console.result(f"{heading}\n")
        self._console.result(render_plan(plan, self._console.style, verbose=self._verbose))

    def nothing(self, why: str) -> None:
        """See Report."""
        self._console.result(f"{why}\n")

    def begins(self) -> None:
        """See Report."""
        self._console.progress("")

    def happened(self, progress: Progress) -> None:
        """See Report."""
        from reconciler.render.progress import render_progress

        self._console.progress(render_progress(progress, self._console.style))

    def ended(self, outcome: Outcome, plan: Plan) -> None:
        """See Report."""
        from reconciler.render.progress import render_outcome

        del plan
        said = render_outcome(outcome, self._console.style, verbose=self._verbose)
        self._console.progress("\n" + said.rstrip("\n"))


class JsonReport:
    """JSON lines for programs, on standard output; what else is to be said is on standard error, as ever."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def plan(self, plan: Plan, heading: str = "") -> None:
        """See Report."""
        from reconciler.render.events_json import plan_event

        if heading:
            self._console.say(heading)
        self._console.result(plan_event(plan, datetime.now(UTC)) + "\n")

    def nothing(self, why: str) -> None:
        """See Report."""
        from reconciler.render.events_json import nothing_event

        self._console.result(nothing_event(why, datetime.now(UTC)) + "\n")

    def begins(self) -> None:
        """See Report."""

    def happened(self, progress: Progress) -> None:
        """See Report."""
        from reconciler.render.events_json import progress_event

        self._console.progress(progress_event(progress, datetime.now(UTC)))

    def ended(self, outcome: Outcome, plan: Plan) -> None:
        """See Report."""
        from reconciler.render.events_json import outcome_event

        self._console.progress(outcome_event(outcome, plan, datetime.now(UTC)))
