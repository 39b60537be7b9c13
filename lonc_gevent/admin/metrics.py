# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics of contract.md in Prometheus' text format, read when they are scraped.

A request only adds to integers (backend/stats.py). The text of 1,000 hosts is long, so it is made
in pieces of a few hosts, and other greenlets run in between. A host's histogram is read without a
pause, so its buckets are of one moment.
"""

from __future__ import annotations

import time
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from lonc_gevent import __version__
from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.backend.stats import DURATION_BOUNDS
from lonc_gevent.eventloop import in_slices

from .reporter import delayed_age, oldest_wait
from .status import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.backend.stats import Histogram

    from .reporter import Reporter

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

HOSTS_A_PIECE: Final = 5

_BOUNDS: Final = (*map(str, DURATION_BOUNDS), "+Inf")


class Metrics:
    """Makes the text. `registry` has the metrics of the process."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_DaemonCollector(reporter))

    def render(self) -> Iterator[bytes]:
        """Yield the text in pieces. The calling greenlet sleeps in between."""
        yield generate_latest(self.registry)
        pools = tuple(self.reporter.pools.values())
        pieces = [
            (family, pools[first : first + HOSTS_A_PIECE])
            for family in FAMILIES
            for first in range(0, len(pools), HOSTS_A_PIECE)
        ]
        shown = None
        for family, some in in_slices(pieces):
            text = generate_latest(_Fixed(family(some)))
            # HELP and TYPE, the first two lines, stand once before all samples of a family.
            yield text if shown is not family else text.split(b"\n", 2)[2]
            shown = family


