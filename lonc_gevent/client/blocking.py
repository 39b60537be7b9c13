# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109, ASYNC251 - these coroutines block on purpose and never run in an event loop
"""`Client`, `Connection` and functions of a default client, for code that waits by blocking.

That is threads, plain scripts, and gevent: `socket.socket` and `time.sleep` are looked up when
they are called, so gevent's monkey patching, which is up to the application, makes them switch
greenlets. In a gevent application without it each wait stops all greenlets.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self

from .core import ClientCore
from .daemon_socket import CHUNK, T, U, Waits
from .host import HostCore
from .lines import TIMEOUT

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from .sockets import Where

P = ParamSpec("P")


class _BlockingWaits:
    async def send(self, sock: socket.socket, data: bytes, timeout: float) -> None:
        sock.settimeout(timeout)
        sock.sendall(data)

    async def receive(self, sock: socket.socket, timeout: float) -> bytes:
        sock.settimeout(timeout)
        return sock.recv(CHUNK)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    async def for_each(self, function: Callable[[U], Awaitable[None]], items: Iterable[U]) -> None:
        for item in items:
            await function(item)


def _blocking(coroutine_function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make a function of a coroutine function that waits with _BlockingWaits."""

    @functools.wraps(coroutine_function)
    def function(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            coroutine_function(*args, **kwargs).send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a coroutine suspended, though all of its waits block")

    function.__module__ = __name__  # for pickle, which looks functions up by module and name
    function.__name__ = function.__qualname__ = coroutine_function.__name__.removeprefix("_")
    return function


class Client(ClientCore):  # noqa: D101 - the next line
    __doc__ = ClientCore.__doc__
    _waits: ClassVar[Waits] = _BlockingWaits()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(self, host: str) -> Host:
        """Return an object with `reply` and `critical` for one host."""
        return Host(self, host)

    reply = _blocking(ClientCore._reply)  # noqa: SLF001 - of the class's own base
    many = _blocking(ClientCore._many)  # noqa: SLF001
    critical = _blocking(ClientCore._critical)  # noqa: SLF001


class Host(HostCore):  # noqa: D101 - the next line
    __doc__ = HostCore.__doc__

    reply = _blocking(HostCore._reply)  # noqa: SLF001 - of the class's own base
    critical = _blocking(HostCore._critical)  # noqa: SLF001


class Connection(Host):
    """A host with a client of its own that keeps one connection open, for loops.

    `timeout` (seconds, for each request) and `sockets` are as in `Client`.
    """

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        super().__init__(Client(sockets=sockets, timeout=timeout, max_kept=1), host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next request opens it again."""
        self.client.close()


_DEFAULT = Client(max_kept=0)
"""The client of the functions. It keeps no connection open, since nothing would close it."""

reply = _blocking(_DEFAULT._reply)  # noqa: SLF001 - functions, which pickle, and not methods
many = _blocking(_DEFAULT._many)  # noqa: SLF001
critical = _blocking(_DEFAULT._critical)  # noqa: SLF001
