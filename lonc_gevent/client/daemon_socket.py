# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - a blocking client cannot be given its timeout in any other way
"""A connection to the daemon, with its deadline, and what a client needs to wait on it."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lonc_gevent.protocol.lines import LINE_END

from .errors import (
    ClientError,
    DisconnectedError,
    NoDaemonError,
    PermissionDeniedError,
    TimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .sockets import Sockets

T = TypeVar("T")
U = TypeVar("U")
E = TypeVar("E", bound=ClientError)

CHUNK: Final = 65536
"""Bytes that one read returns at most."""

BACKLOG_FULL_PAUSE: Final = 0.005
"""Seconds between two attempts to connect to a daemon whose backlog is full."""

RESTART_PAUSE: Final = 0.05
"""Seconds between two looks for a socket that is missing."""


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
    """One connection to the daemon, and the deadline of the request on it.

    Raises NoDaemonError if the process has no descriptor left.
    """

    __slots__ = ("_sent", "_sock", "_waits", "deadline", "host", "path")

    def __init__(self, waits: Waits, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self.deadline = 0.0
        self._waits = waits
        self._sent = False
        try:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            what = f"cannot open a socket: {error.strerror or error}"
            raise NoDaemonError(host, path, what) from error

    async def connect(self, place: Sockets, connect_by: float) -> None:
        """Connect. Raises NoDaemonError, UnknownHostError and TimedOutError."""
        self._sock.settimeout(0)
        by = min(self.deadline, connect_by)
        seen = None
        while True:
            try:
                # On a Unix socket this never waits; EAGAIN means that the backlog is full.
                return self._sock.connect(self.path)
            except BlockingIOError:
                await self._waits.sleep(min(BACKLOG_FULL_PAUSE, self._left(by)))
            except FileNotFoundError:
                # A daemon that starts or stops has some of its sockets. While it goes on, the
                # directory changes.
                stamp = place.stamp()
                error = place.missing(self.host, self.path)
                if stamp == seen or isinstance(error, NoDaemonError):
                    raise error from None
                await self._waits.sleep(min(RESTART_PAUSE, self._left(by)))
                seen = stamp
            except PermissionError as error:
                what = f"permission denied for uid {os.geteuid()}: see sockets.mode, sockets.group"
                raise PermissionDeniedError(self.host, self.path, what) from error
            except OSError as error:
                what = f"cannot connect to the daemon: {error.strerror or error}"
                raise NoDaemonError(self.host, self.path, what) from error

    async def send(self, line: bytes) -> None:
        """Send a line. Raises TimedOutError.

        If the daemon has closed the connection, `receive` returns or raises the reason.
        """
        self._sent = False
        try:
            # The socket does not block here, and its buffer is empty: this is nearly always all.
            done = self._sock.send(line)
        except BlockingIOError:
            done = 0
        except OSError:
            return
        try:
            if done < len(line):
                await self._waits.send(self._sock, line[done:], self._left(self.deadline))
        except TimeoutError:
            raise self._timed_out() from None
        except OSError:
            return
        self._sent = True

    async def receive(self) -> bytes:
        """Return a whole reply, without its newline. Raises DisconnectedError, TimedOutError."""
        parts: list[bytes] = []
        while True:
            try:
                data = await self._waits.receive(self._sock, self._left(self.deadline))
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as error:
                # Linux resets a Unix socket if its other end closes with bytes unread: the daemon
                # has not read the whole line, so it has not run.
                self._sent = self._sent and bool(parts)
                raise self._disconnected(f"disconnected: {error.strerror}") from error
            if not data:
                raise self._disconnected("the daemon closed the connection before its whole reply")
            end = data.find(LINE_END)
            if end >= 0:
                break
            parts.append(data)
        if end != len(data) - 1:
            raise self._disconnected("the daemon sent more than one line")
        return b"".join((*parts, data[:end])) if parts else data[:end]

    def has_input(self) -> bool:
        """Whether there are bytes to read, or the daemon has closed the connection."""
        try:
            self._sock.settimeout(0)
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out()
        return left

    def _timed_out(self) -> TimedOutError:
        what = "no whole reply within the timeout"
        if not self._sent:
            what = "the daemon did not take the request within the timeout"
        return self._marked(TimedOutError(self.host, self.path, what))

    def _disconnected(self, what: str) -> DisconnectedError:
        if not self._sent:
            what += "; it had not read the request (is it stopping? see sockets.allow_uids)"
        return self._marked(DisconnectedError(self.host, self.path, what))

    def _marked(self, error: E) -> E:
        # The daemon sends no part of a line to lond.
        error.may_have_run = self._sent
        return error
