# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - `timeout` is a promised name, and a blocking client has no asyncio.timeout
"""The client library, except how it waits: one source for the blocking and the asyncio client.

Everything is written once, as coroutines. `Waits` is how they wait for a socket, for some time and
for a file, and blocking.py and aio.py each have one. The waits of blocking.py block, so that its
coroutines never suspend and can be run like functions.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from lonc_gevent.protocol.lines import RESET_RETRIES

from .critical_request import save, signal_daemon
from .daemon_socket import DaemonSocket
from .errors import ClientError, ConLost, NoDaemonError, TimedOutError
from .lines import CON_LOST, TIMEOUT, OnConLost, check_timeout, to_line
from .sockets import Sockets, Where, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .daemon_socket import Waits

RECONNECT_SECONDS: Final = 1.0
"""Time that `critical` gives a daemon that is not listening to come back, before its second try."""
RECONNECT_PAUSE: Final = 0.05


class Client:
    """`reply`, `many` and `critical`, the public functions of both clients."""

    def __init__(self, waits: Waits) -> None:
        self.waits = waits

    async def reply(
        self,
        request: bytes,
        host: str,
        *,
        timeout: float = TIMEOUT,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        sockets: Where = None,
    ) -> bytes:
        """Send a request (a line without its newline) to a host; return the reply, likewise.

        timeout      seconds for all of it, from connecting to the reply's last byte
        encrypt      have the daemon encrypt it on its way to lond
        on_con_lost  "raise" ConLost, or "return" CON_LOST as lonnet does
        sockets      the socket directory, a Sockets, or None: as configured by LONC_CONFIG

        Raises ConLost (its subclasses say more), TimedOutError and UnknownHostError; ConfigError
        if the configuration cannot be read; ValueError if the request is not one line.
        """
        line = to_line(request, encrypt=encrypt)
        sock = DaemonSocket(self.waits, host, find(sockets).path_of(host))
        sock.start(timeout)
        try:
            await sock.connect()
            await sock.send(line)
            return await sock.receive()
        except ConLost:
            if on_con_lost == "return":
                return CON_LOST
            raise
        finally:
            sock.close()

    async def many(
        self,
        requests: Mapping[str, bytes],
        *,
        timeout: float = TIMEOUT,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        sockets: Where = None,
    ) -> dict[str, bytes | ClientError]:
        """Send one request to each of several hosts at once; return the outcome of each.

        A host's value is its reply, or the error that `reply` would have raised: one host that is
        down does not hide the others. The timeout is for all together. Needs a descriptor per host.
        """
        lines = {host: to_line(request, encrypt=encrypt) for host, request in requests.items()}
        place = find(sockets)
        outcomes: dict[str, bytes | ClientError] = dict.fromkeys(requests, b"")
        opened: list[DaemonSocket] = []
        deadline = time.monotonic() + check_timeout(timeout)

        async def send(host: str) -> None:
            try:
                sock = DaemonSocket(self.waits, host, place.path_of(host))
                sock.deadline = deadline
                opened.append(sock)
                await sock.connect()
                await sock.send(lines[host])
            except ClientError as error:
                outcomes[host] = error

        async def receive(sock: DaemonSocket) -> None:
            if isinstance(outcomes[sock.host], ClientError):
                return
            try:
                outcomes[sock.host] = await sock.receive()
            except ClientError as error:
                outcomes[sock.host] = error

        try:
            # All are sent before the first reply is read: the daemon serves them concurrently.
            await self.waits.for_each(send, lines)
            await self.waits.for_each(receive, opened)
        finally:
            for sock in opened:
                sock.close()
        if on_con_lost == "return":
            outcomes = {h: CON_LOST if isinstance(o, ConLost) else o for h, o in outcomes.items()}
        return outcomes

    async def critical(
        self,
        request: bytes,
        host: str,
        *,
        timeout: float = TIMEOUT,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        sockets: Where = None,
    ) -> bytes:
        """Send a request that must not be lost; return the reply, or CON_DELAYED.

        After con_lost the daemon is made to reconnect to the host, and the request is sent once
        more. If that fails too, it is written into the delayed directory, synced and read back
        (CON_DELAYED). A request whose reply was lost may have run, so a critical request may run
        twice. The arguments are those of `reply`; the timeout is for all tries together, without
        writing the file. A coroutine that is cancelled may or may not have sent or saved it.

        Raises ConFailed if the request could not be saved either ("return": returns CON_FAILED),
        and every error of `reply` that is not about con_lost.
        """
        line = to_line(request, encrypt=encrypt)
        place = find(sockets)
        deadline = time.monotonic() + check_timeout(timeout)
        try:
            return await self.reply(line[:-1], host, timeout=timeout, sockets=place)
        except (ConLost, TimedOutError) as error:
            cause: ClientError = error
        try:
            await self._reconnect(host, place, deadline)
            left = max(deadline - time.monotonic(), 0)
            if left:
                return await self.reply(line[:-1], host, timeout=left, sockets=place)
        except (ConLost, TimedOutError) as error:
            cause = error
        return await self.waits.call(save, line, place, cause, on_con_lost)

    async def _reconnect(self, host: str, place: Sockets, deadline: float) -> None:
        """Make the daemon try the host's lond at once, as lonnet's reconlonc does.

        Waits for a daemon that is not listening, until the deadline or for RECONNECT_SECONDS.
        Raises ConLost and TimedOutError.
        """
        # USR1 is lonnet's way. The control line is safer: its answer says that it was handled.
        signal_daemon(place)
        now = time.monotonic()
        deadline = min(deadline, now + RECONNECT_SECONDS)
        while deadline > now:
            try:
                await self.reply(RESET_RETRIES[:-1], host, timeout=deadline - now, sockets=place)
            except NoDaemonError:
                await self.waits.sleep(RECONNECT_PAUSE)
            else:
                return
            now = time.monotonic()


class KeptConnection:
    """What the two public `Connection` classes share."""

    def __init__(self, waits: Waits, host: str, timeout: float, sockets: Where) -> None:
        self.host = host
        self.timeout = check_timeout(timeout)
        self._sock = DaemonSocket(waits, host, find(sockets).path_of(host))
        self._pid = 0
        self._busy = threading.Lock()

    def __repr__(self) -> str:
        return f"<Connection {self.host} {'open' if self._sock.is_open else 'closed'}>"

    def close(self) -> None:
        """Close the connection. The next request opens it again."""
        self._sock.close()

    async def _reply(
        self,
        request: bytes,
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
    ) -> bytes:
        """Send a request and return its reply, as the function `reply` does.

        Raises RuntimeError if another thread, greenlet or task is in the middle of a request.
        """
        line = to_line(request, encrypt=encrypt)
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(f"{self!r} is in use: each thread, greenlet or task needs its own")
        try:
            self._sock.start(self.timeout if timeout is None else timeout)
            return await self._exchange(line)
        except ConLost as error:
            if type(error) is not ConLost:
                self._sock.close()
            if on_con_lost == "return":
                return CON_LOST
            raise
        except BaseException:
            # A late reply must not answer the next request. gevent.Timeout, KeyboardInterrupt and
            # asyncio.CancelledError are no Exceptions.
            self._sock.close()
            raise
        finally:
            self._busy.release()

    async def _exchange(self, line: bytes) -> bytes:
        sock = self._sock
        reusable = sock.is_open and self._pid == os.getpid() and not sock.has_input()
        # A line that the daemon did not take whole has not run, so it may be sent again.
        if reusable and await sock.send(line):
            return await sock.receive()
        sock.close()
        self._pid = os.getpid()
        await sock.connect()
        await sock.send(line)
        return await sock.receive()
