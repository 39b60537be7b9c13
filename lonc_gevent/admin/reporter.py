# SPDX-License-Identifier: GPL-2.0-or-later
"""The status document (admin/status.py), made from the pools on request."""

from __future__ import annotations

import os
import time
from collections import Counter
from operator import add
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, cast

from msgspec.structs import replace

from lonc_gevent import __version__
from lonc_gevent.backend.stats import DURATION_BOUNDS, estimate
from lonc_gevent.eventloop import in_slices

from .history import INTERVAL, MINUTE, Series, milliseconds
from .recorder import History, reading
from .status import Change, Charts, HostDetail, HostStatus, Status, Totals, badness, cause_of
from .verdict import host_level, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool

Phase = Literal["starting", "ready", "stopping"]

SPARK_STEPS: Final = 3
"""History steps in one value of a host's `recent`."""


class HubHolds(Protocol):
    """For how long the event loop was blocked (daemon/loop_watchdog.py), in milliseconds."""

    longest_ms: float
    holds: int

    @property
    def last_minute_ms(self) -> float:
        """The longest of the last minute."""


class LastReload(NamedTuple):
    """Whether the last reload succeeded, when the last successful one was, and the problems.

    A start counts as a reload; `at` is in seconds since 1970.
    """

    successful: bool = True
    at: float = 0.0
    problems: tuple[str, ...] = ()


class Vitals(NamedTuple):
    """Figures of the whole process.

    clients  the number of clients connected now
    dropped  the log lines lost since the start
    hub      how long the event loop was blocked
    denied   the number of clients that access control did not admit
    delayed  why the delayed directory cannot be used, "" if it can, and the number of its files
             that belong to no known host
    certificate_expires  when our certificate does, in seconds since 1970; None without one
    missing  parts of the daemon that are not available, with the error
    last_reload  the result of the last reload
    """

    clients: Callable[[], int]
    dropped: Callable[[], int]
    hub: HubHolds
    certificate_expires: Callable[[], float | None]
    denied: Callable[[], int] = int
    delayed: Callable[[], tuple[str, int]] = lambda: ("", 0)
    missing: Mapping[str, str] = MappingProxyType({})
    last_reload: Callable[[], LastReload] = LastReload


