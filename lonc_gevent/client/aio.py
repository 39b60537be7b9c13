# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - each is the twin of a function that blocks, timeout and all
"""The same names for asyncio: `reply`, `many`, `critical`, `Connection`.

What they do, take and raise is what their twins in `lonc_gevent.client` do. A task that is
cancelled loses only its reply. Files are written in a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from lonc_gevent.protocol.lines import LINE_END, RESET_RETRIES

from .critical_request import RECONNECT_PAUSE, RECONNECT_SECONDS, save, signal_daemon
from .errors import (
    ClientError,
    ConFailed,
    ConLost,
    HungUpError,
    NoDaemonError,
    TimedOutError,
    UnknownHostError,
)
from .lines import (
    BACKLOG_FULL_PAUSE,
    CHUNK,
    CON_DELAYED,
    CON_FAILED,
    CON_LOST,
    TIMEOUT,
    OnConLost,
    check_timeout,
    to_line,
)
from .sockets import Sockets, Where, find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = [
    "CON_DELAYED",
    "CON_FAILED",
    "CON_LOST",
    "ClientError",
    "ConFailed",
    "ConLost",
    "Connection",
    "HungUpError",
    "NoDaemonError",
    "Sockets",
    "TimedOutError",
    "UnknownHostError",
    "critical",
    "many",
    "reply",
]


async def reply(
    request: bytes,
    host: str,
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> bytes:
    """Send a request to a host and return its reply, as `lonc_gevent.client.reply` does."""
    line = to_line(request, encrypt=encrypt)
    link = _Link(host, find(sockets).path_of(host))
    try:
        async with link.within(timeout):
            await link.connect()
            await link.send(line)
            return await link.receive()
    except ConLost:
        if on_con_lost == "return":
            return CON_LOST
        raise
    finally:
        link.close()


async def many(
    requests: Mapping[str, bytes],
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> dict[str, bytes | ClientError]:
    """Send one request to each of several hosts at once, as `lonc_gevent.client.many` does."""
    place = find(sockets)
    for request in requests.values():
        to_line(request, encrypt=encrypt)  # what is wrong is said before anything is sent

    async def outcome(host: str, request: bytes) -> bytes | ClientError:
        try:
            return await reply(
                request,
                host,
                timeout=timeout,
                encrypt=encrypt,
                on_con_lost=on_con_lost,
                sockets=place,
            )
        except ClientError as error:
            return error

    outcomes = await asyncio.gather(*(outcome(*item) for item in requests.items()))
    return dict(zip(requests, outcomes, strict=True))


async def critical(
    request: bytes,
    host: str,
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> bytes:
    """Send a request that must not be lost, as `lonc_gevent.client.critical` does.

    Cancelled, it makes no promise: the request may or may not have been sent or saved.
    """
    line = to_line(request, encrypt=encrypt)
    place = find(sockets)
    deadline = time.monotonic() + check_timeout(timeout)
    try:
        return await reply(line[:-1], host, timeout=timeout, sockets=place)
    except (ConLost, TimedOutError) as error:
        cause: ClientError = error
    try:
        await _reconnect(host, place, deadline)
        left = max(deadline - time.monotonic(), 0)
        if left:
            return await reply(line[:-1], host, timeout=left, sockets=place)
    except (ConLost, TimedOutError) as error:
        cause = error
    return await asyncio.to_thread(save, line, place, cause, on_con_lost)


async def _reconnect(host: str, place: Sockets, deadline: float) -> None:
    """Do what `critical.reconnect` does."""
    signal_daemon(place)
    now = time.monotonic()
    deadline = min(deadline, now + RECONNECT_SECONDS)
    while deadline > now:
        try:
            await reply(RESET_RETRIES[:-1], host, timeout=deadline - now, sockets=place)
        except NoDaemonError:
            await asyncio.sleep(RECONNECT_PAUSE)
        else:
            return
        now = time.monotonic()


class Connection:
    """A connection that stays open, as `lonc_gevent.client.Connection` is; one task at a time."""

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        self.host = host
        self.timeout = check_timeout(timeout)
        self._link = _Link(host, find(sockets).path_of(host))
        self._pid = 0
        self._busy = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.host} {'open' if self._link.is_open else 'closed'}>"

    def close(self) -> None:
        """Close it; it opens again when it is used again."""
        self._link.close()

    async def reply(
        self,
        request: bytes,
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
    ) -> bytes:
        """Send a request and return its reply, as the function `reply` does.

        Raises RuntimeError if another task is in the middle of a request.
        """
        line = to_line(request, encrypt=encrypt)
        if self._busy:
            raise RuntimeError(f"{self!r} is in use: each task needs its own")
        self._busy = True
        try:
            async with self._link.within(self.timeout if timeout is None else timeout):
                return await self._exchange(line)
        except ConLost as error:
            if type(error) is not ConLost:
                self._link.close()
            if on_con_lost == "return":
                return CON_LOST
            raise
        except BaseException:
            # A reply that may still come is nobody's; a cancelled task is no Exception.
            self._link.close()
            raise
        finally:
            self._busy = False

    async def _exchange(self, line: bytes) -> bytes:
        link = self._link
        reusable = link.is_open and self._pid == os.getpid() and link.is_quiet()
        # If not all of the line is taken, it has not run, and may go to the next connection.
        if reusable and await link.send(line):
            return await link.receive()
        link.close()
        self._pid = os.getpid()
        await link.connect()
        await link.send(line)
        return await link.receive()


class _Link:
    """One socket to the daemon; all that waits belongs into `within`."""

    __slots__ = ("_sock", "host", "path")

    def __init__(self, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self._sock: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    @asynccontextmanager
    async def within(self, timeout: float) -> AsyncIterator[None]:
        """Limit what is done inside to `timeout` seconds. Raises TimedOutError."""
        limit = asyncio.timeout(check_timeout(timeout))
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOutError(self.host, self.path, "no whole reply in time") from None

    async def connect(self) -> None:
        try:
            self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(0)
            while True:
                try:
                    # Never waits, so the loop is not needed; the loop would take EAGAIN for "soon".
                    return sock.connect(self.path)
                except BlockingIOError:
                    await asyncio.sleep(BACKLOG_FULL_PAUSE)
        except OSError as error:
            what = f"no daemon answers here: {error.strerror or error}"
            raise NoDaemonError(self.host, self.path, what) from error

    async def send(self, line: bytes) -> bool:
        try:
            await asyncio.get_running_loop().sock_sendall(self._open_socket(), line)
        except OSError:
            # It is gone, or does not want all of the line. There may be a reply that says so.
            return False
        return True

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        sock = self._open_socket()
        parts: list[bytes] = []
        while True:
            try:
                data = await loop.sock_recv(sock, CHUNK)
            except OSError as error:
                raise self._hung_up(str(error.strerror)) from error
            if not data:
                raise self._hung_up("it closed before its whole reply")
            end = data.find(LINE_END)
            if end >= 0:
                break
            parts.append(data)
        if end != len(data) - 1:
            raise self._hung_up("it sent more than one line")
        answer = b"".join((*parts, data[:end]))
        if answer == CON_LOST:
            raise ConLost(self.host, self.path, "con_lost")
        return answer

    def is_quiet(self) -> bool:
        try:
            self._open_socket().recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _open_socket(self) -> socket.socket:
        if self._sock is None:
            raise self._hung_up("it was closed by another task")
        return self._sock

    def _hung_up(self, what: str) -> HungUpError:
        return HungUpError(self.host, self.path, what)
