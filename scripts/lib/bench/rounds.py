# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds: in each, every scenario on every target, one directly after the other.

Targets are compared within a round, in short pieces that take turns, so that other work of the
machine affects all of them; a piece with much of it is measured again (quiet.py).
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.processes import OURS
from bench.scenarios import MEGA, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.processes import Load, Workshop
    from bench.quiet import Quiet
    from bench.scenarios import Plan, Scenario

Samples = dict[str, dict[str, list[dict[str, float]]]]
"""By scenario and target: what each round gave. What a scenario is beside, another one on our own
target, is measured in its pieces, too, and has a place like a target's."""

WRONG = ("errors", "con_lost", "mismatches")
"""Counts of what must not be."""

MAXIMUM_CLIENTS = 64
"""As many as find out what the highest rate is."""

PIECES = 5
"""A round's figures are the medians of so many pieces. What disturbs the machine for some seconds
disturbs all targets alike, and a pause of a few ms does not decide a round's p99."""

PACED_TIMES = 2
"""Paced scenarios are so many times longer."""


class Spread(NamedTuple):
    """A median, and how far from it a round was."""

    median: float
    least: float
    most: float


def spread(figures: Iterable[float]) -> Spread:
    """Return the median and the spread of some figures."""
    sorted_figures = sorted(figures)
    return Spread(median(sorted_figures), sorted_figures[0], sorted_figures[-1])


def middle(pieces: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the medians of what some measurements gave, and the sums of what went wrong."""
    found = list(pieces)
    return {
        figure: sum(each[figure] for each in found)
        if figure in WRONG
        else median(each[figure] for each in found)
        for figure in found[0]
    }


def compare(samples: Samples, figure: str, name: str, other: str) -> Spread | None:
    """Return ours over another target's, or over our own in another scenario, round by round."""
    ours = samples.get(name, {}).get(OURS)
    theirs = samples.get(name, {}).get(other)
    if not ours or not theirs:
        return None
    pairs = list(zip(ours, theirs, strict=False))
    if not all(b[figure] for _, b in pairs):
        return None
    return spread(a[figure] / b[figure] for a, b in pairs)


class Rounds:
    """Measures the scenarios of a plan; `samples` fills up."""

    def __init__(self, workshop: Workshop, plan: Plan, quiet: Quiet) -> None:
        self.samples: Samples = {}
        self._quiet = quiet
        self._workshop = workshop
        self._plan = plan
        self._highest: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        """Run them all."""
        for number in range(self._plan.rounds):
            self._highest.clear()
            for scenario in self._plan.scenarios:
                progress(f"round {number + 1} of {self._plan.rounds}: {scenario.name}")
                found = [
                    self._compare(scenario, number + piece) for piece in range(_pieces(scenario))
                ]
                samples = self.samples.setdefault(scenario.name, {})
                for what in found[0]:
                    samples.setdefault(what, []).append(middle(each[what] for each in found))
        progress("")

    def _compare(self, scenario: Scenario, first: int) -> dict[str, dict[str, float]]:
        """Measure all targets, each time with another one first; again if that was disturbed."""
        runs = [(kind, kind, scenario) for kind in scenario.targets]
        if scenario.beside:
            runs.append((scenario.beside, OURS, SCENARIOS[scenario.beside]))
        first %= len(runs)
        runs = runs[first:] + runs[:first]
        # Starting them, and finding out what they reach, is not part of it.
        loads = {what: self._load(each, kind) for what, kind, each in runs}
        best, tries = self._quiet.measure(
            lambda: {what: self._measure(each, kind, loads[what]) for what, kind, each in runs}
        )
        # What went wrong in a try that does not count went wrong all the same.
        return {
            what: figures | {count: sum(each[what][count] for each in tries) for count in WRONG}
            for what, figures in best.items()
        }

    def _load(self, scenario: Scenario, kind: str) -> Load:
        self._workshop.target(kind, scenario.hosts, scenario.delay)
        load = scenario.load
        if not load.requests:
            load = replace(load, seconds=self._plan.seconds / _pieces(scenario))
        if scenario.pace:
            seconds = PACED_TIMES * load.seconds
            load = replace(load, rate=self._pace(scenario, kind), seconds=seconds)
        # Each client's first request does not count: with kept-open ones that is the connection.
        return replace(load, warm=load.clients)

    def _measure(self, scenario: Scenario, kind: str, load: Load) -> dict[str, float]:
        target = self._workshop.target(kind, scenario.hosts, scenario.delay)
        with self._workshop.apart(target) if scenario.pace else nullcontext():
            return self._workshop.measure(target, load)

    def _pace(self, scenario: Scenario, kind: str) -> float:
        kinds = (kind,) if scenario.pace == "own" else scenario.targets
        return min(self._highest_rate(scenario.load, each) for each in kinds) / 2

    def _highest_rate(self, load: Load, kind: str) -> float:
        """Find out how many requests a second a target answers; once a round."""
        key = (load.mode, kind)
        if key not in self._highest:
            target = self._workshop.target(kind)
            full = replace(load, clients=MAXIMUM_CLIENTS, seconds=self._plan.seconds / 2)
            with self._workshop.apart(target):
                best, _ = self._quiet.measure(lambda: self._workshop.load(target.sockets, full))
            self._highest[key] = best["rate"]
        return self._highest[key]


def _pieces(scenario: Scenario) -> int:
    """Return in how many pieces a scenario is measured: where there are enough requests for it."""
    return 1 if scenario.load.requests or scenario.load.bytes >= MEGA else PIECES


def progress(text: str) -> None:
    """Show on stderr what is being done, on one line; "" wipes it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def all_right(samples: Samples) -> list[str]:
    """Return a line for each scenario and target that gave errors, con_lost or wrong replies."""
    wrong: list[str] = []
    for name, targets in samples.items():
        for kind, found in targets.items():
            counts = {what: int(sum(sample[what] for sample in found)) for what in WRONG}
            if any(counts.values()):
                said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
                wrong.append(f"{name}, {kind}: {said}")
    return wrong