class Reporter:
    """Makes the status document, in the greenlet that asks for it.

    pools    host id -> pool, the daemon's own
    shard    the part of the hosts that this process serves, such as "0/4"; "" if it serves all
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        logger: FilteringBoundLogger,
        vitals: Vitals,
        *,
        host_id: str,
        shard: str = "",
    ) -> None:
        self.pools = pools
        self.host_id = host_id
        self.vitals = vitals
        self.shard = shard
        self.phase: Phase = "starting"
        self.history = History(pools, logger, vitals.dropped)

    def status(self) -> Status:
        """Return the whole document. Other greenlets run while it is made."""
        history = self.history
        hosts = []
        connections = ended = 0
        oldest_wait = 0.0
        buckets = [0] * (len(DURATION_BOUNDS) + 1)
        highest = 0.0
        for pool in in_slices(tuple(self.pools.values())):
            host = self._host(pool)
            hosts.append(host)
            connections += host.connecting + host.idle + host.busy
            oldest_wait = max(oldest_wait, host.oldest_wait_s)
            if host.requests:
                series, now = history.series(host.host), reading(pool)
                ended += series.done(history.number, now)
                recent = series.recent(history.number, now)
                buckets = list(map(add, buckets, recent.buckets))
                highest = max(highest, recent.highest)
        hosts.sort(key=badness)
        vitals = self.vitals
        expires = vitals.certificate_expires()
        delayed_error, delayed_unknown = vitals.delayed()
        totals = Totals(
            hosts=len(hosts),
            states=dict(Counter(host.state for host in hosts)),
            connections=connections,
            busy=sum(host.busy for host in hosts),
            queue=sum(host.queue for host in hosts),
            oldest_wait_s=oldest_wait,
            requests=sum(host.requests for host in hosts),
            con_lost=sum(host.con_lost for host in hosts),
            lost_lately=sum(host.lost_lately for host in hosts),
            rate=self._rate(ended),
            p50_ms=milliseconds(estimate(buckets, 0.5, highest)),
            p99_ms=milliseconds(estimate(buckets, 0.99, highest)),
            delayed_waiting=sum(host.delayed_waiting for host in hosts),
            delayed_quarantined=sum(host.delayed_quarantined for host in hosts),
            delayed_replayed=sum(host.delayed_replayed for host in hosts),
            delayed_oldest_s=max((host.delayed_oldest_s for host in hosts), default=0.0),
        )
        status = Status(
            version=__version__,
            pid=os.getpid(),
            host_id=self.host_id,
            shard=self.shard or None,
            phase=self.phase,
            timestamp=timestamp(time.time()),
            uptime_s=round(monotonic() - history.started, 1),
            clients=vitals.clients(),
            log_lines_dropped=vitals.dropped(),
            hub_longest_hold_ms=round(vitals.hub.longest_ms, 3),
            hub_longest_hold_last_minute_ms=round(vitals.hub.last_minute_ms, 3),
            hub_holds=vitals.hub.holds,
            certificate_expires=None if expires is None else timestamp(expires),
            missing=dict(vitals.missing),
            last_reload=timestamp(vitals.last_reload().at),
            reload_problems=list(vitals.last_reload().problems),
            totals=totals,
            charts=self._charts(history.total),
            hosts=hosts,
            delayed_error=delayed_error or None,
            delayed_unknown=delayed_unknown,
            certificate_expires_in_s=None if expires is None else round(expires - time.time(), 1),
            log_lines_dropped_lately=vitals.dropped() - history.dropped[0],
        )
        return replace(status, verdict=judge(status))

    def host(self, host_id: str) -> HostDetail | None:
        """Return one host with its charts, None if it is not served."""
        pool = self.pools.get(host_id)
        if pool is None:
            return None
        changes = [
            Change(at=timestamp(change.at), state=change.state, error=change.error or None)
            for change in pool.changes
        ]
        charts = self._charts(self.history.series(host_id))
        return HostDetail(host=self._host(pool), charts=charts, changes=changes)

    def _host(self, pool: Pool) -> HostStatus:
        host, stats, history = pool.host, pool.stats, self.history
        states = [connection.state for connection in pool.connections]
        wait = pool.gate.opens_at - monotonic() if pool.is_down else 0.0
        requests = stats.ok + stats.con_lost
        recent: list[int] = []
        recent_lost: list[int] = []
        ended = lost_lately = 0
        rate, p50, p99 = 0.0, None, None
        if requests:
            series, now = history.series(host.id), reading(pool)
            lately = series.recent(history.number, now)
            lost_lately = lately.con_lost
            ended = lost_lately + sum(lately.buckets)
            p50, p99 = (estimate(lately.buckets, share, lately.highest) for share in (0.5, 0.99))
            rate = self._rate(series.done(history.number, now))
            if series.steps:
                line = series.line(history.number, lambda s: s.ok + s.con_lost, SPARK_STEPS)
                recent = list(map(int, line))
                line = series.line(history.number, lambda s: s.con_lost, SPARK_STEPS)
                recent_lost = list(map(int, line)) if any(line) else []
        since = monotonic() - pool.since
        answered = monotonic() - stats.last_reply if stats.last_reply else None
        status = HostStatus(
            host=host.id,
            domain=host.domain,
            role=host.role,
            address=host.address or host.dns_name,
            port=host.port,
            state=pool.state.value,
            error=pool.last_error or None,
            next_attempt=timestamp(time.time() + wait) if wait > 0 else None,
            next_attempt_in_s=round(wait, 1) if wait > 0 else None,
            connecting=states.count("connecting"),
            idle=states.count("idle"),
            busy=states.count("busy"),
            queue=len(pool.queue),
            oldest_wait_s=round(oldest_wait(pool), 3),
            requests=requests,
            ok=stats.ok,
            con_lost=stats.con_lost,
            lost_lately=lost_lately,
            rate=rate,
            p50_ms=milliseconds(p50),
            p99_ms=milliseconds(p99),
            delayed_waiting=stats.delayed_waiting,
            delayed_quarantined=stats.delayed_quarantined,
            delayed_replayed=stats.delayed_replayed,
            recent=recent,
            delayed_oldest_s=round(delayed_age(pool), 1),
            requests_lately=ended,
            recent_lost=recent_lost,
            since=timestamp(time.time() - since),
            since_s=round(since, 1),
            last_reply_s=None if answered is None else round(answered, 1),
            peer=cast("str | None", pool.session.get("peer")),
            security=cast("str | None", pool.session.get("security")),
            lost_by=dict(stats.lost_by),
            cause=cause_of(pool.last_error) if pool.last_error else None,
        )
        return replace(status, level=host_level(status))

    def _rate(self, ended: int) -> float:
        """Return requests per second from a count over the last minute and since."""
        history = self.history
        whole = min(history.number, MINUTE) * INTERVAL
        return float(f"{ended / max(whole + monotonic() - history.read_at, 1.0):.3g}")

    def _charts(self, series: Series) -> Charts:
        number = self.history.number
        return Charts(
            step_s=INTERVAL,
            rate=[n / INTERVAL for n in series.line(number, lambda s: s.ok + s.con_lost)],
            con_lost=series.line(number, lambda s: s.con_lost),
            queue=series.line(number, lambda s: s.queue),
            p50_ms=series.quantiles(number, 0.5),
            p99_ms=series.quantiles(number, 0.99),
        )


def timestamp(seconds: float) -> str:
    """Return an RFC 3339 time, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def oldest_wait(pool: Pool) -> float:
    """Return the seconds that the oldest request in the queue has waited; 0 if none waits."""
    return max(monotonic() - pool.queue.oldest_since, 0.0)


def delayed_age(pool: Pool) -> float:
    """Return the age in seconds of the oldest waiting delayed request; 0 if none waits."""
    stats = pool.stats
    return max(time.time() - stats.delayed_oldest, 0.0) if stats.delayed_waiting else 0.0
