"""What is said of the requests themselves: where they take long, why; with -vv every one of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from reconciler.cli.console import Console
from reconciler.cloud.sending import Exchange
from reconciler.errors import CloudError
from reconciler.render.terminal import duration

# What takes less than this, in seconds, goes by unnoticed.
_WORTH_SAYING = 5.0


def brake_log(console: Console) -> Callable[[float], None]:
    """Says for how many seconds nothing is sent, since the cloud asks for that."""

    def log(seconds: float) -> None:
        if seconds >= _WORTH_SAYING:
            console.say(f"the cloud asks to slow down: nothing is sent for {duration(seconds)}")

    return log


def repeat_log(console: Console) -> Callable[[CloudError, float, float], None]:
    """Says why a request takes long that is sent again; once for all that fail at the same time."""
    said = -math.inf

    def log(error: CloudError, took: float, delay: float) -> None:
        nonlocal said
        now = time.monotonic()
        if took + delay < _WORTH_SAYING or now - said < _WORTH_SAYING:
            return
        said = now
        console.say(f"{error.summary}; trying again{f' in {duration(delay)}' if delay >= 1 else ''}")

    return log


def exchange_log(console: Console) -> Callable[[Exchange], None]:
    """Says every request on stderr: what was asked, what came back, the id that support asks for."""

    def log(one: Exchange) -> None:
        status = one.status or one.problem
        trace = f" request id {one.request_id}" if one.request_id else ""
        again = f" (attempt {one.attempt})" if one.attempt > 1 else ""
        console.say(f"{one.method} {one.path} -> {status} in {one.seconds * 1000:.0f} ms{trace}{again}")

    return log
