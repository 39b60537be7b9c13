# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet that reads all hosts' counters every ten seconds (admin/history.py keeps them)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import gevent

from lonc_gevent.eventloop import in_slices

from .history import INTERVAL, Reading, Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool


class History:
    """The series of each host that did something, and of all together. `run` is its greenlet.

    number   of the last step that is complete; 0 before the first one is
    read_at  when that was (monotonic seconds)
    """

    def __init__(self, pools: Mapping[str, Pool], logger: FilteringBoundLogger) -> None:
        self.pools = pools
        self.log = logger
        self.hosts: dict[str, Series] = {}
        self.total = Series()
        self.number = 0
        self.read_at = self.started = monotonic()

    def __repr__(self) -> str:
        return f"<History step {self.number}, {len(self.hosts)} of {len(self.pools)} hosts>"

    def run(self) -> None:
        """Read for ever."""
        while True:
            gevent.sleep(max(self.read_at + INTERVAL - monotonic(), 0.0))
            try:
                self.read()
            except Exception:  # the top of the greenlet: charts may have a gap, no more
                self.log.exception("history_failed")

    def read(self) -> None:
        """Take the counters of all hosts: the end of a step."""
        number = self.number + 1
        self.read_at = monotonic()
        for pool in in_slices(tuple(self.pools.values())):
            series = self.hosts.get(pool.host.id)
            now = reading(pool)
            if series is None:
                if not (now.ok or now.con_lost or len(pool.queue)):
                    continue
                series = self.hosts[pool.host.id] = Series()
            step = series.read(number, now, len(pool.queue))
            if step is not None:
                self.total.add(step)
        for host_id in self.hosts.keys() - self.pools.keys():
            del self.hosts[host_id]
        self.total.forget(number)
        self.number = number

    def series(self, host_id: str) -> Series:
        """Return the host's series; an empty one if it never did anything."""
        return self.hosts.get(host_id) or Series()


def reading(pool: Pool) -> Reading:
    """Return the host's counters as they are now; the buckets are not copied."""
    return Reading(pool.stats.ok, pool.stats.con_lost, pool.stats.duration.buckets)
