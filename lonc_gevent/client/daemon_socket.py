# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - a blocking client cannot be given its timeout in any other way
"""A connection to the daemon, with its deadline, and what a client needs to wait on it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lonc_gevent.protocol.lines import LINE_END

from .errors import ConLost, HungUpError, NoDaemonError, TimedOutError
from .lines import CON_LOST, check_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")
U = TypeVar("U")

CHUNK: Final = 65536
"""Bytes that one read returns at most."""

BACKLOG_FULL_PAUSE: Final = 0.005
"""Seconds between two attempts to connect to a daemon whose backlog is full."""


class Waits(Protocol):
    """How a client waits. After `timeout` seconds a wait raises TimeoutError."""

    async def send(self, sock: socket.socket, data: bytes, timeout: float) -> None:
        """Send all bytes. Raises OSError."""

    async def receive(self, sock: socket.socket, timeout: float) -> bytes:
        """Return up to CHUNK bytes, b"" at the end of the stream. Raises OSError."""

    async def sleep(self, seconds: float) -> None:
        """Let this much time pass."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that reads and writes files."""

    async def for_each(self, function: Callable[[U], Awaitable[None]], items: Iterable[U]) -> None:
        """Call a coroutine function for each item, concurrently or one after the other."""


class DaemonSocket:
    """One connection to the daemon, and the deadline of the request on it."""

    __slots__ = ("_sock", "_waits", "deadline", "host", "path")

    def __init__(self, waits: Waits, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self.deadline = 0.0
        self._waits = waits
        self._sock: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._sock is not None

    def start(self, timeout: float) -> None:
        """Set the deadline of all waits that follow. Raises ValueError if it is not above 0."""
        self.deadline = time.monotonic() + check_timeout(timeout)

    async def connect(self) -> None:
        """Connect. Raises NoDaemonError and TimedOutError."""
        try:
            self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(0)
            while True:
                try:
                    # On a Unix socket this never waits; EAGAIN means that the backlog is full.
                    return sock.connect(self.path)
                except BlockingIOError:
                    await self._waits.sleep(min(BACKLOG_FULL_PAUSE, self._left()))
        except OSError as error:
            what = f"cannot connect to the daemon: {error.strerror or error}"
            raise NoDaemonError(self.host, self.path, what) from error

    async def send(self, line: bytes) -> bool:
        """Send a line; return whether the daemon took all of it. Raises TimedOutError."""
        sock = self._open_socket()
        try:
            await self._waits.send(sock, line, self._left())
        except TimeoutError:
            raise self._timed_out() from None
        except OSError:
            # The daemon closed the connection early. A reply that says why may be there to read.
            return False
        return True

    async def receive(self) -> bytes:
        """Return a whole reply, without its newline.

        Raises ConLost if it is con_lost, HungUpError and TimedOutError.
        """
        sock = self._open_socket()
        parts: list[bytes] = []
        while True:
            try:
                data = await self._waits.receive(sock, self._left())
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as error:
                raise self._hung_up(str(error.strerror)) from error
            if not data:
                raise self._hung_up("the daemon closed the connection before its whole reply")
            end = data.find(LINE_END)
            if end >= 0:
                break
            parts.append(data)
        if end != len(data) - 1:
            raise self._hung_up("the daemon sent more than one line")
        answer = b"".join((*parts, data[:end]))
        if answer == CON_LOST:
            raise ConLost(self.host, self.path, "con_lost")
        return answer

    def has_input(self) -> bool:
        """Whether there are bytes to read, or the daemon has closed the connection."""
        sock = self._open_socket()
        try:
            sock.settimeout(0)
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _open_socket(self) -> socket.socket:
        if self._sock is None:
            raise self._hung_up("the connection was closed by another thread, greenlet or task")
        return self._sock

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out()
        return left

    def _timed_out(self) -> TimedOutError:
        return TimedOutError(self.host, self.path, "no whole reply within the timeout")

    def _hung_up(self, what: str) -> HungUpError:
        return HungUpError(self.host, self.path, what)
