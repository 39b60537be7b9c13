# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: shut for a random share of an exponential delay, and never for good."""

from __future__ import annotations

import pytest

from lonc_gevent.backend.retry_gate import RetryGate


def test_a_new_gate_is_open() -> None:
    """The first attempt need not wait."""
    assert RetryGate(0.5, 60.0).is_open(0.0)


def test_each_failure_doubles_the_longest_delay() -> None:
    """The delay's upper bound doubles with each failure, up to the maximum."""
    gate = RetryGate(0.5, 3.0)

    ceilings = []
    for _ in range(5):
        ceilings.append(gate.ceiling)
        gate.failed(100.0, 0.0)

    assert ceilings == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.999])
def test_the_delay_is_a_share_of_the_longest(share: float) -> None:
    """Full jitter, from the first failure on."""
    gate = RetryGate(0.5, 60.0)

    assert gate.failed(100.0, share) == 0.5 * share
    assert gate.is_open(100.0 + 0.5 * share)
    assert share == 0.0 or not gate.is_open(100.0 + 0.49 * share)


def test_it_never_gives_up() -> None:
    """After any number of failures the delay is the maximum at most."""
    gate = RetryGate(0.5, 60.0)

    for _ in range(5000):
        assert gate.failed(0.0, 0.999) < 60.0


def test_opening_forgets_the_failures() -> None:
    """A success, or a person, makes the next failure the first one again."""
    gate = RetryGate(0.5, 60.0)
    for _ in range(3):
        gate.failed(100.0, 0.9)

    gate.open()

    assert gate.is_open(0.0)
    assert gate.ceiling == 0.5
