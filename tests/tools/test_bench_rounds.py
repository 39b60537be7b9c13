# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's rounds: what is measured again, and which figures count."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import chain, count, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

from bench.processes import BARE, HAPROXY, OURS
from bench.quiet import Quiet
from bench.rounds import PIECES, Rounds, compare, middle
from bench.scenarios import ENCRYPTED, SCENARIOS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.processes import Load, Workshop
    from bench.rounds import Samples


class FakeMeasurements:
    """Measures nothing; returns the given disturbances, and then none."""

    def __init__(self, disturbances: list[float]) -> None:
        self.measured: list[str] = []
        self.loads: list[Load] = []
        self._disturbances = chain(disturbances, repeat(0.0))
        self._others = 0.0
        self._reads = 0

    def target(self, kind: str, hosts: int = 1, delay: int = 0) -> str:
        """Return a target, which is its kind here."""
        del hosts, delay
        return kind

    def others_seconds(self) -> float:
        """Return what others have used; it grows between the two reads of each try."""
        self._reads += 1
        if self._reads % 2 == 0:
            self._others += next(self._disturbances)
        return self._others

    @contextmanager
    def apart(self, target: str) -> Iterator[None]:
        """Reserve no core."""
        del target
        yield

    def measure(self, target: str, load: Load) -> dict[str, float]:
        """Note who was measured; the p99 is how many were."""
        self.measured.append(target)
        self.loads.append(load)
        number = float(len(self.measured))
        return {"p99_us": number, "errors": 1.0, "con_lost": 0.0, "mismatches": 0.0}


class Done(NamedTuple):
    """A round, and what was done for it."""

    samples: Samples
    quiet: Quiet
    workshop: FakeMeasurements


def run(name: str, disturbances: list[float], monkeypatch: pytest.MonkeyPatch) -> Done:
    """Run one round of one scenario; each of its tries takes one second."""
    clock = count()
    fake = SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda _: None)
    monkeypatch.setattr("bench.quiet.time", fake)
    monkeypatch.setattr(Rounds, "_highest_rate", lambda *_: 1000.0)
    workshop = FakeMeasurements(disturbances)
    quiet = Quiet(workshop.others_seconds, patience=0.0)
    rounds = Rounds(cast("Workshop", workshop), Plan([SCENARIOS[name]], rounds=1), quiet)
    rounds.run()
    return Done(rounds.samples, quiet, workshop)


LARGE = "keep-16-1m"
"""Is measured in one piece."""


def test_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario without a disturbance is measured once."""
    done = run(LARGE, [], monkeypatch)
    assert done.workshop.measured == [OURS, HAPROXY, BARE]


def test_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others disturbed is measured again, all of it."""
    done = run(LARGE, [0.5, 0.01], monkeypatch)
    assert done.workshop.measured == [OURS, HAPROXY, BARE] * 2
    assert done.samples[LARGE][OURS][0]["p99_us"] == 4.0


def test_wrong_replies_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a try that does not count is reported all the same."""
    done = run(LARGE, [0.5, 0.01], monkeypatch)
    assert done.samples[LARGE][OURS][0]["errors"] == 2.0


@pytest.mark.parametrize("name", ["keep-16", "half-keep-own"])
def test_pieces(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A round is the median of its pieces; each of them has another one first."""
    done = run(name, [], monkeypatch)
    assert done.workshop.measured[:6] == [OURS, HAPROXY, BARE, HAPROXY, BARE, OURS]
    assert done.quiet.measured == PIECES
    (sample,) = done.samples[name][OURS]
    assert sample["errors"] == PIECES
    seconds = sum(load.seconds for load in done.workshop.loads) / len(done.samples[name])
    assert seconds == pytest.approx(2.0 if name.startswith("half") else 1.0)


def test_only_the_disturbed_piece_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others count as they are."""
    done = run("keep-16", [0.0, 0.5, 0.0], monkeypatch)
    assert (done.quiet.tries, done.quiet.measured) == (PIECES + 1, PIECES)
    assert len(done.workshop.measured) == 3 * (PIECES + 1)


def test_what_is_beside_another_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    """It and the other one take turns, so that both are disturbed alike."""
    done = run("keep-16-encrypted", [], monkeypatch)
    assert done.workshop.measured == [OURS, OURS] * PIECES
    prefixes = [load.prefix for load in done.workshop.loads]
    assert prefixes[:4] == [ENCRYPTED, "echo:", "echo:", ENCRYPTED]
    # The numbers of the measurements of each: 1, 4, 5, 8, 9 and 2, 3, 6, 7, 10.
    assert compare(done.samples, "p99_us", "keep-16-encrypted", "keep-16") == (5 / 6, 5 / 6, 5 / 6)


def test_middle() -> None:
    """Figures are medians, but what went wrong is never left out."""
    pieces = [{"rate": rate, "con_lost": lost} for rate, lost in ((1.0, 0.0), (9.0, 0.0), (2.0, 3))]
    assert middle(pieces) == {"rate": 2.0, "con_lost": 3.0}
