# SPDX-License-Identifier: GPL-2.0-or-later
"""The status document: what `/status` sends, `status --json` prints, and the page shows.

Fields are only ever added. Times are seconds (`_s`) or milliseconds (`_ms`) as their names say;
timestamps are RFC 3339, in UTC. "The last minutes" are the last five.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

SLOW_QUEUE: Final = 1.0
"""Seconds; a request that waits longer puts its host before those that do well."""

_RANKS: Final = {"down": 0, "paused": 1, "stopping": 5, "connecting": 5, "up": 6, "idle": 7}


class Charts(Struct, frozen=True, kw_only=True):
    """The last 15 minutes in steps of `step_s`, oldest first; a latency is null in a quiet step."""

    step_s: float
    rate: list[float]
    con_lost: list[float]
    queue: list[float]
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class HostStatus(Struct, frozen=True, kw_only=True):
    """One host.

    state         up, idle (no connection, and none was refused), connecting, down, paused, stopping
    error         why the last attempt to connect failed; null while all is well
    next_attempt  a host that is down is not tried before then
    rate          requests that ended per second, over the last minute
    p50_ms        half of the requests of the last minutes took at most so long; null: none
    lost_lately   requests of the last minutes that got con_lost
    recent        requests that ended, in steps of 30 s over 15 minutes; empty if none did
    delayed_oldest_s  age of the oldest delayed request that waits; 0: none does
    """

    host: str
    domain: str
    role: str
    address: str
    port: int
    state: str
    error: str | None
    next_attempt: str | None
    next_attempt_in_s: float | None
    connecting: int
    idle: int
    busy: int
    queue: int
    oldest_wait_s: float
    requests: int
    ok: int
    con_lost: int
    lost_lately: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    delayed_waiting: int
    delayed_quarantined: int
    delayed_replayed: int
    recent: list[int]
    delayed_oldest_s: float = 0.0


class Totals(Struct, frozen=True, kw_only=True):
    """All hosts together; `states` counts them by state."""

    hosts: int
    states: dict[str, int]
    connections: int
    busy: int
    queue: int
    oldest_wait_s: float
    requests: int
    con_lost: int
    lost_lately: int
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    delayed_waiting: int
    delayed_quarantined: int
    delayed_replayed: int
    delayed_oldest_s: float = 0.0


class Status(Struct, frozen=True, kw_only=True):
    """The daemon and its hosts, worst first.

    phase  starting, ready or stopping
    shard  which part of the hosts this process serves, such as "0/4"; null: all of them
    delayed_error  why the delayed directory cannot be used; null while it can
    last_reload  when the configuration was last loaded
    reload_problems  why the last reload was refused; empty if it succeeded
    missing  parts that could not be had and are tried again, such as `admin.listen`, with the error
    """

    version: str
    pid: int
    host_id: str
    shard: str | None
    phase: str
    timestamp: str
    uptime_s: float
    clients: int
    log_lines_dropped: int
    hub_longest_hold_ms: float
    hub_longest_hold_last_minute_ms: float
    hub_holds: int
    certificate_expires: str | None
    totals: Totals
    charts: Charts
    hosts: list[HostStatus]
    delayed_error: str | None = None
    missing: dict[str, str] = {}
    last_reload: str = ""
    reload_problems: list[str] = []


class HostDetail(Struct, frozen=True, kw_only=True):
    """One host with its own charts: `/hosts/ID`."""

    host: HostStatus
    charts: Charts


def badness(host: HostStatus) -> tuple[int, float, str]:
    """Sort key: worst first, and alphabetical among equals so that rows keep their place."""
    rank = _RANKS.get(host.state, 0)
    wait = 0.0
    if rank > 1:
        if host.oldest_wait_s >= SLOW_QUEUE:
            rank, wait = 2, -host.oldest_wait_s
        elif host.delayed_quarantined or host.lost_lately:
            rank = 3
        elif host.delayed_waiting:
            rank = 4
    return rank, wait, host.host
