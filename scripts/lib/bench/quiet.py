# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring while other processes leave the machine alone.

CPU time that the host of a virtual machine takes counts as time of the process that runs just then.
So a disturbed measurement is repeated, and if it is disturbed again, a quiet moment is awaited.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")

DISTURBED: Final = 0.05
"""Share of a core that others used, above which a measurement is repeated."""

TRIES: Final = 3
"""Measurements, one directly after the other, before a quiet moment is awaited."""

PAUSE: Final = 2.0
"""Seconds between two tries after that."""


class Quiet:
    """Repeats measurements that are disturbed; the least disturbed one counts.

    others    returns the CPU seconds that other processes have used
    patience  seconds to wait for quiet moments, in all
    """

    def __init__(self, others: Callable[[], float], patience: float) -> None:
        self.measured = self.tries = 0
        self.waited = 0.0
        """Seconds, with what was measured then."""
        self._others = others
        self._patience = patience

    def measure(self, action: Callable[[], Found]) -> tuple[Found, list[Found]]:
        """Return what the action gave in its least disturbed try, and what it gave in each."""
        self.measured += 1
        found: list[Found] = []
        best, least = 0, inf
        while True:
            began, others = time.monotonic(), self._others()
            found.append(action())
            took, others = time.monotonic() - began, self._others() - others
            if others / took < least:
                best, least = len(found) - 1, others / took
            if len(found) > TRIES:
                self.waited += took + PAUSE
            if least <= DISTURBED or (len(found) >= TRIES and self.waited >= self._patience):
                break
            if len(found) >= TRIES:
                time.sleep(PAUSE)
        self.tries += len(found)
        return found[best], found
