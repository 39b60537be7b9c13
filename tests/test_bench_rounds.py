# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's rounds: what is measured again, and which figures count."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "lib"))

from bench.processes import BARE, HAPROXY, OURS
from bench.rounds import PACED_PIECES, TRIES, Rounds, middle
from bench.scenarios import SCENARIOS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from bench.processes import Load, Workshop


class FakeWorkshop:
    """Measures nothing, and tells of others what it is told to tell."""

    def __init__(self, disturbances: list[float]) -> None:
        self.measured: list[str] = []
        self._disturbances = iter(disturbances)
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
        """Give nobody a core."""
        del target
        yield

    def measure(self, target: str, load: Load) -> dict[str, float]:
        """Note who was measured; the p99 is how many were."""
        del load
        self.measured.append(target)
        count = float(len(self.measured))
        return {"p99_us": count, "errors": 1.0, "con_lost": 0.0, "mismatches": 0.0}


def run(
    name: str, disturbances: list[float], monkeypatch: pytest.MonkeyPatch
) -> tuple[Rounds, FakeWorkshop]:
    """Run one round of one scenario; each of its tries takes one second."""
    clock = iter(range(1000))
    monkeypatch.setattr("bench.rounds.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(Rounds, "_highest_rate", lambda *_: 1000.0)
    workshop = FakeWorkshop(disturbances)
    done = Rounds(cast("Workshop", workshop), Plan([SCENARIOS[name]], rounds=1))
    done.run()
    return done, workshop


def test_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody disturbed is measured once."""
    done, workshop = run("keep-16", [0.0], monkeypatch)
    assert workshop.measured == [OURS, HAPROXY, BARE]
    assert (done.tries, done.comparisons) == (1, 1)


def test_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others disturbed is measured again, all of it, until they do not."""
    done, workshop = run("keep-16", [0.5, 0.01], monkeypatch)
    assert workshop.measured == [OURS, HAPROXY, BARE] * 2
    assert done.samples["keep-16"][OURS][0]["p99_us"] == 4.0


def test_wrong_replies_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong in a try that does not count is told all the same."""
    done, _ = run("keep-16", [0.5, 0.01], monkeypatch)
    assert done.samples["keep-16"][OURS][0]["errors"] == 2.0


def test_always_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least disturbed try counts, where all of them are."""
    done, _ = run("keep-16", [0.5, 0.2, 0.3], monkeypatch)
    assert (done.tries, done.comparisons) == (TRIES, 1)
    assert done.samples["keep-16"][OURS][0]["p99_us"] == 4.0


def test_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of a paced scenario is the median of its pieces; each has another one first."""
    done, workshop = run("half-keep-own", [0.0] * PACED_PIECES, monkeypatch)
    assert workshop.measured[:6] == [OURS, HAPROXY, BARE, HAPROXY, BARE, OURS]
    (sample,) = done.samples["half-keep-own"][OURS]
    assert sample["errors"] == PACED_PIECES


def test_middle() -> None:
    """Figures are medians, but what went wrong is never left out."""
    pieces = [{"rate": rate, "con_lost": lost} for rate, lost in ((1.0, 0.0), (9.0, 0.0), (2.0, 3))]
    assert middle(pieces) == {"rate": 2.0, "con_lost": 3.0}
