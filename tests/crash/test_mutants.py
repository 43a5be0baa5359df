"""Each promise, broken on purpose: the harness must notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.disk import images, recover
from tests.crash.harness import QUIET_TIME, SCENES, Children, Held, Pool, Violation, apply_slowly, new_fleet
from tests.crash.mutants import MUTANTS

# Long enough to be left to the sweeps.
pytestmark = pytest.mark.sweep

_Check = Callable[[Path, Children, str], None]


def _kill_while(held: Held) -> _Check:
    def check(folder: Path, children: Children, mutant: str) -> None:
        held.visit(folder, children, mutant)

    return check


def _kill_at(boundary: str) -> _Check:
    def check(folder: Path, children: Children, mutant: str) -> None:
        SCENES["new"].visit(folder, children, boundary, mutant, linger=0.5)

    return check


def _power_loss_after_the_first_request(folder: Path, children: Children, mutant: str) -> None:
    found = images(SCENES["new"], folder / "first", children, mutant=mutant)
    for number, image in enumerate(found):
        if image.world.ledger.received == 1:
            recover(SCENES["new"], folder / str(number), children, image, mutant)


def _run_through(folder: Path, children: Children, mutant: str) -> None:
    SCENES["new"].boundaries(folder, children, mutant)


def _lose_an_answer(folder: Path, children: Children, mutant: str) -> None:
    """The first answer comes too late for the client; the request takes effect all the same."""
    with new_fleet(folder, children, faults=("latency=0.5@recreate-image*1",)) as fleet:
        fleet.mutant = mutant
        fleet.declare("1")
        ended = fleet.run("apply", "--auto-approve", "--quiet-time", str(2 * QUIET_TIME), read_timeout=0.2)
        if ended.status != 0:
            raise Violation(f"the run ended with {ended.status}\n{ended.output}")
        fleet.agree()


def _damage_the_journal(folder: Path, children: Children, mutant: str) -> None:
    """A byte in the middle of the journal changes: nothing may go on as if it had not."""
    with new_fleet(folder, children) as fleet:
        fleet.mutant = mutant
        fleet.declare("1")
        fleet.run(*apply_slowly(), kill="after:sync:journal:s4:2")
        journal = fleet.work / "imgctl.state.json.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        lines[5] = lines[5].replace(b'"running"', b'"rumming"')
        journal.write_bytes(b"".join(lines))
        ended = fleet.run("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME))
        if ended.status != 1 or "damaged" not in ended.output or fleet.ledger["received"] != 4:
            raise Violation(f"damage was not refused: the run ended with {ended.status}\n{ended.output}")


# What shows each mutant, and what is then said of it: a build that no record knows, above all.
CHECKS: dict[str, tuple[_Check, str]] = {
    "no_intent": (_kill_while(Held(1, "after")), "not recorded here"),
    "intent_not_fsynced": (_power_loss_after_the_first_request, "not recorded here"),
    "post_before_fsync": (_kill_at("before:write:journal:s1:1"), "not recorded here"),
    "no_folder_fsync": (_power_loss_after_the_first_request, "not recorded here"),
    "job_id_not_written": (_kill_while(Held(2, "look")), "1 outcomes are unknown, of 0 requests"),
    "resend_on_read_timeout": (_lose_an_answer, "built .* expected"),
    "unlock_before_fold": (_run_through, "nobody holds the lock"),
    "damage_ignored": (_damage_the_journal, "damage was not refused"),
    "lock_file_removed": (_run_through, "the folder holds|the lock file was removed"),
}


def test_every_mutant_has_its_check() -> None:
    assert CHECKS.keys() == MUTANTS.keys()


def test_the_checks_find_nothing_in_imgctl_as_it_is(pool: Pool, tmp_path: Path) -> None:
    checks = list(dict.fromkeys(check for check, _ in CHECKS.values()))
    pool.visit(checks, lambda folder, children, check: check(folder, children, ""), tmp_path)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_noticed(mutant: str, pool: Pool, tmp_path: Path) -> None:
    check, said = CHECKS[mutant]
    with pool.children() as children, pytest.raises(Violation, match=said):
        check(tmp_path, children, mutant)
