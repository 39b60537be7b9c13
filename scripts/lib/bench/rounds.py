# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds: in each, every scenario on every target, one directly after the other.

What is compared is compared within a round. Whatever else the machine does then, it does to all.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.processes import OURS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.processes import Load, Workshop
    from bench.scenarios import Plan, Scenario

Samples = dict[str, dict[str, list[dict[str, float]]]]
"""By scenario and target: what each round gave."""

MAXIMUM_CLIENTS = 64
"""As many as find out what the highest rate is."""

PACED_TIMES = 2
"""So many times longer are paced scenarios: of one second the slowest hundredth part are few."""


class Spread(NamedTuple):
    """A median, and how far from it a round was."""

    median: float
    least: float
    most: float


def spread(figures: Iterable[float]) -> Spread:
    """Return the median and the spread of some figures."""
    sorted_figures = sorted(figures)
    return Spread(median(sorted_figures), sorted_figures[0], sorted_figures[-1])


def compare(samples: Samples, figure: str, name: str, other: str) -> Spread | None:
    """Return ours over another target's, or over our own in another scenario, round by round."""
    ours = samples.get(name, {}).get(OURS)
    if other in TARGETS:
        theirs = samples.get(name, {}).get(other)
    else:
        theirs = samples.get(other, {}).get(OURS)
    if not ours or not theirs:
        return None
    pairs = list(zip(ours, theirs, strict=False))
    if not all(b[figure] for _, b in pairs):
        return None
    return spread(a[figure] / b[figure] for a, b in pairs)


class Rounds:
    """Measures the scenarios of a plan; `samples` fills up."""

    def __init__(self, workshop: Workshop, plan: Plan) -> None:
        self.samples: Samples = {}
        self._workshop = workshop
        self._plan = plan
        self._highest: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        """Run them all."""
        for number in range(self._plan.rounds):
            self._highest.clear()
            for scenario in self._plan.scenarios:
                progress(f"round {number + 1} of {self._plan.rounds}: {scenario.name}")
                # Each round another one goes first.
                count = len(scenario.targets)
                for turn in range(count):
                    self._measure(scenario, scenario.targets[(turn + number) % count])
        progress("")

    def _measure(self, scenario: Scenario, kind: str) -> None:
        target = self._workshop.target(kind, scenario.hosts, scenario.delay)
        load = scenario.load
        if not load.requests:
            load = replace(load, seconds=self._plan.seconds)
        if scenario.pace:
            seconds = PACED_TIMES * load.seconds
            load = replace(load, rate=self._pace(scenario, kind), seconds=seconds)
        # Each client's first request does not count: with kept-open ones that is the connection.
        load = replace(load, warm=load.clients)
        with self._workshop.apart(target) if scenario.pace else nullcontext():
            result = self._workshop.measure(target, load)
        self.samples.setdefault(scenario.name, {}).setdefault(kind, []).append(result)

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
                self._highest[key] = self._workshop.load(target.sockets, full)["rate"]
        return self._highest[key]


def progress(text: str) -> None:
    """Say on stderr what is going on, on one line; "" wipes it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def all_right(samples: Samples) -> list[str]:
    """Return a line for each scenario and target that gave errors, con_lost or wrong replies."""
    wrong: list[str] = []
    for name, targets in samples.items():
        for kind, found in targets.items():
            counts = {
                what: int(sum(sample[what] for sample in found))
                for what in ("errors", "con_lost", "mismatches")
            }
            if any(counts.values()):
                said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
                wrong.append(f"{name}, {kind}: {said}")
    return wrong
