# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of the hosts: the worst first."""

from __future__ import annotations

import random

from statuses import host

from lonc_gevent.admin.status import badness


def test_hosts_with_most_requests_lost_and_waiting_come_first() -> None:
    right = [
        host("x3", queue=480, oldest_wait_s=59.0),
        host("w5", lost_lately=12),
        host("z1", state="down", lost_lately=2),
        host("z2", state="down"),
        host("y2", state="paused", queue=3, oldest_wait_s=0.5),
        host("w4", delayed_quarantined=1),
        host("v6", delayed_waiting=1),
        host("t8", queue=4, oldest_wait_s=0.2),
        host("t9", con_lost=99),
        host("a9", state="idle"),
    ]
    mixed = random.sample(right, len(right))

    assert [h.host for h in sorted(mixed, key=badness)] == [h.host for h in right]


def test_hosts_that_are_well_keep_their_places_whatever_their_rates() -> None:
    hosts = [host("b", rate=5.0), host("a", rate=1.0), host("c", rate=900.0)]

    assert [h.host for h in sorted(hosts, key=badness)] == ["a", "b", "c"]
