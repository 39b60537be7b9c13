# SPDX-License-Identifier: GPL-2.0-or-later
"""Status documents: of given hosts, and any that the daemon could make, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from lonc_gevent.admin.status import Charts, HostStatus, Status, Totals, badness
from lonc_gevent.admin.verdict import host_level, judge

CHARTS = Charts(
    step_s=10.0, rate=[0.0] * 90, con_lost=[0] * 90, queue=[0] * 90, p50_ms=[None] * 90,
    p99_ms=[None] * 90,
)  # fmt: skip

WELL: dict[str, Any] = {
    "domain": "dom", "role": "library", "address": "127.0.0.1", "port": 5663, "state": "up",
    "error": None, "next_attempt": None, "next_attempt_in_s": None, "connecting": 0, "idle": 1,
    "busy": 0, "queue": 0, "oldest_wait_s": 0.0, "requests": 0, "ok": 0, "con_lost": 0,
    "lost_lately": 0, "rate": 0.0, "p50_ms": None, "p99_ms": None, "delayed_waiting": 0,
    "delayed_quarantined": 0, "delayed_replayed": 0, "recent": [],
}  # fmt: skip


def host(name: str, **fields: Any) -> HostStatus:
    """Make a host that is well, but for these fields."""
    made = HostStatus(host=name, **WELL | fields)
    return replace(made, level=host_level(made))


def document(*hosts: HostStatus, **fields: Any) -> Status:
    """Make a document of these hosts, with its totals and its verdict."""
    states: dict[str, int] = {}
    for each in hosts:
        states[each.state] = states.get(each.state, 0) + 1
    sums = {
        name: sum(getattr(each, name) for each in hosts)
        for name in (
            "busy", "queue", "requests", "con_lost", "lost_lately", "rate", "delayed_waiting",
            "delayed_quarantined", "delayed_replayed",
        )
    }  # fmt: skip
    totals = Totals(
        hosts=len(hosts),
        states=states,
        connections=sum(each.idle + each.busy for each in hosts),
        oldest_wait_s=max((each.oldest_wait_s for each in hosts), default=0.0),
        p50_ms=None,
        p99_ms=None,
        **sums,
    )
    values: dict[str, Any] = {
        "version": "1", "pid": 1, "host_id": "msul1", "shard": None, "phase": "ready",
        "timestamp": "2026-11-28T14:00:00Z", "uptime_s": 1.0, "clients": 0,
        "log_lines_dropped": 0, "hub_longest_hold_ms": 0.0,
        "hub_longest_hold_last_minute_ms": 0.0, "hub_holds": 0, "certificate_expires": None,
    }  # fmt: skip
    made = Status(totals=totals, charts=CHARTS, hosts=sorted(hosts, key=badness), **values | fields)
    return replace(made, verdict=judge(made))


_COUNTS = st.sampled_from([0, 0, 1, 7, 123_456])
_AGES = st.sampled_from([0.0, 0.0, 0.5, 1.0, 59.0, 7200.0])
_TEXTS = st.sampled_from(["", "permission denied", "<b>&amp;</b>"])


@st.composite
def hosts(draw: st.DrawFn) -> HostStatus:
    """Return a strategy for hosts in any state."""
    return host(
        draw(st.from_regex(r"[a-z]{1,8}", fullmatch=True)),
        state=draw(st.sampled_from(["idle", "connecting", "up", "down", "paused", "stopping"])),
        queue=draw(_COUNTS),
        oldest_wait_s=draw(_AGES),
        requests_lately=draw(_COUNTS),
        lost_lately=draw(_COUNTS),
        delayed_waiting=draw(_COUNTS),
        delayed_quarantined=draw(_COUNTS),
        delayed_oldest_s=draw(_AGES),
    )


@st.composite
def documents(draw: st.DrawFn) -> Status:
    """Return a strategy for status documents that the daemon could make."""
    return document(
        *draw(st.lists(hosts(), max_size=5, unique_by=lambda each: each.host)),
        phase=draw(st.sampled_from(["ready", "ready", "starting", "stopping"])),
        delayed_error=draw(_TEXTS) or None,
        delayed_unknown=draw(_COUNTS),
        certificate_expires_in_s=draw(st.sampled_from([None, 1e8, 31 * 86400.0, 86400.0, -5.0])),
        reload_problems=[text for text in [draw(_TEXTS)] if text],
        missing=draw(st.sampled_from([{}, {"socket msul2": "in use"}])),
        log_lines_dropped_lately=draw(_COUNTS),
    )
