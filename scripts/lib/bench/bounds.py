# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures must be. A bound is kept by the median of the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import BARE, HAPROXY, TARGET_NAMES
from bench.rounds import Spread, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Samples
    from bench.solo import Result

CPU, P50, P99 = "cpu_us", "p50_us", "p99_us"
FIGURES = {CPU: "CPU a request", P50: "p50", P99: "p99"}


@dataclass(frozen=True)
class Bound:
    """Our figure over another's: at most `limit`."""

    scenario: str
    figure: str
    other: str
    limit: float


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
    yield Bound("conn-1", CPU, HAPROXY, 0.75)
    yield Bound("keep-1", CPU, BARE, 0.75)
    for mode in ("conn", "keep"):
        yield Bound(f"{mode}-1", P50, HAPROXY, 1.0)
        yield Bound(f"{mode}-16-1m", CPU, BARE, 1.0)
    for clients in (16, 64, 1000):
        yield Bound(f"conn-{clients}", CPU, HAPROXY, 0.65)
        yield Bound(f"conn-{clients}", CPU, BARE, 0.62)
        yield Bound(f"keep-{clients}", CPU, BARE, 0.75)
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
    other = TARGET_NAMES.get(bound.other, bound.other)
    text = f"{bound.scenario}: {FIGURES[bound.figure]} over {other}'s <= {bound.limit:.2f}"
    spread = f"{found.median:.2f} ({found.least:.2f}-{found.most:.2f})"
    return Verdict(text, spread, found.median <= bound.limit)
