# SPDX-License-Identifier: GPL-2.0-or-later
"""The periodic greenlet, as PgBouncer's janitor: everything that is driven by time.

A wait notes its deadline where it begins, and the janitor enforces the deadlines every tick: it
prunes idle connections, reconnects, ends what has waited too long, and starts the scans of the
delayed directory. A pool without a deadline is not visited every tick. It is in a heap with the
time of its next pruning or probe. So an idle host costs nothing, and an idle daemon sleeps.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import gevent
import setproctitle

from lonc_gevent.backend.resolver import resolver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gevent.event import Event
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.delayed.replayer import Replayer

MAX_TICK = 0.1
MIN_TICK = 0.01
"""Seconds; the tick is a tenth of the shortest limit within these."""

TITLE_INTERVAL = 1.0
"""Seconds between two updates of the process title."""

WARM_UP_BURST = 20
"""Hosts whose first connection is begun in one tick, after the start."""

CHECK_INTERVAL = 2.0
"""Seconds between two checks of the socket files."""

FOLLOW_BURST = 20
"""Hosts whose names are looked up again in one tick."""


class Janitor:
    """Runs the maintenance of pools and of the delayed directory. `run` is its greenlet.

    wake    set by `schedule`, and by the replayer when a scan of the delayed directory becomes due
            earlier
    checks  called every CHECK_INTERVAL
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        replayer: Replayer,
        logger: FilteringBoundLogger,
        *,
        tick: float,
        wake: Event,
    ) -> None:
        self.tick = tick
        self._pools = pools
        self._replayer = replayer
        self.log = logger
        self._wake = wake
        self._active: set[Pool] = set()
        self._due: list[tuple[float, int, Pool]] = []
        self._in_heap: dict[Pool, float] = {}
        self._ties = count()
        self._cold: list[Pool] = []
        self._to_follow: list[Pool] = []
        self._follow_due = self._resolve_interval = inf
        self.checks: list[Callable[[], None]] = []
        self._checks_due = 0.0
        self._title = ""
        self._title_due = 0.0

    def __repr__(self) -> str:
        return f"<Janitor {len(self._active)} of {len(self._pools)} pools active>"

    def schedule(self, pool: Pool) -> None:
        """Run the pool's maintenance every tick until it returns True."""
        self._active.add(pool)
        self._wake.set()

    def warm_up(self, pools: Iterable[Pool]) -> None:
        """Open one connection to each of these hosts, WARM_UP_BURST every tick."""
        self._cold.extend(pools)
        self._cold.reverse()
        self._wake.set()

    def follow_names(self, interval: float) -> None:
        """Look up the names of all hosts, FOLLOW_BURST every tick, now and every `interval`.

        Connections to addresses that a name no longer has are closed.
        """
        self._to_follow = list(self._pools.values())
        self._resolve_interval = interval
        self._follow_due = monotonic() + interval
        self._wake.set()

    @property
    def is_active(self) -> bool:
        """Whether there is work for every tick now."""
        return bool(self._active or self._cold or self._to_follow)

    def run(self) -> None:
        """Run maintenance until the process ends."""
        while True:
            if not self.is_active:
                self._wake.wait(self._seconds_until_due())
            self._wake.clear()
            # A whole tick, whatever is scheduled meanwhile: maintenance is not run per request.
            gevent.sleep(self.tick)
            try:
                self._run_once(monotonic())
            except Exception:  # the top of the greenlet, which must not end
                self.log.exception("keeper_failed")

    def _seconds_until_due(self) -> float:
        due = min(
            self._due[0][0] if self._due else inf,
            self._replayer.next_scan,
            self._follow_due,
            self._checks_due,
        )
        return max(due - monotonic(), 0.0)

    def _run_once(self, now: float) -> None:
        self._warm_some(now)
        while self._due and self._due[0][0] <= now:
            due, _, pool = heappop(self._due)
            if self._in_heap.get(pool) == due:
                del self._in_heap[pool]
                self._active.add(pool)
        for pool in tuple(self._active):
            if pool.run_maintenance(now):
                self._active.discard(pool)
                self._push(pool)
        if self._follow_due <= now:
            self.follow_names(self._resolve_interval)
        self._follow_some()
        if self._checks_due <= now:
            self._checks_due = now + CHECK_INTERVAL
            for check in self.checks:
                check()
        if self._replayer.next_scan <= now:
            self._replayer.scan()
        if now >= self._title_due or not self._active:
            self._title_due = now + TITLE_INTERVAL
            self._show_title()

    def _warm_some(self, now: float) -> None:
        for pool in self._cold[: -WARM_UP_BURST - 1 : -1]:
            if not pool.connections:
                pool.open_connection(now)
        del self._cold[-WARM_UP_BURST:]

    def _follow_some(self) -> None:
        for pool in self._to_follow[:FOLLOW_BURST]:
            if pool.connections:
                resolver_of(pool.hub).follow(pool.host, pool.close_connections_elsewhere)
        del self._to_follow[:FOLLOW_BURST]

    def _push(self, pool: Pool) -> None:
        """Put a quiet pool into the heap, unless it is there for an earlier time.

        When it is popped, a later time is found then. Its entry for a later time is ignored.
        """
        due = pool.next_due
        if due is not None and due < self._in_heap.get(pool, inf):
            self._in_heap[pool] = due
            heappush(self._due, (due, next(self._ties), pool))

    def _show_title(self) -> None:
        """Set the process title, in the style of the original (listing, lines 165-173)."""
        title = process_title(self._pools.values())
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)


def tick_for(limits: Iterable[float]) -> float:
    """Return the tick, in seconds, for these limits: a tenth of the shortest."""
    return max(MIN_TICK, min(MAX_TICK, min(limits, default=inf) / 10))


def process_title(pools: Iterable[Pool]) -> str:
    """Return the process title for these pools."""
    pools = tuple(pools)
    connections = sum(len(pool.connections) for pool in pools)
    waiting = sum(len(pool.queue) for pool in pools)
    down = sum(pool.is_down for pool in pools)
    return f"lonc: {len(pools)} hosts, {connections} connections, {waiting} waiting, {down} down"
