# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109, ASYNC251 - these coroutines block on purpose and never run in an event loop
"""`reply`, `many`, `critical` and `Connection` for code that waits by blocking.

That is threads, plain scripts, and gevent: `socket.socket` and `time.sleep` are looked up when
they are called, so gevent's monkey patching, which is up to the application, makes them switch
greenlets. In a gevent application without it each wait stops all greenlets.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, ParamSpec, Self

from .core import Client, KeptConnection
from .daemon_socket import CHUNK, T, U
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
    function.__qualname__ = function.__name__
    return function


_WAITS = _BlockingWaits()
_CLIENT = Client(_WAITS)

reply = _blocking(_CLIENT.reply)
many = _blocking(_CLIENT.many)
critical = _blocking(_CLIENT.critical)


class Connection(KeptConnection):
    """A connection to a host's socket that stays open, for loops: saves a connect per request.

    It connects when it is first used, and again after the daemon was restarted, after a
    timeout, and in a forked child. One request at a time: each thread or greenlet needs its own.
    `timeout` (seconds, for each request) and `sockets` are as in `reply`.
    """

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        super().__init__(_WAITS, host, timeout, sockets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    reply = _blocking(KeptConnection._reply)  # noqa: SLF001 - of the class's own base
