# SPDX-License-Identifier: GPL-2.0-or-later
"""Accepts connections of one listening socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from gevent.hub import Hub

_READ: Final = 1
"""The event of a libev watcher."""

BURST: Final = 64
"""Connections accepted in one loop iteration at most."""


class Acceptor:
    """Calls `on_accept` with the non-blocking descriptor of each new connection.

    on_error: called with the OSError of an accept that fails for lack of descriptors, memory or
    for another reason that does not belong to one connection.
    """

    __slots__ = ("_expected", "_on_accept", "_on_error", "_socket", "_watcher")

    def __init__(
        self,
        hub: Hub,
        sock: socket,
        on_accept: Callable[[int], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._socket = sock
        self._on_accept = on_accept
        self._on_error = on_error
        self._watcher = hub.loop.io(sock.fileno(), _READ)
        self._expected = 1
        """How many connections are likely to wait, as an accept in vain costs a system call."""

    def start(self) -> None:
        """Accept from now on. Does nothing if it does already."""
        self._watcher.start(self.accept_some)

    def stop(self) -> None:
        """Leave new connections in the kernel's backlog."""
        self._watcher.stop()

    def accept_some(self) -> bool:
        """Accept the connections that wait, up to a bound; return whether there may be more."""
        # A descriptor, not a socket object, which costs three times as much.
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
            self._on_accept(fd)
        self._expected = min(self._expected + 1, BURST)
        return True

    def close(self) -> None:
        """Accept no more, and release the watcher. The socket stays open."""
        self._watcher.stop()
        self._watcher.close()
