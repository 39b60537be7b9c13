# SPDX-License-Identifier: GPL-2.0-or-later
"""When to say again what happens often: at once, then at most once per interval."""

from __future__ import annotations

from math import inf


class Throttle:
    """Counts what happens, and lets one report through per `interval` seconds."""

    __slots__ = ("_due", "_unsaid", "interval")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._due = -inf
        self._unsaid = 0

    def count(self, now: float) -> int:
        """Count one; return how many to report now, itself included, or 0: not yet."""
        self._unsaid += 1
        if now < self._due:
            return 0
        unsaid, self._unsaid = self._unsaid, 0
        self._due = now + self.interval
        return unsaid
