# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: ASYNC109 - `timeout` is a promised name, and a blocking client has no asyncio.timeout
"""The client library, except how it waits: one source for the blocking and the asyncio client.

Everything is written once, as coroutines. `Waits` is how they wait for a socket, for some time and
for a file, and blocking.py and aio.py each have one. The waits of blocking.py block, so that its
coroutines never suspend and can be run like functions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from lonc_gevent.protocol.lines import RESET_RETRIES

from .critical_request import save, signal_daemon
from .daemon_socket import DaemonSocket
from .errors import (
    ArgumentError,
    ClientError,
    ConLostError,
    DisconnectedError,
    NoDaemonError,
    PermissionDeniedError,
    TimedOutError,
    UnknownHostError,
    raise_for_error,
)
from .kept import KeptSockets
from .lines import CON_LOST, TIMEOUT, OnConLost, Retry, check_retry, check_timeout, to_line
from .sockets import Sockets, Where, find

if TYPE_CHECKING:
    from .daemon_socket import Waits

MAX_KEPT: Final = 20
"""Connections that a client keeps open between requests, over all hosts."""

MAX_SENDS: Final = 3
"""How often a request is sent that the daemon did not read."""

RECONNECT_SECONDS: Final = 1.0
"""Time for a daemon that is not listening to come back, before the second try."""
RECONNECT_PAUSE: Final = 0.05


@dataclass(slots=True)
class Call:
    """One request to one host, with all of its settings."""

    line: bytes
    host: str
    place: Sockets
    path: str
    deadline: float
    connect_by: float
    retry: Retry
    check: bool


class ClientCore:
    """Requests to all hosts of a daemon, with common settings and connections that are kept open.

    sockets          the socket directory, a Sockets, or None: as configured by LONC_CONFIG
    timeout          seconds for a whole call, from connecting to the reply's last byte
    connect_timeout  seconds of these for connecting; None: no limit of its own
    retry            which requests are sent again, see `reply`
    max_kept         connections kept open between requests, over all hosts; more are closed

    Use one client for the whole process: any thread, greenlet or task may use it at any time, and
    after a fork each process has connections of its own. Raises ArgumentError.
    """

    _waits: ClassVar[Waits]

    def __init__(
        self,
        *,
        sockets: Where = None,
        timeout: float = TIMEOUT,
        connect_timeout: float | None = None,
        retry: Retry = "unsent",
        max_kept: int = MAX_KEPT,
    ) -> None:
        self.timeout = check_timeout(timeout)
        self.connect_timeout = (
            math.inf
            if connect_timeout is None
            else check_timeout(connect_timeout, "connect_timeout")
        )
        self.retry = check_retry(retry)
        self._sockets = None if sockets is None else find(sockets)
        self._kept = KeptSockets(max_kept)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._kept)} open>"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Ids of all hosts, in the order of hosts.tab; () if only the directory is known."""
        return (self._sockets or find(None)).hosts

    def close(self) -> None:
        """Close the connections that are kept open. A later request opens one again."""
        self._kept.close()

    async def _reply(  # noqa: PLR0913 - options, by name
        self,
        request: bytes,
        host: str,
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        check: bool = False,
        retry: Retry | None = None,
        sockets: Where = None,
    ) -> bytes:
        """Send a request (a line without its newline) to a host; return the reply, likewise.

        timeout      seconds for all of it, from connecting to the reply's last byte; None: the
                     client's
        encrypt      have the daemon encrypt it on its way to lond
        on_con_lost  "raise" ConLostError, or "return" CON_LOST as lonnet does
        check        raise ReplyError if the reply reports an error, as raise_for_error does
        retry        "unsent": send a request again that the daemon provably did not read (default)
                     "idempotent": the caller vouches that the request may run twice; after con_lost
                     and its like, make the daemon reconnect to the host and send it once more
                     "never": send it once
                     None: the client's
        sockets      the socket directory, a Sockets, or None: the client's

        Raises ConLostError (its subclasses give more detail), TimedOutError, UnknownHostError and
        ReplyError; ArgumentError for a bad argument; ConfigError if the configuration cannot be
        read. Each ClientError has `may_have_run`.
        """
        line = to_line(request, encrypt=encrypt)
        call = self._call(line, host, timeout, sockets, check=check, retry=retry)
        try:
            if call.retry == "idempotent":
                return await self._ask_twice(call)
            return await self._ask(call)
        except ConLostError:
            if on_con_lost == "return":
                return CON_LOST
            raise

    async def _many(  # noqa: C901 - its three inner functions are counted with it
        self,
        requests: Mapping[str, bytes],
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        check: bool = False,
        sockets: Where = None,
    ) -> dict[str, bytes | ClientError]:
        """Send one request to each of several hosts at once; return the outcome of each.

        A host's value is its reply, or the error that `reply` would have raised: one host that is
        down does not hide the others. The timeout is for all together. Needs a descriptor per host.
        A request that the daemon provably did not read is sent again, no other. Raises
        ArgumentError and ConfigError.
        """
        if not isinstance(requests, Mapping):
            raise ArgumentError(f"expected {{host: request}}, not {type(requests).__name__}")
        outcomes: dict[str, bytes | ClientError] = dict.fromkeys(requests, CON_LOST)
        calls: list[Call] = []
        for host, request in requests.items():
            line = to_line(request, encrypt=encrypt)
            try:
                calls.append(self._call(line, host, timeout, sockets, check=check))
            except UnknownHostError as error:
                outcomes[host] = error
        sent: dict[str, DaemonSocket] = {}

        def note(host: str, error: ClientError) -> None:
            if on_con_lost == "raise" or not isinstance(error, ConLostError):
                outcomes[host] = error

        async def send(call: Call) -> None:
            try:
                sent[call.host] = await self._send(call)
            except ClientError as error:
                note(call.host, error)

        async def receive(call: Call) -> None:
            if call.host in sent:
                try:
                    outcomes[call.host] = await self._ask(call, sent.pop(call.host))
                except ClientError as error:
                    note(call.host, error)

        try:
            # All are sent before the first reply is read: the daemon serves them concurrently.
            await self._waits.for_each(send, calls)
            await self._waits.for_each(receive, calls)
        finally:
            for sock in sent.values():
                sock.close()
        return outcomes

    async def _critical(  # noqa: PLR0913 - options, by name
        self,
        request: bytes,
        host: str,
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
        check: bool = False,
        sockets: Where = None,
    ) -> bytes:
        """Send a request that must not be lost; return the reply, or CON_DELAYED.

        After con_lost the daemon is made to reconnect to the host, and the request is sent once
        more. If that fails too, it is written into the delayed directory, synced and read back
        (CON_DELAYED). A request whose reply was lost or late may have run, so a critical request
        may run twice. The arguments are those of `reply`; the timeout is for all tries together,
        without writing the file. A cancelled coroutine may or may not have sent or saved it.

        Raises ConFailedError if the request could not be saved either ("return": returns
        CON_FAILED), and every error of `reply` that is not about con_lost.
        """
        call = self._call(to_line(request, encrypt=encrypt), host, timeout, sockets, check=check)
        try:
            return await self._ask_twice(call)
        except (ConLostError, TimedOutError, UnknownHostError) as error:
            # An unknown host too, since only the directory is known here: in it, the sockets of one
            # of several processes are missing while that process restarts.
            return await self._waits.call(save, call.line, call.place, error, on_con_lost)

    def _call(
        self,
        line: bytes,
        host: str,
        timeout: float | None,
        sockets: Where,
        *,
        check: bool,
        retry: Retry | None = None,
    ) -> Call:
        place = find(sockets) if self._sockets is None or sockets is not None else self._sockets
        now = time.monotonic()
        return Call(
            line,
            host,
            place,
            place.path_of(host),
            now + (self.timeout if timeout is None else check_timeout(timeout)),
            now + self.connect_timeout,
            self.retry if retry is None else check_retry(retry),
            check,
        )

    async def _ask(self, call: Call, sock: DaemonSocket | None = None) -> bytes:
        """Return the reply; `sock` is a connection on which the request was sent already."""
        sends = 1 if call.retry == "never" else MAX_SENDS
        while True:
            sock = sock or await self._send(call)
            sends -= 1
            try:
                answer = await sock.receive()
            except BaseException as error:
                # A late reply must not answer the next request. gevent.Timeout, KeyboardInterrupt
                # and asyncio.CancelledError are no Exceptions.
                sock.close()
                if not isinstance(error, DisconnectedError) or error.may_have_run or not sends:
                    raise
                sock = None
                continue
            self._kept.give(sock)
            if answer == CON_LOST:
                raise ConLostError(call.host, call.path, "con_lost")
            return raise_for_error(answer, call.host, call.path) if call.check else answer

    async def _send(self, call: Call) -> DaemonSocket:
        """Send the request on a kept connection or a new one."""
        sock = self._kept.take(call.path)
        is_new = sock is None
        if sock is None:
            sock = DaemonSocket(self._waits, call.host, call.path)
        sock.deadline = call.deadline
        try:
            if is_new:
                await sock.connect(call.place, call.connect_by)
            await sock.send(call.line)
        except BaseException:  # also a Timeout or CancelledError: it is half used, so never kept
            sock.close()
            raise
        return sock

    async def _ask_twice(self, call: Call) -> bytes:
        """Return the reply; after con_lost, make the daemon reconnect and ask once more."""
        try:
            return await self._ask(call)
        except ConLostError as error:
            first = error
        try:
            await self._reconnect(call)
            return await self._ask(call)
        except ClientError as error:
            error.may_have_run = error.may_have_run or first.may_have_run
            raise

    async def _reconnect(self, call: Call) -> None:
        """Make the daemon try the host's lond at once, as lonnet's reconlonc does.

        Waits for a daemon that is not listening, until the deadline or for RECONNECT_SECONDS.
        Raises ConLostError and TimedOutError.
        """
        # USR1 is lonnet's way. The control line is safer: its answer says that it was handled.
        signal_daemon(call.place)
        until = min(call.deadline, time.monotonic() + RECONNECT_SECONDS)
        control = replace(call, line=RESET_RETRIES, deadline=until, check=False)
        while True:
            try:
                await self._ask(control)
            except NoDaemonError as error:
                if isinstance(error, PermissionDeniedError) or time.monotonic() >= until:
                    raise
                await self._waits.sleep(RECONNECT_PAUSE)
            else:
                return
