# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - the timeouts of `Waits`
"""The same names for asyncio: `reply`, `many`, `critical`, `Connection`.

Arguments, results and errors are those of the same names in `lonc_gevent.client`. Cancelling a
task loses only its reply. Files are written in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from .core import Client, KeptConnection
from .daemon_socket import CHUNK, T, U
from .errors import (
    ClientError,
    ConFailed,
    ConLost,
    HungUpError,
    NoDaemonError,
    TimedOutError,
    UnknownHostError,
)
from .lines import CON_DELAYED, CON_FAILED, CON_LOST, TIMEOUT
from .sockets import Sockets, Where

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

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


class _AsyncioWaits:
    async def send(self, sock: socket.socket, data: bytes, timeout: float) -> None:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_sendall(sock, data)

    async def receive(self, sock: socket.socket, timeout: float) -> bytes:
        async with asyncio.timeout(timeout):
            return await asyncio.get_running_loop().sock_recv(sock, CHUNK)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    async def for_each(self, function: Callable[[U], Awaitable[None]], items: Iterable[U]) -> None:
        await asyncio.gather(*(function(item) for item in items))


_WAITS = _AsyncioWaits()
_CLIENT = Client(_WAITS)

reply = _CLIENT.reply
many = _CLIENT.many
critical = _CLIENT.critical


class Connection(KeptConnection):
    """A connection that stays open, as `lonc_gevent.client.Connection` is; one task at a time."""

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        super().__init__(_WAITS, host, timeout, sockets)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    reply = KeptConnection._reply  # noqa: SLF001 - of the class's own base
