"""The command line. `main` answers `--version` before it imports anything."""

import sys


def main() -> None:
    """The entry point of the `imgctl` script."""
    if sys.argv[1:] == ["--version"]:
        from reconciler import __version__

        print(f"imgctl {__version__}")  # noqa: T201 - the shortest way to an answer
        return
    import gc

    from reconciler.cli.app import run

    # What commands make they keep: looking through it for garbage every 700 objects took a quarter of their time.
    gc.set_threshold(50_000)
    sys.exit(run(sys.argv[1:]))
