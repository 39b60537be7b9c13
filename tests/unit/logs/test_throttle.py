# SPDX-License-Identifier: GPL-2.0-or-later
"""Rate limit for repeated log events."""

from __future__ import annotations

from lonc_gevent.logs.throttle import Throttle


def test_the_first_occurrence_is_reported_at_once() -> None:
    assert Throttle(10.0).count(0.0) == 1


def test_later_occurrences_are_reported_together_after_the_interval() -> None:
    """Each occurrence is in exactly one report."""
    throttle = Throttle(10.0)

    said = [throttle.count(now) for now in (100.0, 101.0, 109.9, 110.0, 110.1, 125.0)]

    assert said == [1, 0, 0, 3, 0, 2]
