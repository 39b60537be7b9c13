# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of the hosts: the worst first."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from lonc_gevent.admin.status import HostStatus, badness


def host(name: str, **fields: Any) -> HostStatus:
    """Make a host that is well, but for these fields."""
    values = {
        "host": name,
        "domain": "d",
        "role": "library",
        "address": "a",
        "port": 1,
        "state": "up",
        "error": None,
        "next_attempt": None,
        "next_attempt_in_s": None,
        "connecting": 0,
        "idle": 1,
        "busy": 0,
        "queue": 0,
        "oldest_wait_s": 0.0,
        "requests": 0,
        "ok": 0,
        "con_lost": 0,
        "lost_lately": 0,
        "rate": 0.0,
        "p50_ms": None,
        "p99_ms": None,
        "delayed_waiting": 0,
        "delayed_quarantined": 0,
        "delayed_replayed": 0,
        "recent": [],
    }
    return msgspec.convert({**values, **fields}, HostStatus)


def test_worst_first() -> None:
    """Down, paused, a slow queue (oldest first), lost or quarantined, delayed, the rest."""
    right = [
        host("z1", state="down"),
        host("y2", state="paused", queue=3, oldest_wait_s=9.0),
        host("x3", queue=1, oldest_wait_s=8.0),
        host("x2", queue=9, oldest_wait_s=2.0),
        host("w4", delayed_quarantined=1),
        host("w5", lost_lately=1, con_lost=1),
        host("v6", delayed_waiting=1),
        host("u7", state="connecting"),
        host("t8", queue=4, oldest_wait_s=0.2),
        host("t9", con_lost=99),
        host("a9", state="idle"),
    ]
    mixed = random.sample(right, len(right))

    assert [h.host for h in sorted(mixed, key=badness)] == [h.host for h in right]


def test_equals_keep_their_place() -> None:
    """Among hosts that are equally well the order is alphabetical, whatever their rates."""
    hosts = [host("b", rate=5.0), host("a", rate=1.0), host("c", rate=900.0)]

    assert [h.host for h in sorted(hosts, key=badness)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("fields", "rank", "wait"),
    [
        ({"state": "down", "oldest_wait_s": 9.0}, 0, 0.0),
        ({"state": "a new one", "oldest_wait_s": 9.0}, 0, 0.0),
        ({"state": "paused", "oldest_wait_s": 9.0}, 1, 0.0),
        ({"oldest_wait_s": 1.0}, 2, -1.0),
        ({"oldest_wait_s": 0.99}, 6, 0.0),
        ({"lost_lately": 1}, 3, 0.0),
        ({"delayed_waiting": 1}, 4, 0.0),
        ({"state": "connecting", "oldest_wait_s": 1.5}, 2, -1.5),
        ({"state": "idle"}, 7, 0.0),
    ],
)
def test_each_rank(fields: dict[str, Any], rank: int, wait: float) -> None:
    """The places between which a host stands, and what counts among equals."""
    assert badness(host("h", **fields)) == (rank, wait, "h")