class _Fixed(Collector):
    """A registry of one metric, for generate_latest."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """Return the metric."""
        return (self._metric,)


class _DaemonCollector(Collector):
    """The metrics of the process."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        reporter = self._reporter
        vitals = reporter.vitals
        build = GaugeMetricFamily(
            "lonc_build_info", "Which lonc-gevent this is; always 1.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        if reporter.shard:
            number, _, count = reporter.shard.partition("/")
            shard = GaugeMetricFamily(
                "lonc_shard_info",
                "Which part of the hosts this process serves; always 1.",
                labels=["shard", "shards"],
            )
            shard.add_metric([number, count], 1)
            yield shard
        verdict = GaugeMetricFamily(
            "lonc_verdict", "1 for the verdict on the daemon, as /status has it.", labels=["level"]
        )
        now = reporter.status().verdict.level
        for level in LEVELS:
            verdict.add_metric([level], level == now)
        yield verdict
        yield GaugeMetricFamily(
            "lonc_clients", "Clients connected to the Unix sockets.", value=vitals.clients()
        )
        yield CounterMetricFamily(
            "lonc_clients_denied",
            "Clients that access control did not admit.",
            value=vitals.denied(),
        )
        yield GaugeMetricFamily(
            "lonc_start_timestamp_seconds",
            "When this program was started, a restart in place included (Unix time).",
            value=time.time() - monotonic() + reporter.history.started,
        )
        yield CounterMetricFamily(
            "lonc_log_lines_dropped",
            "Log lines lost because their reader was slow or gone.",
            value=vitals.dropped(),
        )
        yield CounterMetricFamily(
            "lonc_hub_holds",
            "Times that the event loop was blocked for 100 ms or more.",
            value=vitals.hub.holds,
        )
        held = GaugeMetricFamily(
            "lonc_hub_longest_hold_seconds",
            "The longest time that the event loop was blocked.",
            labels=["of"],
        )
        held.add_metric(["last_minute"], vitals.hub.last_minute_ms / 1000)
        held.add_metric(["all"], vitals.hub.longest_ms / 1000)
        yield held
        delayed_error, unknown = vitals.delayed()
        yield GaugeMetricFamily(
            "lonc_delayed_unknown_files",
            "Delayed files of no known host, waiting or in quarantine.",
            value=unknown,
        )
        yield GaugeMetricFamily(
            "lonc_delayed_directory_usable",
            "Whether the directory of delayed requests can be used: 1 or 0.",
            value=not delayed_error,
        )
        reload = vitals.last_reload()
        yield GaugeMetricFamily(
            "lonc_config_last_reload_successful",
            "1 if the last reload succeeded, 0 if it was refused.",
            value=reload.successful,
        )
        yield GaugeMetricFamily(
            "lonc_config_last_reload_timestamp_seconds",
            "When the configuration was last loaded (Unix time).",
            value=reload.at,
        )
        missing = GaugeMetricFamily(
            "lonc_part_missing",
            "1 for a part of the daemon that is not available and is tried again.",
            labels=["part"],
        )
        for part in vitals.missing:
            missing.add_metric([part], 1)
        yield missing
        expires = vitals.certificate_expires()
        if expires is not None:
            yield GaugeMetricFamily(
                "lonc_certificate_expiry_timestamp_seconds",
                "When our certificate expires (Unix time).",
                value=expires,
            )


# -- by host: each function makes a family, for some of the pools --------------------------------


def _requests(pools: Iterable[Pool]) -> Metric:
    metric = CounterMetricFamily(
        "lonc_requests", "Requests that ended, by outcome.", labels=["host", "outcome"]
    )
    for pool in pools:
        metric.add_metric([pool.host.id, "ok"], pool.stats.ok)
        metric.add_metric([pool.host.id, "con_lost"], pool.stats.con_lost)
        metric.add_metric([pool.host.id, "abandoned"], pool.stats.abandoned)
    return metric


def _duration(pools: Iterable[Pool]) -> Metric:
    metric = HistogramMetricFamily(
        "lonc_request_duration_seconds",
        "From a whole request to its whole reply, con_lost left out.",
        labels=["host"],
    )
    for pool in pools:
        _add_histogram(metric, pool, pool.stats.duration)
    return metric


def _queue_wait(pools: Iterable[Pool]) -> Metric:
    metric = HistogramMetricFamily(
        "lonc_queue_wait_seconds",
        "How long requests that a connection took had waited for it.",
        labels=["host"],
    )
    for pool in pools:
        _add_histogram(metric, pool, pool.stats.queue_wait)
    return metric


def _add_histogram(metric: HistogramMetricFamily, pool: Pool, histogram: Histogram) -> None:
    if not any(histogram.buckets):
        return  # a host that was never asked has no series
    counts = accumulate(histogram.buckets)
    metric.add_metric([pool.host.id], list(zip(_BOUNDS, counts, strict=True)), histogram.sum)


def _gauge(
    name: str, text: str, value: Callable[[Pool], float]
) -> Callable[[Iterable[Pool]], Metric]:
    """Return a function that makes the family of a gauge with one sample per host."""

    def family(pools: Iterable[Pool]) -> Metric:
        metric = GaugeMetricFamily(name, text, labels=["host"])
        for pool in pools:
            metric.add_metric([pool.host.id], value(pool))
        return metric

    return family


def _connections(pools: Iterable[Pool]) -> Metric:
    metric = GaugeMetricFamily(
        "lonc_connections", "lond connections by what they do.", labels=["host", "state"]
    )
    for pool in pools:
        states = [connection.state for connection in pool.connections]
        for state in ("connecting", "idle", "busy"):
            metric.add_metric([pool.host.id, state], states.count(state))
    return metric


def _con_lost(pools: Iterable[Pool]) -> Metric:
    metric = CounterMetricFamily(
        "lonc_con_lost", "Requests that got con_lost, by reason.", labels=["host", "reason"]
    )
    for pool in pools:
        for reason, count in pool.stats.lost_by.items():
            metric.add_metric([pool.host.id, reason], count)
    return metric


def _attempts(pools: Iterable[Pool]) -> Metric:
    metric = CounterMetricFamily(
        "lonc_connection_attempts",
        "Attempts to make a lond connection, by result: ok, or what went wrong.",
        labels=["host", "result"],
    )
    for pool in pools:
        for result, count in {"ok": 0, **pool.stats.attempts}.items():
            metric.add_metric([pool.host.id, result], count)
    return metric


def _state(pools: Iterable[Pool]) -> Metric:
    metric = GaugeMetricFamily(
        "lonc_host_state", "1 for the state that the host is in.", labels=["host", "state"]
    )
    for pool in pools:
        for state in PoolState:
            metric.add_metric([pool.host.id, state.value], state is pool.state)
    return metric


def _next_attempt(pools: Iterable[Pool]) -> Metric:
    metric = GaugeMetricFamily(
        "lonc_next_attempt_timestamp_seconds",
        "A host that is down is not tried before then (Unix time); others have none.",
        labels=["host"],
    )
    offset = time.time() - monotonic()
    for pool in pools:
        if pool.is_down:
            metric.add_metric([pool.host.id], round(pool.gate.opens_at + offset, 3))
    return metric


def _delayed_files(pools: Iterable[Pool]) -> Metric:
    metric = GaugeMetricFamily(
        "lonc_delayed_files", "Delayed requests on disk.", labels=["host", "state"]
    )
    for pool in pools:
        metric.add_metric([pool.host.id, "waiting"], pool.stats.delayed_waiting)
        metric.add_metric([pool.host.id, "quarantined"], pool.stats.delayed_quarantined)
    return metric


def _delayed_replayed(pools: Iterable[Pool]) -> Metric:
    metric = CounterMetricFamily(
        "lonc_delayed_replayed", "Delayed requests that lond ran.", labels=["host"]
    )
    for pool in pools:
        metric.add_metric([pool.host.id], pool.stats.delayed_replayed)
    return metric


FAMILIES: Final[tuple[Callable[[Iterable[Pool]], Metric], ...]] = (
    _requests,
    _duration,
    _gauge("lonc_queue_length", "Requests that wait for a connection.", lambda p: len(p.queue)),
    _queue_wait,
    _gauge(
        "lonc_queue_oldest_seconds",
        "How long the oldest request in the queue has waited; 0 if none waits.",
        oldest_wait,
    ),
    _con_lost,
    _connections,
    _attempts,
    _state,
    _next_attempt,
    _delayed_files,
    _gauge(
        "lonc_delayed_oldest_seconds",
        "Age of the oldest delayed request that waits; 0 if none does.",
        delayed_age,
    ),
    _delayed_replayed,
)
