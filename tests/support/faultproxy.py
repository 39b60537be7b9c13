# SPDX-License-Identifier: GPL-2.0-or-later
"""A proxy between the daemon and a lond that does to their bytes what networks do.

The faults are those that users of Toxiproxy know. Each is an attribute that may be set at any
time, from any thread, while traffic runs; what it says goes for the next bytes on. One thread with
an event loop serves all connections, so that hundreds of them cost no more than their bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CHUNK = 64 * 1024
LOOK_AGAIN = 0.01
"""Seconds between two looks at whether a held connection may go on."""


@dataclass
class Faults:
    """What is wrong with the network now. As made: nothing."""

    latency: float = 0.0
    """Seconds that bytes need in each direction."""
    jitter: float = 0.0
    """Seconds at random, to be added."""
    bandwidth: float = 0.0
    """Bytes per second and direction; 0: no limit."""
    slices: int = 0
    """Bytes are passed on by so many at a time; 0: as they came."""
    cut_after: int = 0
    """A connection ends once lond has said so many bytes on it; 0: it does not."""
    cut_by_reset: bool = False
    """It then ends by a reset, not in peace."""
    slow_close: float = 0.0
    """Seconds until the daemon hears that lond has closed."""
    black_hole: bool = False
    """Connections are made, and whatever is said on them is lost."""
    half_open: bool = False
    """Nothing is read from the daemon any more, and nothing said to it."""


def reset_on_close(sock: socket.socket) -> None:
    """Make the socket's close a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, daemon: socket.socket, lond: socket.socket) -> None:
        self.proxy = proxy
        self.daemon = daemon
        self.lond = lond
        self.passed_on = 0
        """Bytes of lond's that were passed on."""
        self.tasks: list[asyncio.Task[None]] = []

    async def carry(self) -> None:
        """Carry bytes both ways until one side ends."""
        self.tasks = [
            asyncio.ensure_future(self._pump(self.daemon, self.lond)),
            asyncio.ensure_future(self._pump(self.lond, self.daemon)),
        ]
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            if self.tasks[1].done() and self.proxy.faults.slow_close:
                await asyncio.sleep(self.proxy.faults.slow_close)
        finally:
            self.close()

    async def _pump(self, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        faults = self.proxy.faults
        with contextlib.suppress(OSError):
            while True:
                await self._hold()
                data = await loop.sock_recv(source, CHUNK)
                if not data:
                    return
                await self._hold()
                if faults.black_hole:
                    continue
                await self._pass_on(data, target)

    async def _hold(self) -> None:
        # Attributes can be set from any thread, so there is no event to wait for.
        while self.proxy.faults.half_open:  # noqa: ASYNC110 - as said
            await asyncio.sleep(LOOK_AGAIN)

    async def _pass_on(self, data: bytes, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        faults = self.proxy.faults
        if faults.latency or faults.jitter:
            await asyncio.sleep(faults.latency + random.random() * faults.jitter)
        while data:
            size = faults.slices or len(data)
            if faults.bandwidth:
                size = min(size, max(int(faults.bandwidth / 50), 1))
            piece, data = data[:size], data[size:]
            if target is self.daemon and faults.cut_after:
                piece = piece[: max(faults.cut_after - self.passed_on, 0)]
            await loop.sock_sendall(target, piece)
            if target is self.daemon:
                self.passed_on += len(piece)
                if faults.cut_after and self.passed_on >= faults.cut_after:
                    if faults.cut_by_reset:
                        reset_on_close(target)
                    raise ConnectionAbortedError
            # A turn for the others, and for the kernel to send this piece by itself.
            await asyncio.sleep(len(piece) / faults.bandwidth if faults.bandwidth else 0)

    def close(self) -> None:
        """End it."""
        for task in self.tasks:
            task.cancel()
        self.daemon.close()
        self.lond.close()


class FaultProxy:
    """Listens on `port` and connects to `lond_port`, both on the loopback address.

    As a context manager: started, stopped.
    """

    def __init__(self, lond_port: int) -> None:
        self.lond_port = lond_port
        self.port = 0
        self.faults = Faults()
        self.accepted = 0
        """Connections so far."""
        self.links: set[Link] = set()
        self._listener: socket.socket | None = None
        self._carrying: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self.allow()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, action: Callable[[], Coroutine[None, None, None]]) -> None:
        asyncio.run_coroutine_threadsafe(action(), self._loop).result(10.0)

    # -- what a test asks for, from its own thread ---------------------------------------------

    def heal(self) -> None:
        """Mend the network: no fault for the next bytes."""
        for name, value in vars(Faults()).items():
            setattr(self.faults, name, value)

    def refuse(self) -> None:
        """Listen no more: the next connection is refused."""
        self._call(self._refuse)

    def allow(self) -> None:
        """Listen, again on the same port."""
        self._call(self._allow)

    def reset(self) -> None:
        """Reset every connection, as a firewall that has forgotten them."""
        self._call(self._reset)

    def close_all(self) -> None:
        """Close every connection in peace."""
        self._call(self._close_all)

    # -- the same, in the loop's thread --------------------------------------------------------

    async def _allow(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(1024)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    async def _refuse(self) -> None:
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None

    async def _reset(self) -> None:
        for link in tuple(self.links):
            reset_on_close(link.daemon)
            link.close()

    async def _close_all(self) -> None:
        for link in tuple(self.links):
            link.close()

    async def _end(self) -> None:
        await self._refuse()
        for task in tuple(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        for link in tuple(self.links):  # of tasks that were cancelled before they began
            link.close()

    def _accept(self, listener: socket.socket) -> None:
        # Not loop.sock_accept(): cancelled in the moment of a connect, it loses the new socket.
        try:
            daemon, _ = listener.accept()
        except BlockingIOError:
            return
        self.accepted += 1
        link = Link(self, daemon, socket.socket())
        self.links.add(link)
        task = asyncio.ensure_future(self._carry(link))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        daemon, lond = link.daemon, link.lond
        try:
            for sock in (daemon, lond):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(lond, ("127.0.0.1", self.lond_port))
            await link.carry()
        except OSError:
            pass  # lond is not there: the daemon sees a connection that ends at once
        finally:
            link.close()
            await asyncio.gather(*link.tasks, return_exceptions=True)
            self.links.discard(link)
