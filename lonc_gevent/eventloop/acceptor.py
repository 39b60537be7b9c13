# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits how many clients are accepted, and how many disconnects handled, per loop iteration."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from gevent.hub import Hub
    from greenlet import greenlet

_READ: Final = 1
"""The event of a libev watcher."""

BURST: Final = 64
"""Connections accepted in one loop iteration at most."""

DISCONNECTS: Final = 128
"""Disconnects handled in one loop iteration."""

BACKLOG_SHARE: Final = 64
"""At least 1/BACKLOG_SHARE of the postponed disconnects are handled in one loop iteration, so that
thousands of descriptors do not stay open for long."""


class Acceptor:
    """Calls `on_accept` with the non-blocking descriptor of each new connection.

    on_error: called with the OSError of an accept that fails for lack of descriptors or memory, or
    for another reason that does not concern a single connection.
    """

    __slots__ = ("_expected", "_on_error", "_socket", "_watcher", "on_accept")

    def __init__(
        self,
        hub: Hub,
        sock: socket,
        on_accept: Callable[[int], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._socket = sock
        self.on_accept = on_accept
        self._on_error = on_error
        self._watcher = hub.loop.io(sock.fileno(), _READ)
        self._expected = 1
        """Connections that are likely to wait, as an accept without one costs a system call."""

    def start(self) -> None:
        """Accept connections from now on. Does nothing if already started."""
        self._watcher.start(self.accept_some)

    def stop(self) -> None:
        """Leave new connections in the kernel's backlog."""
        self._watcher.stop()

    def accept_some(self) -> bool:
        """Accept the connections that wait, up to a bound; return whether there may be more."""
        # Returns a descriptor. A socket object costs three times as much.
        accept = self._socket._accept  # type: ignore[attr-defined]  # noqa: SLF001
        for count in range(self._expected):
            try:
                fd, _address = accept()
            except BlockingIOError:
                self._expected = count or 1
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._on_error(error)
                return False
            os.set_blocking(fd, False)
            self.on_accept(fd)
        self._expected = min(self._expected + 1, BURST)
        return True

    def close(self) -> None:
        """Stop accepting and release the watcher. The socket stays open."""
        self._watcher.stop()
        self._watcher.close()


class DisconnectLimiter:
    """Limits how many disconnects one loop iteration handles.

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
        """Stop the timer. No greenlet must wait any more."""
        self._timer.stop()
        self._timer.close()
