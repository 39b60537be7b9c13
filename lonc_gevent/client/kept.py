# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that a client keeps open between requests."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .daemon_socket import DaemonSocket


class KeptSockets:
    """At most `limit` open connections, over all hosts; the least recently used is closed.

    Any thread, greenlet or task takes the connection that was used last. Nothing switches while
    the lock is held, so it is right for greenlets and tasks too. A forked child begins with none:
    on a shared connection, parent and child would get each other's replies.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: list[DaemonSocket] = []
        _all.add(self)
        # A client of a module is never closed: no ResourceWarning at the end of the process.
        weakref.finalize(self, _close, self._open)

    def __len__(self) -> int:
        return len(self._open)

    def take(self, path: str) -> DaemonSocket | None:
        """Return a connection to this socket that has no input, or None."""
        while self._open:
            with self._lock:
                for index in range(len(self._open) - 1, -1, -1):
                    if self._open[index].path == path:
                        sock = self._open.pop(index)
                        break
                else:
                    return None
            # Input is the end of the stream after a restart of the daemon, or a line that would be
            # taken for the next reply.
            if not sock.has_input():
                return sock
            sock.close()
        return None

    def give(self, sock: DaemonSocket) -> None:
        """Keep a connection whose last reply was read whole."""
        if not self._limit:
            sock.close()
            return
        with self._lock:
            self._open.append(sock)
            oldest = self._open.pop(0) if len(self._open) > self._limit else None
        if oldest:
            oldest.close()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            _close(self._open)

    def after_fork(self) -> None:
        """Begin anew: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
        self.close()


def _close(socks: list[DaemonSocket]) -> None:
    while socks:
        socks.pop().close()


_all: weakref.WeakSet[KeptSockets] = weakref.WeakSet()


def _after_fork() -> None:
    for kept in list(_all):
        kept.after_fork()


os.register_at_fork(after_in_child=_after_fork)
