# SPDX-License-Identifier: GPL-2.0-or-later
"""Who hangs up gives way to who asks: some in each turn (turns.py), the rest in a while.

10,000 web processes that leave in the same moment would otherwise be seen to, all of them, before
the next request is read.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from gevent.hub import Hub

HANG_UPS: Final = 32
"""Hang-ups that a turn sees to, and again of those put off before."""

SHARE: Final = 64
"""Of those put off, one in so many at least: 10,000 descriptors are not held open for long.

With one in eight, others waited for up to 110 ms while 10,000 left; with this for 17 to 39.
"""


class Told(Protocol):
    """What is told of something to read."""

    def on_readable(self) -> None:
        """Hear that there may be something to read."""


class HangUps:
    """Those that were hung up on and put off, all watched by one `Turns`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._put_off: deque[Told] = deque()
        self._later = hub.loop.timer(0)
        self._in_turn = 0
        self._asked = 0
        """How many have asked for something since the last catching up."""

    def __repr__(self) -> str:
        return f"<HangUps {len(self)} put off>"

    def __len__(self) -> int:
        """Return how many are put off."""
        return len(self._put_off)

    def begin_turn(self) -> None:
        """Hear that another turn begins."""
        self._in_turn = 0

    def asked(self, count: int) -> None:
        """Hear of so many that had something to read and were not hung up on."""
        self._asked += count

    def is_one_too_many(self) -> bool:
        """Count one more in this turn; return whether it is to be put off."""
        self._in_turn += 1
        return self._in_turn > HANG_UPS

    def put_off(self, reader: Told) -> None:
        """Tell the reader later. It is not watched any more: that would only tell it again."""
        if not self._put_off:
            self._later.start(self._catch_up)
        self._put_off.append(reader)

    def close(self) -> None:
        """Tell nobody any more."""
        self._later.stop()
        self._later.close()

    def _catch_up(self) -> None:
        put_off = self._put_off
        # Whoever asks hangs up once: as many as have asked go, or they would pile up under load.
        due = max(HANG_UPS, self._asked, len(put_off) // SHARE)
        self._asked = 0
        try:
            for _ in range(min(len(put_off), due)):
                # It may be closed by now, or somebody else's: then it is woken for nothing.
                reader = put_off.popleft()
                try:
                    reader.on_readable()
                except BaseException:  # noqa: BLE001 - an error of one is not the end of all
                    self._hub.handle_error(reader, *sys.exc_info())
        finally:
            if put_off:
                self._later.start(self._catch_up)
