# SPDX-License-Identifier: GPL-2.0-or-later
"""Rate limit for repeated log events."""

from __future__ import annotations

from math import inf


class Throttle:
    """Counts occurrences and allows one report per `interval` seconds, the first at once."""

    __slots__ = ("_due", "_unreported", "interval")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._due = -inf
        self._unreported = 0

    def count(self, now: float) -> int:
        """Count one occurrence; return the number to report now, or 0 if it is too early."""
        self._unreported += 1
        if now < self._due:
            return 0
        unreported, self._unreported = self._unreported, 0
        self._due = now + self.interval
        return unreported
