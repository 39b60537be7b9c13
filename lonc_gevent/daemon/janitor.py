# SPDX-License-Identifier: GPL-2.0-or-later
"""The periodic greenlet: all that time drives, in one place, as PgBouncer's janitor.

Nobody sets a timer for a wait. Deadlines are written down where a wait begins, and the keeper
looks after whatever is watched, every tick. A pool in which nothing has a deadline is not watched;
it only stands in a heap with the time at which its oldest idle connection is to be pruned. So a
host at rest costs nothing, and a daemon at rest sleeps.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import gevent
import setproctitle
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool

MAX_TICK = 0.1
MIN_TICK = 0.01
"""Seconds; the tick is a tenth of the shortest limit within these."""

TITLE_INTERVAL = 1.0
"""Seconds between two looks at the process title."""

WARM_UP_BURST = 20
"""Hosts whose first connection is begun in one tick, after the start."""


class Keeper:
    """Tends pools and clients. `run` is its greenlet."""

    def __init__(self, logger: FilteringBoundLogger, *, tick: float) -> None:
        self.log = logger
        self.tick = tick
        self.pools: dict[str, Pool] = {}
        self.tend_clients: Callable[[float], bool] = lambda _now: True
        self._watched: set[Pool] = set()
        self._clients_watched = False
        self._due: list[tuple[float, int, Pool]] = []
        self._scheduled: set[Pool] = set()
        self._ties = count()
        self._cold: list[Pool] = []
        self._wake = Event()
        self._title = ""
        self._title_due = 0.0

    def __repr__(self) -> str:
        return f"<Keeper watches {len(self._watched)} of {len(self.pools)} pools>"

    # -- told by others ----------------------------------------------------------------------

    def watch(self, pool: Pool) -> None:
        """Tend this pool every tick until it is quiet."""
        self._watched.add(pool)
        self._wake.set()

    def watch_clients(self) -> None:
        """Tend the clients every tick until they are quiet."""
        self._clients_watched = True
        self._wake.set()

    def warm_up(self, pools: Iterable[Pool]) -> None:
        """Make one connection for each of these hosts, some every tick."""
        self._cold.extend(pools)
        self._cold.reverse()
        self._wake.set()

    @property
    def awake(self) -> bool:
        """Whether anything is tended every tick now."""
        return bool(self._watched or self._clients_watched or self._cold)

    # -- the greenlet ------------------------------------------------------------------------

    def run(self) -> None:
        """Tend for ever."""
        while True:
            if not self.awake:
                self._wake.wait(self._until_due())
            self._wake.clear()
            # A whole tick, whatever was watched meanwhile: a request must not cost a round.
            gevent.sleep(self.tick)
            try:
                self._round(monotonic())
            except Exception:  # the top of the keeper's round: it must go on
                self.log.exception("keeper_failed")

    def _until_due(self) -> float | None:
        """Return the seconds until a pool at rest must be looked at; None: none needs it."""
        return max(self._due[0][0] - monotonic(), 0.0) if self._due else None

    def _round(self, now: float) -> None:
        for pool in self._cold[: -WARM_UP_BURST - 1 : -1]:
            if not pool.connections:
                pool.grow(now)
        del self._cold[-WARM_UP_BURST:]
        while self._due and self._due[0][0] <= now:
            pool = heappop(self._due)[2]
            self._scheduled.discard(pool)
            self._watched.add(pool)
        for pool in tuple(self._watched):
            if pool.tend(now):
                self._watched.discard(pool)
                pool.watched = False
                self._schedule(pool)
        if self._clients_watched:
            self._clients_watched = not self.tend_clients(now)
        if now >= self._title_due or not self._watched:
            self._title_due = now + TITLE_INTERVAL
            self._show_title()

    def _schedule(self, pool: Pool) -> None:
        """Put a pool at rest into the heap, once: what is due later than it was is found then."""
        due = pool.next_due
        if due is not None and pool not in self._scheduled:
            self._scheduled.add(pool)
            heappush(self._due, (due, next(self._ties), pool))

    def _show_title(self) -> None:
        """Set the process title, in the style of the original (listing, lines 165-173)."""
        title = describe(self.pools.values())
        if title != self._title:
            self._title = title
            setproctitle.setproctitle(title)


def tick_for(limits: Iterable[float]) -> float:
    """Return the tick, in seconds, that keeps the shortest of these limits well enough."""
    return max(MIN_TICK, min(MAX_TICK, min(limits, default=inf) / 10))


def describe(pools: Iterable[Pool]) -> str:
    """Return the process title for these pools."""
    pools = tuple(pools)
    connections = sum(len(pool.connections) for pool in pools)
    waiting = sum(len(pool.queue) for pool in pools)
    down = sum(pool.is_down for pool in pools)
    return f"lonc: {len(pools)} hosts, {connections} connections, {waiting} waiting, {down} down"
