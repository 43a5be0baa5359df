"""imgctl in this process: `python -m tests.benchmarks.counted FIGURES [--virtual] ARGUMENT …`.

Writes to the file FIGURES how often it synced something to disk. With `--virtual` hours of waiting pass at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from reconciler.cli.app import run


def main() -> None:
    figures, *arguments = sys.argv[1:]
    sync, syncs = os.fsync, 0

    def counting(descriptor: Any) -> None:
        nonlocal syncs
        syncs += 1
        sync(descriptor)

    os.fsync = counting  # type: ignore[assignment]
    with contextlib.ExitStack() as stack:
        if arguments[0] == "--virtual":
            import pytest

            from tests.virtual_time import virtual_time

            arguments.pop(0)
            stack.enter_context(virtual_time(stack.enter_context(pytest.MonkeyPatch.context())))
        code = run(arguments)
    Path(figures).write_text(json.dumps({"syncs": syncs}), encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
