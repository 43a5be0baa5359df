"""The command line. `main` answers `--version` before it imports anything."""

import sys


def main() -> None:
    """The entry point of the `imgctl` script."""
    if sys.argv[1:] == ["--version"]:
        from reconciler import __version__

        print(f"imgctl {__version__}")  # noqa: T201 - the shortest way to an answer
        return
    from reconciler.cli.app import run

    sys.exit(run(sys.argv[1:]))
