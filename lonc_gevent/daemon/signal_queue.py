# SPDX-License-Identifier: GPL-2.0-or-later
"""The signal queue: commands that wait to be run by the main greenlet, one at a time.

A signal handler only puts a command into the queue. A command to stop is also counted at once
(`stops`), so that a command which takes long can end early.
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


class Command(Enum):
    """The command that a signal stands for (contract.md, "Signals")."""

    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    HOSTS = "hosts"
    STACKS = "stacks"


SIGNALS: Final = {
    signal.SIGTERM: Command.STOP,
    signal.SIGINT: Command.STOP,
    signal.SIGHUP: Command.RESTART,
    signal.SIGUSR1: Command.STATUS,
    signal.SIGUSR2: Command.HOSTS,
    signal.SIGQUIT: Command.STACKS,
}


class SignalQueue:
    """Commands that wait to be run, and functions to call that follow from earlier commands."""

    def __init__(self, hub: Hub) -> None:
        self._watchers = [hub.loop.signal(number) for number in SIGNALS]
        self._queue: SimpleQueue[Command | Callable[[], None]] = SimpleQueue()
        self.stops = 0
        """The number of commands to stop so far."""

    def __repr__(self) -> str:
        return f"<SignalQueue {self._queue.qsize()} waiting, stops={self.stops}>"

    def listen(self) -> None:
        """Receive signals from now on, also those that `hold_signals` has held back."""
        for watcher, command in zip(self._watchers, SIGNALS.values(), strict=True):
            watcher.start(self.put, command)
        release_signals()

    def put(self, command: Command | Callable[[], None]) -> None:
        """Put a command, or a function to call, into the queue. Never waits."""
        if command is Command.STOP:
            self.stops += 1
        self._queue.put(command)

    def get(self) -> Command | Callable[[], None]:
        """Wait for the oldest entry, remove it and return it."""
        return self._queue.get()

    def close(self) -> None:
        """Ignore signals from now on: another one must not change the exit code of a stop."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def hold_signals() -> None:
    """Keep our signals pending in the kernel until `listen` is called, also over an exec.

    An exec resets the handlers. Without this a second HUP right after the first would end the
    process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def release_signals() -> None:
    """Deliver our signals again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stacks() -> bytes:
    """Return the stack of every greenlet and thread, as text."""
    gc.unfreeze()  # gevent finds greenlets among the objects of the collector (life_cycle.py)
    lines: list[str] = format_run_info()  # type: ignore[func-returns-value, assignment]
    gc.freeze()
    return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
