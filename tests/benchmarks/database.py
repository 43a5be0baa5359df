"""What a commit to a state in PostgreSQL costs: `python -m tests.benchmarks.database`. Prints figures; asserts nothing.

The server is one of the suite's own, on this machine: its disk takes part in every commit, a network does not.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.state.address import DatabasePlace
from reconciler.state.open import database_store
from reconciler.state.store import LockHolder, Store, read
from reconciler.state.writer import Writer
from tests.state.conformance import adopted, commit, intended, submitted
from tests.state.postgres_server import PostgresServer
from tests.state.wire import Cost, Wire


def holder(number: int) -> LockHolder:
    return LockHolder(f"runner-{number}", "host", number, "2026-01-02T03:04:05Z", "apply")


class States:
    """New states on one server; what passes to and fro is counted."""

    def __init__(self, server: PostgresServer, wire: Wire, folder: Path) -> None:
        self._server, self._wire, self._folder = server, wire, folder
        self._number = 0

    def store(self, *, counted: bool = False, new: bool = True) -> Store:
        self._number += new
        url = self._server.url(f"bench-{self._number}", self._wire.port if counted else None)
        return database_store(DatabasePlace.parse(url), None, self._server.env, self._folder)

    def cost(self, work: Callable[[], object]) -> Cost:
        before = self._wire.cost
        work()
        return self._wire.cost - before


def count(states: States, servers: int) -> None:
    """Round trips and bytes of what a run asks for, with a fleet of so many servers."""
    names = [f"s{number:05}" for number in range(servers)]
    with Writer(states.store(counted=True), holder(0)) as writer:
        commit(writer, *(adopted(name, padding=400) for name in names))
    store = states.store(counted=True, new=False)

    def show(what: str, cost: Cost) -> None:
        print(f"  {what:<44} {cost.exchanges:>4} round trips {cost.bytes:>10,} bytes")

    show("read, for a plan", states.cost(lambda: read(store)))
    one: list[Writer] = []
    show("begin", states.cost(lambda: one.append(Writer(store, holder(1), alone=False))))
    with one[0] as first, Writer(states.store(new=False), holder(2), alone=False) as second:
        show(f"claim {servers} servers, nobody has any", states.cost(lambda: first.claim(names)))
        first.release_all_but(["s00000"])
        second.claim(["s00001"])
        # The first commits make the statement's plan, at both ends.
        for number in range(6):
            first.claim([f"more-{number}"])
            commit(first, intended(f"more-{number}"))
        first.claim(["alone"])
        show("commit, nobody else has written", states.cost(lambda: commit(first, intended("alone"))))
        commit(second, intended("s00001"))
        show("commit, another run has written once", states.cost(lambda: commit(first, submitted("alone"))))
        commit(second, submitted("s00001"))
        show("look at what others have written", states.cost(lambda: asyncio.run(first.catch_up())))


def measure(states: States, writers: int, commits: int) -> None:
    """The time of a commit where so many runs write at once, each for servers of its own."""
    store = states.store()
    seconds: list[float] = []
    begin = threading.Barrier(writers)

    def work(number: int) -> None:
        with Writer(store, holder(number), alone=False) as writer:
            writer.claim([f"s{number}-{turn}" for turn in range(commits)])
            begin.wait()
            for turn in range(commits):
                begun = time.perf_counter()
                commit(writer, intended(f"s{number}-{turn}"))
                seconds.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = writers * commits / (time.perf_counter() - begun)
    median, most = statistics.median(seconds), statistics.quantiles(seconds, n=100)[-1]
    print(
        f"  {writers} run{'s' if writers > 1 else ' '}: median {median * 1000:6.1f} ms, "
        f"99 of 100 within {most * 1000:6.1f} ms, {rate:5.0f} commits a second together"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=200, help="by each run")
    arguments = parser.parse_args()
    server = PostgresServer()
    try:
        server.create()
        with tempfile.TemporaryDirectory() as folder, Wire(server.port) as wire:
            states = States(server, wire, Path(folder))
            with server.connect() as connection:
                version = connection.execute("SHOW server_version").fetchone()
            print(f"PostgreSQL {version[0] if version else '?'}, Python {platform.python_version()}")
            print(platform.platform())
            for servers in (10, 2000):
                print(f"{servers} servers:")
                count(states, servers)
            print("each commit for itself:")
            for writers in (1, 8):
                measure(states, writers, arguments.commits)
    finally:
        server.close()


if __name__ == "__main__":
    main()
