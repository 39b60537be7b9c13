# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark on a machine that others use, too: which try counts, and how long it waits."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

from bench.quiet import DISTURBED, PAUSE, TRIES, Quiet


class Machine:
    """Others use some share of a core while each second passes; each try takes a second."""

    def __init__(self, *shares: float) -> None:
        self.shares = shares
        self.now = 0.0
        self.slept = 0.0
        self._used = 0.0
        self._numbers = count()

    def others(self) -> float:
        """Return what they have used."""
        return self._used

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass in which the machine is idle."""
        self.now += seconds
        self.slept += seconds

    def measure(self, patience: float) -> tuple[Quiet, int, list[int]]:
        """Measure the number of the try; return which one counts, and all."""
        quiet = Quiet(self.others, patience)
        return quiet, *quiet.measure(self.work)

    def work(self) -> int:
        """Take a second; return how many have passed so."""
        number = next(self._numbers)
        self.now += 1
        self._used += self.shares[min(number, len(self.shares) - 1)]
        return number


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    """Give one with these shares."""
    made = Machine(*request.param)
    clock = SimpleNamespace(monotonic=made.monotonic, sleep=made.sleep)
    monkeypatch.setattr("bench.quiet.time", clock)
    return made


LITTLE, MUCH = DISTURBED / 2, DISTURBED * 2


@pytest.mark.parametrize("machine", [(0.0,), (LITTLE,)], indirect=True)
def test_what_is_not_disturbed_is_measured_once(machine: Machine) -> None:
    """And nothing is waited for."""
    quiet, best, tries = machine.measure(patience=100.0)
    assert (best, tries) == (0, [0])
    assert (quiet.measured, quiet.tries, quiet.waited) == (1, 1, 0.0)


@pytest.mark.parametrize("machine", [(MUCH, LITTLE)], indirect=True)
def test_what_is_disturbed_is_measured_again_at_once(machine: Machine) -> None:
    """The undisturbed try counts."""
    quiet, best, tries = machine.measure(patience=0.0)
    assert (best, tries) == (1, [0, 1])
    assert (quiet.measured, quiet.tries, machine.slept) == (1, 2, 0.0)


@pytest.mark.parametrize("machine", [(3 * MUCH, MUCH, 2 * MUCH)], indirect=True)
def test_without_patience_the_least_disturbed_counts(machine: Machine) -> None:
    """After three tries it goes on with what it has."""
    _, best, tries = machine.measure(patience=0.0)
    assert (best, tries) == (1, [0, 1, 2])
    assert machine.slept == 0.0


@pytest.mark.parametrize("machine", [(MUCH,) * (TRIES + 3) + (LITTLE,)], indirect=True)
def test_measurement_waits_until_the_machine_is_idle(machine: Machine) -> None:
    """As long as it takes, if there is so much patience."""
    quiet, best, tries = machine.measure(patience=100.0)
    assert best == len(tries) - 1 == TRIES + 3
    assert machine.slept == 4 * PAUSE
    assert quiet.waited == machine.slept + 4


@pytest.mark.parametrize("machine", [(MUCH,)], indirect=True)
def test_patience_ends(machine: Machine) -> None:
    """It is for all that is measured together: what comes later has the rest, or none."""
    quiet, _, _ = machine.measure(patience=10.0)
    assert 10.0 <= quiet.waited < 10.0 + PAUSE + 1
    slept, waited = machine.slept, quiet.waited
    quiet.measure(machine.work)
    assert (machine.slept, quiet.waited) == (slept, waited)
