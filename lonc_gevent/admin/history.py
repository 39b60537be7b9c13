# SPDX-License-Identifier: GPL-2.0-or-later
"""The last 15 minutes of a host in steps of ten seconds: what the charts and p50/p99 come from.

Only the steps in which something happened are kept, packed: a host at rest takes no memory, and the
busiest one some 22 KB. Counts are differences between two readings of the plain counters of
backend/stats.py, so nothing is counted twice and a request pays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec evaluates it
from operator import add, sub
from struct import Struct as Packed
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct, field

from lonc_gevent.backend.stats import DURATION_BOUNDS, estimate

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL: Final = 10.0
"""Seconds in a step."""

LENGTH: Final = 90
"""Steps kept: 15 minutes."""

RECENT: Final = 30
"""Steps of "the last minutes", for p50, p99 and lost requests: 5 minutes."""

MINUTE: Final = 6
"""Steps of the present rate."""

_BUCKETS: Final = Packed(f"{len(DURATION_BOUNDS) + 1}I")
_NONE: Final = (0,) * (len(DURATION_BOUNDS) + 1)


class Step(NamedTuple):
    """What happened in one step; `queue` is the length at its end, `highest` the latency."""

    number: int
    ok: int
    con_lost: int
    queue: int
    buckets: bytes
    highest: float


class Reading(NamedTuple):
    """The counters of a host at one moment, and the highest latency since the last step."""

    ok: int = 0
    con_lost: int = 0
    buckets: Sequence[int] = _NONE
    highest: float = 0.0


class Series(Struct):
    """The steps of one host, or of all together. Steps are numbered; numbers only grow."""

    last: Reading = Reading()
    steps: list[Step] = field(default_factory=list)
    _recent: Reading = Reading()
    _recent_at: int = -1

    def read(self, number: int, now: Reading, queue: int) -> Step | None:
        """Add step `number`, which ends now; return it, or None if nothing happened in it."""
        last = self.last
        self.forget(number)
        if now.ok == last.ok and now.con_lost == last.con_lost and not queue:
            return None
        buckets = tuple(now.buckets)
        step = Step(
            number,
            now.ok - last.ok,
            now.con_lost - last.con_lost,
            queue,
            _BUCKETS.pack(*map(sub, buckets, last.buckets)),
            now.highest,
        )
        self.last = Reading(now.ok, now.con_lost, buckets)
        self._recent_at = -1
        self.steps.append(step)
        return step

    def add(self, step: Step) -> None:
        """Add the step of one host to this series of all hosts."""
        self.forget(step.number)
        if self.steps and self.steps[-1].number == step.number:
            other = self.steps.pop()
            step = Step(
                step.number,
                step.ok + other.ok,
                step.con_lost + other.con_lost,
                step.queue + other.queue,
                _BUCKETS.pack(*map(add, unpack(step), unpack(other))),
                max(step.highest, other.highest),
            )
        self.steps.append(step)

    def forget(self, number: int) -> None:
        """Drop the steps that are older than LENGTH."""
        steps = self.steps
        while steps and steps[0].number <= number - LENGTH:
            del steps[0]

    def recent(self, number: int, now: Reading) -> Reading:
        """Return all but `ok` of the last RECENT steps and since."""
        if self._recent_at != number:
            self._recent_at = number
            lost, buckets, highest = 0, _NONE, 0.0
            for step in self.steps:
                if step.number > number - RECENT:
                    lost += step.con_lost
                    buckets = tuple(map(add, buckets, unpack(step)))
                    highest = max(highest, step.highest)
            self._recent = Reading(0, lost, buckets, highest)
        recent = self._recent
        since = map(sub, now.buckets, self.last.buckets)
        return Reading(
            0,
            recent.con_lost + now.con_lost - self.last.con_lost,
            tuple(map(add, recent.buckets, since)),
            max(recent.highest, now.highest),
        )

    def done(self, number: int, now: Reading) -> int:
        """Return the requests that ended in the last MINUTE steps and since."""
        ended = now.ok + now.con_lost - self.last.ok - self.last.con_lost
        for step in reversed(self.steps):
            if step.number <= number - MINUTE:
                break
            ended += step.ok + step.con_lost
        return ended

    def line(self, number: int, value: Callable[[Step], float], every: int = 1) -> list[float]:
        """Return a chart's values up to step `number`, oldest first; each is of `every` steps."""
        found: list[float] = [0] * (LENGTH // every)
        first = number - LENGTH + 1
        for step in self.steps:
            if first <= step.number <= number:
                found[(step.number - first) // every] += value(step)
        return found

    def quantiles(self, number: int, share: float) -> list[float | None]:
        """Return a chart's latencies in milliseconds, None for a step without replies."""
        found: list[float | None] = [None] * LENGTH
        first = number - LENGTH + 1
        for step in self.steps:
            if first <= step.number <= number:
                found[step.number - first] = milliseconds(
                    estimate(unpack(step), share, step.highest)
                )
        return found


def unpack(step: Step) -> tuple[int, ...]:
    """Return the counts of a step's latency buckets."""
    return _BUCKETS.unpack(step.buckets)


def milliseconds(seconds: float | None) -> float | None:
    """Return milliseconds with three digits."""
    return None if seconds is None else float(f"{seconds * 1000:.3g}")
