# SPDX-License-Identifier: GPL-2.0-or-later
"""The status document: what `/status` sends, `status --json` prints, and the page shows.

Fields are only ever added. Times are seconds (`_s`) or milliseconds (`_ms`) as their names say;
timestamps are RFC 3339, in UTC. "The last minutes" are the last five.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

Level: TypeAlias = Literal["well", "trouble", "bad"]

LEVELS: Final[tuple[Level, ...]] = ("well", "trouble", "bad")

NO_ANSWER: Final = "The daemon does not answer"

LONG_WAIT: Final = 1.0
"""Seconds; a request that waits for longer is trouble."""


class Reason(Struct, frozen=True, kw_only=True):
    """One reason for a verdict. `code` is a fixed word, `text` is for people."""

    level: Level
    code: str
    text: str


class Verdict(Struct, frozen=True, kw_only=True):
    """The level of the gravest reason, a headline, and all reasons, the gravest first."""

    level: Level
    headline: str
    reasons: list[Reason]


NO_VERDICT: Final = Verdict(
    level="trouble", headline="The daemon is older than this program, reload it", reasons=[]
)
"""The verdict of a document without one."""

_RANKS: Final = {"down": 0, "paused": 1, "stopping": 2, "connecting": 2, "up": 3, "idle": 4}


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

    state         up, idle (no connection, none needed), connecting, down, paused, stopping
    error         why the last attempt to connect failed; null if it succeeded
    next_attempt  time before which a host that is down is not tried
    rate          requests that ended per second, over the last minute
    p50_ms        median latency of the last minutes; null without requests
    lost_lately   requests of the last minutes that got con_lost
    recent        requests that ended, in steps of 30 s over 15 minutes; empty if none did
    recent_lost   those of them that got con_lost; empty if none did
    requests_lately  requests that ended in the last minutes
    level         how well the host is (admin/verdict.py)
    since         when `state` began, `since_s` seconds ago
    last_reply_s  age of lond's last whole reply; null if it never sent one
    peer          the address that the last connection was made to; null if none was
    security      the security mode of that connection
    lost_by       requests that got con_lost, by reason
    cause         the error without its address: hosts with the same one are down for one reason
    delayed_oldest_s  age of the oldest delayed request that waits; 0 if none waits
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
    requests_lately: int = 0
    recent_lost: list[int] = []
    level: Level = "well"
    since: str = ""
    since_s: float = 0.0
    last_reply_s: float | None = None
    peer: str | None = None
    security: str | None = None
    lost_by: dict[str, int] = {}
    cause: str | None = None


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
    shard  the part of the hosts that this process serves, such as "0/4"; null if all
    verdict  how well the daemon is, and why (admin/verdict.py)
    delayed_error  why the delayed directory cannot be used; null while it can
    delayed_unknown  delayed files of hosts that are not in hosts.tab, and of malformed names
    last_reload  when the configuration was last loaded
    reload_problems  why the last reload was refused; empty if it succeeded
    missing  parts that are not available and are tried again, such as `admin.listen`: their errors
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
    delayed_unknown: int = 0
    certificate_expires_in_s: float | None = None
    log_lines_dropped_lately: int = 0
    verdict: Verdict = NO_VERDICT


class Change(Struct, frozen=True, kw_only=True):
    """A change of a host's state; `error` is why it is down, null in other states."""

    at: str
    state: str
    error: str | None


class HostDetail(Struct, frozen=True, kw_only=True):
    """One host with its own charts and its last changes of state, oldest first: `/hosts/ID`."""

    host: HostStatus
    charts: Charts
    changes: list[Change] = []


def cause_of(error: str) -> str:
    """Return `KIND: REASON` of `KIND: ADDRESS: REASON`."""
    kind, _, text = error.partition(": ")
    return f"{kind.replace('_', ' ')}: {text.rpartition(': ')[2]}"


def badness(host: HostStatus) -> tuple[int, int, int, float, str]:
    """Sort key: first what most requests are lost to or wait for, last the hosts that are well.

    Among hosts that are well the order is alphabetical, so that rows keep their place.
    """
    rank = _RANKS.get(host.state, 0)
    if host.level == "well":
        return 1 if host.delayed_waiting else 2, 0, rank, 0.0, host.host
    impact = host.lost_lately + (host.queue if host.oldest_wait_s > LONG_WAIT else 0)
    return 0, -impact, rank, -host.oldest_wait_s, host.host
