# SPDX-License-Identifier: GPL-2.0-or-later
"""Fairness between greenlets that never have to wait, and all others."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import gevent
from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gevent.hub import Hub
    from greenlet import greenlet

SLICE: Final = 0.001
"""Seconds of work before `in_slices` lets others run."""

DISCONNECTS: Final = 128
"""Disconnects handled in one loop iteration."""

BACKLOG_SHARE: Final = 64
"""Of the disconnects put off, one in so many is handled in one loop iteration at least: thousands
of descriptors are not to stay open for long."""

T = TypeVar("T")


def yield_to_others(hub: Hub) -> None:
    """Let every other greenlet that is ready, and every readable descriptor, run first.

    `gevent.sleep(0)` returns before the loop has polled its descriptors, and a timer of normal
    priority before the callbacks of those that are readable.
    """
    timer = hub.loop.timer(0, priority=hub.loop.MINPRI)  # type: ignore[attr-defined]
    timer.start(getcurrent().switch)
    try:
        hub.switch()
    finally:
        timer.stop()
        timer.close()


def in_slices(items: Iterable[T]) -> Iterator[T]:
    """Yield the items; after each SLICE of work on them, let others run.

    The items must not change meanwhile: pass a tuple. Only for greenlets that may wait.
    """
    hub = gevent.get_hub()
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began > SLICE:
            yield_to_others(hub)
            began = monotonic()


class DisconnectLimiter:
    """Bounds how many disconnects one loop iteration handles.

    Without it a mass disconnect (thousands of web processes that end at once) would be handled as
    a whole before the next request is read, as libev calls all ready watchers before it polls
    again.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting: deque[list[greenlet]] = deque()
        self._timer = hub.loop.timer(0)
        self._iteration = 0.0
        self._handled = 0

    def __repr__(self) -> str:
        return f"<DisconnectLimiter {len(self._waiting)} waiting>"

    def wait(self) -> None:
        """Return once the calling greenlet may close its disconnected descriptor."""
        # The loop reads the clock once an iteration, so its time identifies the iteration.
        iteration = self._hub.loop.now()
        if iteration != self._iteration:
            self._iteration = iteration
            self._handled = 0
        self._handled += 1
        if self._handled <= DISCONNECTS and not self._waiting:
            return
        if not self._waiting:
            self._timer.start(self._resume_some)
        place = [getcurrent()]  # emptied by `_resume_some`
        self._waiting.append(place)
        while place:
            self._hub.switch()

    def _resume_some(self) -> None:
        waiting = self._waiting
        try:
            for _ in range(min(len(waiting), max(DISCONNECTS, len(waiting) // BACKLOG_SHARE))):
                waiting.popleft().pop().switch()
        finally:
            if waiting:
                self._timer.start(self._resume_some)

    def close(self) -> None:
        """Stop the timer. Nothing must wait any more."""
        self._timer.stop()
        self._timer.close()
