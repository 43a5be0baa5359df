"""`imgctl simulate`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.options import Seconds, output_options
from reconciler.errors import UsageError
from reconciler.render.terminal import plural


@click.command(name="simulate")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--servers", type=click.IntRange(min=0), default=3, show_default=True, metavar="K", help="Image servers.")
@click.option(
    "--build-time",
    type=Seconds(),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a build takes.",
)
@click.option("--world", type=click.Path(path_type=Path), help="Keep the world in this file, and go on from it.")
@click.option("--env-file", type=click.Path(path_type=Path), help="Write the variables that point imgctl here.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=RATE[:SECONDS]",
    help="Misbehave, as in throttle=0.1. An unknown KIND lists them all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of server ids and faults.")
@output_options
@click.pass_obj
def command(
    console: Console,
    *,
    port: int,
    servers: int,
    build_time: float,
    world: Path | None,
    env_file: Path | None,
    faults: tuple[str, ...],
    seed: int,
) -> int:
    """Serve a simulator of the cloud on 127.0.0.1 until interrupted. Nothing leaves this machine.

    \b
    Example:
      imgctl simulate --port 8080 --servers 20 --build-time 5 --env-file sim.env
      set -a; . ./sim.env; set +a; imgctl init --from-cloud
    """
    from reconciler.simulator import Faults, SimulatorError, World, serve

    try:
        behaviour = Faults(faults, seed=seed)
        if world is None:
            simulated = World.create(servers, build_time, seed=seed)
        else:
            simulated = World.open(world, servers, build_time, seed=seed)

        def listening(url: str) -> None:
            console.result(f"listening on {url}\n")
            console.say(f"{plural(len(simulated.servers), 'image server')}, {build_time:g} s a build; Ctrl-C ends it")
            if env_file is not None:
                # A shell looks for a bare name in PATH only.
                path = env_file if env_file.parent != Path() else f"./{env_file}"
                console.say(f"set -a; . {shlex.quote(str(path))}; set +a  points imgctl here")

        serve(simulated, port, faults=behaviour, env_file=env_file, on_listening=listening)
    except SimulatorError as error:
        summary, _, details = str(error).partition("\n")
        raise UsageError(summary, hint=details) from error
    return 0
