# SPDX-License-Identifier: GPL-2.0-or-later
"""The last 15 minutes of a host, from readings of its counters."""

from __future__ import annotations

from lonc_gevent.admin.history import LENGTH, MINUTE, RECENT, Reading, Series
from lonc_gevent.backend.stats import HostStats, estimate


def at(stats: HostStats) -> Reading:
    """Read the counters."""
    duration = stats.duration
    return Reading(stats.ok, stats.con_lost, duration.buckets, duration.highest)


def answer(stats: HostStats, count: int, seconds: float = 0.0002) -> None:
    """Count so many requests that were answered."""
    for _ in range(count):
        stats.ok += 1
        stats.duration.observe(seconds)


def test_step_without_events_takes_no_memory() -> None:
    """A step in which nothing happened is not kept."""
    series, stats = Series(), HostStats()

    for number in range(1, 50):
        assert series.read(number, at(stats), 0) is None

    assert series.steps == []


def test_a_step_has_what_happened_in_it() -> None:
    """Counts of a step are differences, and a queue alone makes a step, too."""
    series, stats = Series(), HostStats()
    answer(stats, 5)
    series.read(1, at(stats), 0)
    answer(stats, 2)
    stats.lost_by["reply_timeout"] += 3
    series.read(2, at(stats), 4)
    series.read(3, at(stats), 1)

    assert [(s.ok, s.con_lost, s.queue) for s in series.steps] == [(5, 0, 0), (2, 3, 4), (0, 0, 1)]


def test_steps_are_forgotten() -> None:
    """No more than LENGTH steps are kept, even when the later ones are quiet."""
    series, stats = Series(), HostStats()
    for number in range(1, 3 * LENGTH):
        answer(stats, 1)
        series.read(number, at(stats), 0)
        assert len(series.steps) <= LENGTH
    for number in range(3 * LENGTH, 5 * LENGTH):
        series.read(number, at(stats), 0)

    assert series.steps == []


def test_a_chart_line() -> None:
    """A line has LENGTH values, the newest last; `every` adds neighbours up."""
    series, stats = Series(), HostStats()
    for number, count in ((1, 7), (LENGTH, 3)):
        answer(stats, count)
        series.read(number, at(stats), 0)

    line = series.line(LENGTH, lambda step: step.ok)
    thirds = series.line(LENGTH, lambda step: step.ok, 3)

    assert (len(line), line[0], line[-1], sum(line)) == (LENGTH, 7, 3, 10)
    assert (len(thirds), thirds[0], thirds[-1], sum(thirds)) == (LENGTH // 3, 7, 3, 10)


def test_quantiles_are_null_where_nothing_was_answered() -> None:
    """A chart of latencies has gaps, and milliseconds."""
    series, stats = Series(), HostStats()
    answer(stats, 100, 0.004)
    series.read(LENGTH, at(stats), 0)

    found = series.quantiles(LENGTH, 0.5)

    assert found[:-1] == [None] * (LENGTH - 1)
    assert found[-1] == 3.75


def test_recent_counts_the_last_minutes_and_since() -> None:
    """What ended since the last reading counts; what is older than RECENT steps does not."""
    series, stats = Series(), HostStats()
    answer(stats, 1)
    stats.lost_by["reply_timeout"] += 1
    series.read(1, at(stats), 0)
    answer(stats, 10)
    series.read(2, at(stats), 0)
    answer(stats, 100)
    stats.lost_by["reply_timeout"] += 5

    both = series.recent(2, at(stats))
    later = series.recent(1 + RECENT, at(stats))

    assert (sum(both.buckets), both.con_lost) == (111, 6)
    assert (sum(later.buckets), later.con_lost) == (110, 5)


def test_recent_is_right_between_a_reading_and_its_number() -> None:
    """While other hosts are still read, a host's last minutes miss nothing."""
    series, stats = Series(), HostStats()
    answer(stats, 10)
    assert sum(series.recent(0, at(stats)).buckets) == 10
    series.read(1, at(stats), 0)

    assert sum(series.recent(0, at(stats)).buckets) == 10
    assert series.done(0, at(stats)) == 10


def test_done_counts_a_minute() -> None:
    """The rate of now is of MINUTE steps and since."""
    series, stats = Series(), HostStats()
    for number in range(1, 20):
        answer(stats, 1)
        series.read(number, at(stats), 0)
    stats.lost_by["reply_timeout"] += 1

    assert series.done(19, at(stats)) == MINUTE + 1


def test_series_of_all_hosts() -> None:
    """Steps of several hosts with one number become one step."""
    total = Series()
    for ok in (1, 2, 3):
        series, stats = Series(), HostStats()
        answer(stats, ok)
        step = series.read(1, at(stats), ok)
        assert step is not None
        total.add(step)

    (step,) = total.steps
    assert (step.ok, step.queue) == (6, 6)
    assert total.quantiles(1, 1.0)[-1] == 0.2


def test_quantiles_are_not_over_the_highest_latency() -> None:
    """100 requests at 66 s have a p99 of 66 s, not of the bucket's bound."""
    series, stats = Series(), HostStats()
    answer(stats, 100, 66.0)
    recent = series.recent(0, at(stats))

    series.read(1, at(stats), 0)

    assert estimate(recent.buckets, 0.99, recent.highest) == 66.0
    assert series.quantiles(1, 0.99)[-1] == 66_000.0
    assert series.recent(1, at(stats)).highest == 66.0


def test_lost_ones_are_counted_like_others() -> None:
    """In the sum of all hosts, in a minute, and in a chart of several steps a value."""
    one, two, stats = Series(), Series(), HostStats()
    for number in (1, 2):
        answer(stats, 1)
        stats.lost_by["reply_timeout"] += 2
        step = one.read(number, at(stats), 0)
        assert step
        two.add(step)
        two.add(step)

    assert [step.con_lost for step in two.steps] == [4, 4]
    assert one.done(2, at(stats)) == 6
    assert one.line(2, lambda step: step.con_lost, 2)[-1] == 4
    assert one.recent(2, at(stats)).ok == 0
    assert Series().recent(0, Reading()).con_lost == 0
