# SPDX-License-Identifier: GPL-2.0-or-later
"""Backoff and circuit breaker of one host: a gate that shuts for longer after each failure.

The delay after the n-th failure in a row is a random share of min(maximum, minimum * 2**n):
"full jitter", from the first retry on, so that many hosts lost in one second are not redialled
in one second. The number of attempts has no limit (the original marked a host dead for good:
protocol.md, section 5). A value object: `now` and the random number are passed in.
"""

from __future__ import annotations

from msgspec import Struct


class RetryGate(Struct):
    """A gate that shuts for a delay after a failed attempt, and is open otherwise.

    minimum   upper bound of the first delay, in seconds
    maximum   upper bound of each delay, in seconds
    failures  failed attempts in a row
    opens_at  when it opens (monotonic seconds)
    """

    minimum: float
    maximum: float
    failures: int = 0
    opens_at: float = 0.0

    def __repr__(self) -> str:
        return f"<RetryGate failures={self.failures} opens_at={self.opens_at:.3f}>"

    @property
    def ceiling(self) -> float:
        """The longest that the next failure can shut the gate for, in seconds."""
        # 2**62 is far beyond any maximum; without the cap the integer grows for years.
        return min(self.maximum, self.minimum * float(1 << min(self.failures, 62)))

    def is_open(self, now: float) -> bool:
        """Whether an attempt may be made at `now`."""
        return now >= self.opens_at

    def failed(self, now: float, share: float) -> float:
        """Note a failed attempt; return the delay in seconds. `share` is random in [0, 1)."""
        delay = self.ceiling * share
        self.failures += 1
        self.opens_at = now + delay
        return delay

    def open(self) -> None:
        """Forget all failures: an attempt succeeded, or one is requested now."""
        self.failures = 0
        self.opens_at = 0.0
