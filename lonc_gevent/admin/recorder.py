# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet that reads the counters of all hosts every ten seconds, for admin/history.py."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from lonc_gevent.backend.snapshot import Snapshot
from lonc_gevent.eventloop import in_slices

from .history import INTERVAL, RECENT, Reading, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool


class HistorySnapshot(Snapshot, frozen=True):
    """What a restart in place hands over (backend/snapshot.py): the attributes of `History`."""

    hosts: dict[str, Series]
    total: Series
    number: int
    read_at: float
    started: float


class History:
    """The series of each host that was asked, and of all together. `run` is its greenlet.

    number   number of the last complete step; 0 before the first one
    read_at  when that was (monotonic seconds)
    dropped  the log lines lost, at the end of each of the last minutes' steps
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        logger: FilteringBoundLogger,
        dropped: Callable[[], int] = int,
    ) -> None:
        self._dropped = dropped
        self.dropped = deque([0], RECENT)
        self.pools = pools
        self.log = logger
        self.hosts: dict[str, Series] = {}
        self.total = Series()
        self.number = 0
        self.read_at = self.started = monotonic()

    def __repr__(self) -> str:
        return f"<History step {self.number}, {len(self.hosts)} of {len(self.pools)} hosts>"

    def snapshot(self) -> HistorySnapshot:
        """Return the state for a restart in place."""
        return HistorySnapshot(self.hosts, self.total, self.number, self.read_at, self.started)

    def restore(self, state: HistorySnapshot) -> None:
        """Go on where the program before a restart in place stopped."""
        self.hosts, self.total, self.number = state.hosts, state.total, state.number
        self.read_at, self.started = state.read_at, state.started

    def run(self) -> None:
        """Read the counters every INTERVAL, for ever."""
        while True:
            gevent.sleep(max(self.read_at + INTERVAL - monotonic(), 0.0))
            try:
                self.read()
            except Exception:  # the top of the greenlet: the charts get a gap
                self.log.exception("history_failed")

    def read(self) -> None:
        """Take the counters of all hosts at the end of a step."""
        number = self.number + 1
        self.dropped.append(self._dropped())
        self.read_at = monotonic()
        for pool in in_slices(tuple(self.pools.values())):
            series = self.hosts.get(pool.host.id)
            now = reading(pool)
            if series is None:
                if not (now.ok or now.con_lost or len(pool.queue)):
                    continue
                series = self.hosts[pool.host.id] = Series()
            step = series.read(number, now, len(pool.queue))
            pool.stats.duration.highest = 0.0
            if step is not None:
                self.total.add(step)
        for host_id in self.hosts.keys() - self.pools.keys():
            del self.hosts[host_id]
        self.total.forget(number)
        self.number = number

    def series(self, host_id: str) -> Series:
        """Return the host's series; an empty one if it was never asked."""
        return self.hosts.get(host_id) or Series()


def reading(pool: Pool) -> Reading:
    """Return the host's counters as they are now; the buckets are not copied."""
    stats = pool.stats
    return Reading(stats.ok, stats.con_lost, stats.duration.buckets, stats.duration.highest)
