# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals become requests to the one greenlet that acts on them.

A handler only puts a request into a queue. What the main greenlet does with it may take its time:
further requests wait, except that a request to stop can be seen at once (`stops`).
"""

from __future__ import annotations

import gc
import signal
from enum import Enum
from typing import TYPE_CHECKING, Final

from gevent.queue import SimpleQueue
from gevent.util import format_run_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub


class Request(Enum):
    """What a signal can ask for (contract.md, "Signals"; QUIT is for whoever looks for a fault)."""

    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    HOSTS = "hosts"
    STACKS = "stacks"


SIGNALS: Final = {
    signal.SIGTERM: Request.STOP,
    signal.SIGINT: Request.STOP,
    signal.SIGHUP: Request.RESTART,
    signal.SIGUSR1: Request.STATUS,
    signal.SIGUSR2: Request.HOSTS,
    signal.SIGQUIT: Request.STACKS,
}


class Control:
    """The queue of what is asked for: requests, and actions that follow from earlier ones."""

    def __init__(self, hub: Hub) -> None:
        self._watchers = [hub.loop.signal(number) for number in SIGNALS]
        self._queue: SimpleQueue[Request | Callable[[], None]] = SimpleQueue()
        self.stops = 0
        """How often somebody asked to stop."""

    def __repr__(self) -> str:
        return f"<Control {self._queue.qsize()} waiting, stops={self.stops}>"

    def listen(self) -> None:
        """Take signals from now on. Those held back by a restart (`hold_signals`) come now."""
        for watcher, request in zip(self._watchers, SIGNALS.values(), strict=True):
            watcher.start(self.put, request)
        release_signals()

    def put(self, request: Request | Callable[[], None]) -> None:
        """Ask for something. Never waits."""
        if request is Request.STOP:
            self.stops += 1
        self._queue.put(request)

    def get(self) -> Request | Callable[[], None]:
        """Wait for the next thing to do."""
        return self._queue.get()

    def close(self) -> None:
        """Ignore what comes: whoever asks once more must not spoil the exit code of a stop."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def hold_signals() -> None:
    """Keep our signals waiting in the kernel, over an exec too, until somebody `listen`s.

    The handlers end with the exec. Without this a second HUP right after the first would end
    the process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def release_signals() -> None:
    """Let our signals come again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stacks() -> bytes:
    """Return the stack of every greenlet and thread, for people."""
    gc.unfreeze()  # gevent finds greenlets among the collector's objects (see life_cycle.py)
    lines: list[str] = format_run_info()  # type: ignore[func-returns-value, assignment]
    gc.freeze()
    return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
