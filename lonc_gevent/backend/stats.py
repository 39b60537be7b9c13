# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters and histograms of a host: plain integers that status and metrics read on request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Sequence

DURATION_BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    45.0,
    60.0,
    75.0,
    90.0,
    120.0,
    180.0,
    300.0,
)
"""Upper bounds of the duration buckets, in seconds; one more bucket has none."""


def _no_counts() -> list[int]:
    return [0] * (len(DURATION_BOUNDS) + 1)


class Histogram(Struct):
    """Counts of observations by bucket, their sum, and the highest, in seconds.

    The reader of `highest` may set it to 0 to begin anew.
    """

    buckets: list[int] = field(default_factory=_no_counts)
    sum: float = 0.0
    highest: float = 0.0

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.buckets)

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        shortest = seconds <= DURATION_BOUNDS[0]  # the usual case of a wait in the queue
        self.buckets[0 if shortest else bisect_left(DURATION_BOUNDS, seconds)] += 1
        self.sum += seconds
        self.highest = max(self.highest, seconds)


def estimate(buckets: Sequence[int], share: float, highest: float = inf) -> float | None:
    """Estimate the quantile `share` of the observations, in seconds; None if there are none.

    Assumes an even distribution within a bucket, as Prometheus' histogram_quantile does. The
    estimate is not over the last bound, nor over `highest`, the highest observation.
    """
    rank = share * sum(buckets)
    if not rank:
        return None
    seen = 0
    lower = 0.0
    for bound, count in zip(DURATION_BOUNDS, buckets, strict=False):
        if count and seen + count >= rank:
            return min(lower + (bound - lower) * (rank - seen) / count, highest)
        seen += count
        lower = bound
    return min(DURATION_BOUNDS[-1], highest)


class HostStats(Struct):
    """Counters of one host since the daemon started, restarts in place included.

    abandoned                             requests dropped unsent since their clients had
                                          disconnected
    lost_by                               requests that got con_lost, by reason
    last_reply                            when lond's last whole reply arrived (monotonic seconds);
                                          0 if none has
    attempts                              attempts to make a lond connection by result: "ok" or the
                                          error's kind
    delayed_waiting, delayed_quarantined  numbers of delayed files now
    delayed_oldest                        when the oldest waiting one was last written (seconds
                                          since 1970)
    """

    ok: int = 0
    abandoned: int = 0
    lost_by: dict[str, int] = field(default_factory=dict)
    last_reply: float = 0.0
    duration: Histogram = field(default_factory=Histogram)
    queue_wait: Histogram = field(default_factory=Histogram)
    attempts: dict[str, int] = field(default_factory=dict)
    delayed_waiting: int = 0
    delayed_oldest: float = 0.0
    delayed_quarantined: int = 0
    delayed_replayed: int = 0

    def __post_init__(self) -> None:
        # Also called after msgspec has decoded dicts.
        self.lost_by, self.attempts = Counter(self.lost_by), Counter(self.attempts)

    @property
    def con_lost(self) -> int:
        """The number of requests that got con_lost."""
        return sum(self.lost_by.values())
