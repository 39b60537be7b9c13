# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts: plain integers that add up."""

from __future__ import annotations

import pytest

from lonc_gevent.backend.stats import DURATION_BOUNDS, Histogram, HostStats, estimate


def test_an_observation_falls_into_its_bucket() -> None:
    """A bound belongs to its own bucket, as Prometheus has it (`le`)."""
    histogram = Histogram()

    for seconds in (0.0, 0.0005, 0.00051, 1e9):
        histogram.observe(seconds)

    assert histogram.buckets[:2] == [2, 1]
    assert histogram.buckets[-1] == 1
    assert histogram.count == 4


def test_the_sum_is_the_sum() -> None:
    """The sum is of what was observed, not of bounds."""
    histogram = Histogram()
    histogram.observe(0.25)
    histogram.observe(0.5)

    assert histogram.sum == 0.75


def test_the_bounds_ascend() -> None:
    """Buckets are found by bisection."""
    assert list(DURATION_BOUNDS) == sorted(DURATION_BOUNDS)


def test_an_estimate_lies_within_its_bucket() -> None:
    """An estimate goes evenly from a bucket's lower to its upper bound."""
    histogram = Histogram()
    for _ in range(100):
        histogram.observe(0.002)

    assert estimate(histogram.buckets, 0.5) == pytest.approx(0.00175)
    assert estimate(histogram.buckets, 1.0) == pytest.approx(0.0025)


def test_an_estimate_over_all_bounds_is_the_last_bound() -> None:
    """What lies over the last bound is given as the last bound; nothing has no estimate."""
    histogram = Histogram()
    assert estimate(histogram.buckets, 0.5) is None
    histogram.observe(1e9)

    assert estimate(histogram.buckets, 0.99) == DURATION_BOUNDS[-1]


def test_an_estimate_is_a_place_between_bounds() -> None:
    """Observations are taken as evenly distributed in their bucket."""
    buckets = [0] * (len(DURATION_BOUNDS) + 1)
    buckets[0], buckets[2], buckets[3] = 4, 2, 2
    width = DURATION_BOUNDS[2] - DURATION_BOUNDS[1]

    assert estimate(buckets, 0.25) == pytest.approx(DURATION_BOUNDS[0] / 2)
    assert estimate(buckets, 0.5) == DURATION_BOUNDS[0]
    assert estimate(buckets, 0.625) == pytest.approx(DURATION_BOUNDS[1] + width / 2)
    assert estimate(buckets, 0.75) == pytest.approx(DURATION_BOUNDS[2])
    assert estimate(buckets, 1.0) == pytest.approx(DURATION_BOUNDS[3])
    assert estimate([0, 3], 0.01) == pytest.approx(
        DURATION_BOUNDS[0] + (DURATION_BOUNDS[1] - DURATION_BOUNDS[0]) * 0.01
    )


def test_what_is_counted_begins_with_nothing() -> None:
    """All counters of a host are there from the start, and 0."""
    stats = HostStats()

    assert (stats.ok, stats.con_lost, stats.attempts) == (0, 0, {})
    assert (stats.duration.count, stats.queue_wait.count) == (0, 0)
    assert (stats.delayed_waiting, stats.delayed_quarantined, stats.delayed_replayed) == (0, 0, 0)
