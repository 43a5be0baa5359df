"""The table of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.console import Console
from reconciler.errors import ImgctlError

# Help texts stand here so that `imgctl --help` imports no command.
COMMANDS = {
    "init": "Write a manifest: a starter, or of the servers that exist.",
    "validate": "Check a manifest; needs no credentials and no state.",
    "plan": "Show what apply would do.",
    "apply": "Build what the manifest declares and record it.",
    "wait": "Wait for the builds in flight and record their images; starts nothing.",
    "status": "Show the fleet: what is declared, held, in flight.",
    "show": "Show everything recorded of one image server.",
    "history": "List every build ever recorded, for the auditor.",
    "output": "Print the held image ids for other tools.",
    "import": "Hand over a build or an image that imgctl did not record.",
    "state": "Look at the records, correct them, keep them elsewhere.",
    "simulate": "Serve a simulator of the cloud on this machine.",
    "doctor": "Look at credentials, permissions, network and quota; say what is wrong.",
}

_EPILOG = """\
\b
Start here:
  imgctl init --from-cloud      a manifest of the image servers that exist
  imgctl plan                   what would be built, and why
  imgctl apply                  build it

\b
Exit codes: 0 done, 1 error, 2 changes (plan --detailed-exitcode),
3 not everything was done, 4 stale plan, 5 locked, 6 not approved or gated,
7 timeout, 130 interrupted.
"""


_ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _Commands(click.Group):
    """Commands by name, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        # `import` is a word of the language.
        module = "import_" if cmd_name == "import" else cmd_name
        command: click.Command = importlib.import_module(f"reconciler.cli.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else f" The commands are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=_Commands,
    name="imgctl",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.option("--version", is_flag=True, help="Print the version and exit.")
@click.pass_context
def imgctl(ctx: click.Context, *, version: bool) -> None:
    """Keep the private images of Huawei Cloud Workspace Application Streaming as a manifest declares them."""
    if version:
        from reconciler import __version__

        click.echo(f"imgctl {__version__}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit()


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code. Never raises, never shows a traceback unless it is asked for."""
    console = Console.for_process(arguments, os.environ)
    # Until a run has its own way to stop, the others mean what Ctrl-C means.
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ENDING_SIGNALS}
    try:
        result: Any = imgctl.main(args=list(arguments), prog_name="imgctl", standalone_mode=False, obj=console)
    except ImgctlError as error:
        console.error(error)
        return error.exit_code
    except click.ClickException as error:
        return _usage(console, error)
    except (KeyboardInterrupt, click.Abort):
        console.say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader went away, as `| head` does.
        return 0
    except OSError as error:
        console.say(f"{console.error_style('error:', 'red', 'bold')} {error.strerror or error}")
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a person gets a sentence
        return _internal(console, error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _close_output()
    return result if isinstance(result, int) else 0


def _close_output() -> None:
    """Flush both streams; where one takes nothing any more, the interpreter must not complain about that at exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage(console: Console, error: click.ClickException) -> int:
    """A command line that cannot be: exit 1, since 2 means "there are changes"."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    console.say(f"{console.error_style('error:', 'red', 'bold')} {error.format_message()}")
    if context is not None:
        console.say(f"  Try: {context.command_path} --help")
    return 1


def _internal(console: Console, error: Exception) -> int:
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    console.say(
        f"{console.error_style('error:', 'red', 'bold')} internal error at {where}: {type(error).__name__}: {error}"
    )
    console.say("  This is a fault of imgctl. What was recorded is safe; IMGCTL_TRACEBACK=1 shows more for a report.")
    if os.environ.get("IMGCTL_TRACEBACK"):
        console.say("".join(traceback.format_exception(error)))
    return 1
