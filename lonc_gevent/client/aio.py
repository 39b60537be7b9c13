# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - the timeouts of `Waits`
"""The names of `lonc_gevent.client` for asyncio; `Client` is `AsyncClient` here.

Arguments, results and errors are those of the same names in `lonc_gevent.client`. Cancelling a
task loses only its reply. Files are written in a thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Self

from . import common
from .common import *  # noqa: F403 - all that does not wait
from .core import ClientCore
from .daemon_socket import CHUNK, T, U, Waits
from .host import HostCore
from .lines import TIMEOUT

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from .sockets import Where

__all__ = ["AsyncClient", "Client", "Connection", "Host", "critical", "many", "reply"]
__all__ += common.__all__


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


class AsyncClient(ClientCore):  # noqa: D101 - the next line
    __doc__ = ClientCore.__doc__
    _waits: ClassVar[Waits] = _AsyncioWaits()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def aclose(self) -> None:
        """Close the connections that are kept open, as `close` does."""
        self.close()

    def host(self, host: str) -> Host:
        """Return an object with `reply` and `critical` for one host."""
        return Host(self, host)

    reply = ClientCore._reply  # noqa: SLF001 - of the class's own base
    many = ClientCore._many  # noqa: SLF001
    critical = ClientCore._critical  # noqa: SLF001


Client = AsyncClient


class Host(HostCore):  # noqa: D101 - the next line
    __doc__ = HostCore.__doc__

    reply = HostCore._reply  # noqa: SLF001 - of the class's own base
    critical = HostCore._critical  # noqa: SLF001


class Connection(Host):
    """A host with a client of its own that keeps one connection open, for loops.

    `timeout` (seconds, for each request) and `sockets` are as in `AsyncClient`.
    """

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        super().__init__(AsyncClient(sockets=sockets, timeout=timeout, max_kept=1), host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next request opens it again."""
        self.client.close()


_DEFAULT = AsyncClient(max_kept=0)
"""The client of the functions. It keeps no connection open, since nothing would close it."""

reply = _DEFAULT.reply
many = _DEFAULT.many
critical = _DEFAULT.critical
