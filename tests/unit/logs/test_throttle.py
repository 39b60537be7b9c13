# SPDX-License-Identifier: GPL-2.0-or-later
"""The throttle: what happens often is said at once, then now and then, and all of it counts."""

from __future__ import annotations

from lonc_gevent.logs.throttle import Throttle


def test_the_first_is_said_at_once() -> None:
    """Nobody waits for the first report."""
    assert Throttle(10.0).count(0.0) == 1


def test_more_are_said_together_once_the_interval_is_over() -> None:
    """What happened meanwhile is in the next report's count, and is not said twice."""
    throttle = Throttle(10.0)

    said = [throttle.count(now) for now in (100.0, 101.0, 109.9, 110.0, 110.1, 125.0)]

    assert said == [1, 0, 0, 3, 0, 2]
