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
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

    from prometheus_client.core import Metric

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.backend.stats import Histogram

    from .reporter import Reporter

    Family: TypeAlias = Callable[[Iterable[Pool]], Metric]

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
        vitals, hub, reload = reporter.vitals, reporter.vitals.hub, reporter.vitals.last_reload()
        delayed_error, unknown = vitals.delayed()
        yield _labelled("lonc_build_info", "Version; always 1.", {__version__: 1}, "version")
        if reporter.shard:
            shard = GaugeMetricFamily(
                "lonc_shard_info",
                "Part of the hosts that this process serves; always 1.",
                labels=["shard", "shards"],
            )
            shard.add_metric(reporter.shard.split("/"), 1)
            yield shard
        level = reporter.status().verdict.level
        verdicts = {str(each): each == level for each in LEVELS}
        yield _labelled("lonc_verdict", "1 for the verdict of /status.", verdicts, "level")
        holds = {"last_minute": hub.last_minute_ms / 1000, "all": hub.longest_ms / 1000}
        text = "The longest time that the event loop was blocked."
        yield _labelled("lonc_hub_longest_hold_seconds", text, holds, "of")
        parts = dict.fromkeys(vitals.missing, 1)
        text = "1 for a part of the daemon that is not available and is tried again."
        yield _labelled("lonc_part_missing", text, parts, "part")
        for name, text, number in (
            (
                "lonc_clients_denied",
                "Clients that access control did not admit.",
                vitals.denied(),
            ),
            (
                "lonc_log_lines_dropped",
                "Log lines lost because their reader was slow or gone.",
                vitals.dropped(),
            ),
            (
                "lonc_hub_holds",
                "Times that the event loop was blocked for 100 ms or more.",
                hub.holds,
            ),
        ):
            yield CounterMetricFamily(name, text, value=number)
        gauges: tuple[tuple[str, str, float | None], ...] = (
            ("lonc_clients", "Clients connected to the Unix sockets.", vitals.clients()),
            (
                "lonc_start_timestamp_seconds",
                "When this program was started, a restart in place included (Unix time).",
                time.time() - monotonic() + reporter.history.started,
            ),
            (
                "lonc_delayed_unknown_files",
                "Delayed files of no known host, waiting or in quarantine.",
                unknown,
            ),
            (
                "lonc_delayed_directory_usable",
                "1 if the directory of delayed requests can be used, otherwise 0.",
                not delayed_error,
            ),
            (
                "lonc_config_last_reload_successful",
                "1 if the last reload succeeded, 0 if it was refused.",
                reload.successful,
            ),
            (
                "lonc_config_last_reload_timestamp_seconds",
                "When the configuration was last loaded (Unix time).",
                reload.at,
            ),
            (
                "lonc_certificate_expiry_timestamp_seconds",
                "When our certificate expires (Unix time).",
                vitals.certificate_expires(),
            ),
        )
        for name, text, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, values: Mapping[str, float], label: str) -> Metric:
    """Return a gauge with one sample for each value of its label."""
    metric = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        metric.add_metric([value], number)
    return metric


# -- by host: each function makes a family, for some of the pools -----------------------------


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    values: Callable[[Pool], Mapping[str, float]],
    label: str = "",
) -> Family:
    """Return the function of a family. `values` returns label -> number, "" without a label."""

    def family(pools: Iterable[Pool]) -> Metric:
        metric = kind(name, text, labels=["host", label] if label else ["host"])
        for pool in pools:
            for value, number in values(pool).items():
                metric.add_metric([pool.host.id, value] if label else [pool.host.id], number)
        return metric

    return family


def _histogram(name: str, text: str, histogram: Callable[[Pool], Histogram]) -> Family:
    """Return the function of a family of histograms. A host that was never asked has none."""

    def family(pools: Iterable[Pool]) -> Metric:
        metric = HistogramMetricFamily(name, text, labels=["host"])
        for pool in pools:
            found = histogram(pool)
            if any(found.buckets):
                counts = zip(_BOUNDS, accumulate(found.buckets), strict=True)
                metric.add_metric([pool.host.id], list(counts), found.sum)
        return metric

    return family


def _connections(pool: Pool) -> Mapping[str, float]:
    states = [connection.state for connection in pool.connections]
    return {state: states.count(state) for state in ("connecting", "idle", "busy")}


def _next_attempt(pool: Pool) -> Mapping[str, float]:
    offset = time.time() - monotonic()
    return {"": round(pool.gate.opens_at + offset, 3)} if pool.is_down else {}


FAMILIES: Final[tuple[Family, ...]] = (
    _family(
        CounterMetricFamily,
        "lonc_requests",
        "Requests that ended, by outcome.",
        lambda pool: {
            "ok": pool.stats.ok,
            "con_lost": pool.stats.con_lost,
            "abandoned": pool.stats.abandoned,
        },
        "outcome",
    ),
    _histogram(
        "lonc_request_duration_seconds",
        "From a whole request to its whole reply, con_lost left out.",
        lambda pool: pool.stats.duration,
    ),
    _family(
        GaugeMetricFamily,
        "lonc_queue_length",
        "Requests that wait for a connection.",
        lambda pool: {"": len(pool.queue)},
    ),
    _histogram(
        "lonc_queue_wait_seconds",
        "How long requests that a connection took had waited for it.",
        lambda pool: pool.stats.queue_wait,
    ),
    _family(
        GaugeMetricFamily,
        "lonc_queue_oldest_seconds",
        "How long the oldest request in the queue has waited; 0 if none waits.",
        lambda pool: {"": oldest_wait(pool)},
    ),
    _family(
        CounterMetricFamily,
        "lonc_con_lost",
        "Requests that got con_lost, by reason.",
        lambda pool: pool.stats.lost_by,
        "reason",
    ),
    _family(
        GaugeMetricFamily,
        "lonc_connections",
        "lond connections by what they do.",
        _connections,
        "state",
    ),
    _family(
        CounterMetricFamily,
        "lonc_connection_attempts",
        "Attempts to make a lond connection, by result: ok, or what went wrong.",
        lambda pool: {"ok": 0, **pool.stats.attempts},
        "result",
    ),
    _family(
        GaugeMetricFamily,
        "lonc_host_state",
        "1 for the state that the host is in.",
        lambda pool: {state.value: state is pool.state for state in PoolState},
        "state",
    ),
    _family(
        GaugeMetricFamily,
        "lonc_next_attempt_timestamp_seconds",
        "A host that is down is not tried before then (Unix time); others have none.",
        _next_attempt,
    ),
    _family(
        GaugeMetricFamily,
        "lonc_delayed_files",
        "Delayed requests on disk.",
        lambda pool: {
            "waiting": pool.stats.delayed_waiting,
            "quarantined": pool.stats.delayed_quarantined,
        },
        "state",
    ),
    _family(
        GaugeMetricFamily,
        "lonc_delayed_oldest_seconds",
        "Age of the oldest delayed request that waits; 0 if none does.",
        lambda pool: {"": delayed_age(pool)},
    ),
    _family(
        CounterMetricFamily,
        "lonc_delayed_replayed",
        "Delayed requests that lond ran.",
        lambda pool: {"": pool.stats.delayed_replayed},
    ),
)
