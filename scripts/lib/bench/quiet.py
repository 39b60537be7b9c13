# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring while others leave the machine alone.

What the host of a virtual machine takes for others counts as the time of whoever runs just then:
where it took half of both cores for a minute, a request cost ten times as much. So what was
disturbed is measured again, and if that goes on, a quiet moment is waited for.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")

DISTURBED: Final = 0.05
"""Share of a core that others took, above which something is measured again."""

TRIES: Final = 3
"""Times that it is measured, one directly after the other, before a quiet moment is waited for."""

PAUSE: Final = 2.0
"""Seconds between two tries after that."""


class Quiet:
    """Has things measured, again while they are disturbed; of these the least disturbed counts.

    `others` tells the CPU seconds that others have used; `patience` is how many seconds, in all,
    to wait for a quiet moment.
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
