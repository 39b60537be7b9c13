# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures must be. A bound is kept by the median of the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import BARE, HAPROXY, HAPROXY_LINGER, TARGET_NAMES
from bench.rounds import Spread, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Samples
    from bench.solo import Result

CPU, RATE, P99 = "cpu_us", "rate", "p99_us"
FIGURES = {CPU: "CPU a request", RATE: "rate", P99: "p99"}


@dataclass(frozen=True)
class Bound:
    """Ours over another's figure: at most `limit`, or at least that much."""

    scenario: str
    figure: str
    other: str
    limit: float
    at_least: bool = False


@dataclass(frozen=True)
class SoloBound:
    """A figure of a check by itself: at most `limit`."""

    check: str
    figure: str
    limit: float
    words: str


@dataclass(frozen=True)
class Verdict:
    """A bound, what was found, and whether that will do."""

    text: str
    found: str
    good: bool


def _bounds() -> Iterator[Bound]:
    for clients in (16, 64, 1000):
        for other in (BARE, HAPROXY, HAPROXY_LINGER):
            yield Bound(f"conn-{clients}", CPU, other, 0.60)
            yield Bound(f"conn-{clients}", RATE, other, 1.6, at_least=True)
    for clients in (16, 64, 1000):
        yield Bound(f"keep-{clients}", CPU, BARE, 0.65)
    for mode in ("conn", "keep"):
        for pace in ("own", "same"):
            yield Bound(f"half-{mode}-{pace}", P99, HAPROXY, 1.5)
    for mode in ("conn", "keep"):
        yield Bound(f"{mode}-16-encrypted", CPU, f"{mode}-16", 1.25)
    # Longer queues take more memory than a CPU keeps at hand; what must not be is growth with n.
    yield Bound("queue-1000", CPU, "queue-100", 1.25)
    yield Bound("queue-10000", CPU, "queue-100", 1.5)


BOUNDS = tuple(_bounds())
SOLO_BOUNDS = (
    SoloBound("held", "max_ms", 20.0, "a small request beside 1 MB encrypted, ms at most"),
    SoloBound("idle", "resident_mb", 120.0, "1,000 hosts at rest, MB"),
    SoloBound("idle", "cpu_percent", 1.0, "1,000 hosts at rest, % of a core"),
)


def judge(samples: Samples, solo: dict[str, Result]) -> list[Verdict]:
    """Return a verdict for each bound of what was measured."""
    verdicts = []
    for bound in BOUNDS:
        found = compare(samples, bound.figure, bound.scenario, bound.other)
        if found is not None:
            verdicts.append(_verdict(bound, found))
    for check in SOLO_BOUNDS:
        if check.check in solo:
            figure = solo[check.check][check.figure]
            text = f"{check.check}: {check.words} <= {check.limit:g}"
            verdicts.append(Verdict(text, f"{figure:.2f}", figure <= check.limit))
    return verdicts


def _verdict(bound: Bound, found: Spread) -> Verdict:
    sign = ">=" if bound.at_least else "<="
    other = TARGET_NAMES.get(bound.other, bound.other)
    text = f"{bound.scenario}: {FIGURES[bound.figure]} over {other}'s {sign} {bound.limit:.2f}"
    good = found.median >= bound.limit if bound.at_least else found.median <= bound.limit
    return Verdict(text, f"{found.median:.2f} ({found.least:.2f}-{found.most:.2f})", good)
