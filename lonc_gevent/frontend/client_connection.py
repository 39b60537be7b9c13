# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet of a client connection: it reads a request, gets the reply and writes it.

Bytes after a line stay in the buffer, so that several lines in one write are answered in order
(protocol.md, section 6, 12).

A greenlet that has served its connection is kept for the next one, with its stream and buffer:
CPython 3.11 maps and unmaps a piece of stack for each new greenlet, which costs more than all the
rest of an accept.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from greenlet import getcurrent, greenlet

from lonc_gevent.backend.snapshot import Snapshot
from lonc_gevent.backend.transaction import Transaction
from lonc_gevent.eventloop import (
    LONG,
    DeadlineError,
    DisconnectLimiter,
    MemoryBudget,
    Stream,
    yield_to_others,
)
from lonc_gevent.protocol.lines import (
    CLOSE_CONNECTIONS,
    CON_LOST,
    OK,
    RESET_RETRIES,
    LineBuffer,
    LineTooLongError,
)

from .access_control import peer_of

if TYPE_CHECKING:
    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.protocol.lines import Line

CONTROL_LINES: Final = (RESET_RETRIES, CLOSE_CONNECTIONS)
"""Lines that the daemon executes itself, without lond."""

LINES_IN_A_ROW: Final = 32
"""Lines of one client, read at once, that are answered before other greenlets run."""


class ClientSnapshot(Snapshot, frozen=True):
    """A client that is handed over in a restart in place.

    host      the host whose socket it has connected to
    unread    the bytes that were read of its next requests
    is_owner  whether it waits for the reply of a transaction, which has its `fd` as its owner
    unsent    the part of a reply that the client has not taken yet
    """

    host: str
    fd: int
    unread: bytes = b""
    is_owner: bool = False
    unsent: bytes = b""


class ClientsInterface(Protocol):
    """What a client connection needs of `Clients`."""

    hub: Hub
    log: FilteringBoundLogger
    disconnects: DisconnectLimiter
    memory: MemoryBudget

    @property
    def draining(self) -> bool:
        """Whether clients are disconnected once they have their replies."""

    @property
    def closed(self) -> bool:
        """Whether clients are disconnected before they can ask again."""

    @property
    def closing(self) -> bool:
        """Whether clients are disconnected in one of these ways."""

    def ended(self, connection: ClientConnection) -> bool:
        """Note the end of a connection; return whether its greenlet is kept for the next one."""


class ClientConnection:
    """Serves one client after another in one greenlet.

    is_spare     no client is served
    transaction  the request that was read last, until its reply is all written
    uid          for access control; -1 if the client was not counted there
    """

    __slots__ = (
        "_buffer",
        "_clients",
        "_greenlet",
        "_lines_in_a_row",
        "is_spare",
        "pool",
        "stream",
        "transaction",
        "uid",
    )

    pool: Pool
    """The pool of the client's host, or of the last client's."""

    def __init__(self, clients: ClientsInterface) -> None:
        self.stream = Stream(clients.hub)
        self.transaction: Transaction | None = None
        self.is_spare = True
        self.uid = -1
        self._clients = clients
        self._buffer = LineBuffer(0)
        self._lines_in_a_row = 0
        self._greenlet = greenlet(self._run, clients.hub)

    def __repr__(self) -> str:
        state = "spare" if self.is_spare else "answering" if self.transaction else "reading"
        return f"<ClientConnection {state} {self.stream!r}>"

    @property
    def has_input(self) -> bool:
        """Whether bytes of a request wait, here or in the kernel."""
        return bool(self._buffer) or self.stream.has_input()

    def start(
        self, pool: Pool, fd: int, uid: int, unread: bytes, transaction: Transaction | None
    ) -> None:
        """Serve a client in this connection's own greenlet: at once if called in the hub.

        unread       bytes that the program before a restart in place has read of the client
        transaction  the client's request that this program was given
        """
        self.pool = pool
        self.uid = uid
        self.is_spare = False
        self.stream.open(fd, has_input=True)
        self._buffer.limit = pool.host.pool.max_request_bytes
        if unread:
            self._buffer.refill(unread)
        if transaction is not None:
            self.transaction = transaction
            transaction.waiter = self._greenlet
            transaction.is_abandoned = self.stream.is_disconnected
        hub = self._clients.hub
        if getcurrent() is hub:
            self._greenlet.switch()
        else:
            hub.loop.run_callback(self._greenlet.switch)

    def _run(self) -> None:
        clients = self._clients
        while True:
            try:
                self._serve()
            except (OSError, DeadlineError):
                pass  # client disconnected or timed out; nothing to do (contract.md)
            except Exception:  # the top of the greenlet: nothing is above it
                clients.log.exception("client_failed", host=self.pool.host.id)
            finally:
                self._close()
            if not clients.ended(self):
                return
            while self.is_spare:
                clients.hub.switch()

    def _serve(self) -> None:
        """Answer requests until the client disconnects or is not served any further here."""
        if self.transaction is not None:
            self._write(self.transaction.wait(self._clients.hub))
            self.transaction = None
        while (request := self._read_request()) is not None:
            transaction = self.transaction = Transaction(
                request, self._greenlet, monotonic(), self.stream.is_disconnected
            )
            if request in CONTROL_LINES:
                reply = transaction.reply = self._execute(request)
            else:
                reply = self.pool.transact(transaction)
            self._write(reply)
            # The last lines must not stay in memory while the client sends nothing.
            self.transaction = None
            del request, reply, transaction

    def _execute(self, request: Line) -> Line:
        """Execute a control line."""
        if request == RESET_RETRIES:
            self.pool.retry_now()
        else:
            self.pool.renew_connections()
        return OK

    def _read_request(self) -> Line | None:
        """Read the next request; None if the client disconnects, or is to be disconnected."""
        buffer = self._buffer
        if (self._clients.closing or self.pool.is_ending) and self._stops_serving():
            return None
        try:
            request = self._next_buffered() if buffer.data else None
            while request is None:
                if len(buffer.data) > LONG:
                    return self._read_long()
                data = self.stream.read()
                if not data:
                    self._clients.disconnects.wait()
                    return None
                request = buffer.add(data)
        except LineTooLongError:
            self._refuse_too_long(len(buffer))
            return None
        return request

    def _read_long(self) -> Line:
        """Read the rest of a long request, within reply_timeout. Raises as `Stream.read` does."""
        buffer = self._buffer
        request = None
        try:
            with self.stream.expiring(self.pool.host.pool.reply_timeout):
                while request is None:
                    buffer.data = self._clients.memory.admit(buffer.data, self.stream)
                    data = self.stream.read()
                    if not data:
                        raise ConnectionResetError
                    request = buffer.add(data)
            request = self._clients.memory.counted(request)
        except DeadlineError:
            self._log_stalled(request_bytes=len(buffer))
            self.stream.write(CON_LOST)
            raise
        return request

    def _next_buffered(self) -> Line | None:
        """Take the next line from the buffer.

        Its reply may need no wait, so let other greenlets run after LINES_IN_A_ROW of them.
        """
        self._lines_in_a_row += 1
        if self._lines_in_a_row >= LINES_IN_A_ROW:
            self._lines_in_a_row = 0
            yield_to_others(self._clients.hub)
        return self._buffer.take()

    def _stops_serving(self) -> bool:
        """Return whether the client is not served any further."""
        clients = self._clients
        ends = clients.draining or self.pool.is_ending
        return clients.closed or (ends and not self.has_input)

    def _write(self, reply: Line) -> None:
        """Write the reply. A client that reads slowly delays this greenlet only."""
        try:
            self.stream.write(reply, self.pool.host.pool.reply_timeout)
        except DeadlineError:
            self._log_stalled(reply_bytes=len(reply))
            raise

    def _log_stalled(self, **size: int) -> None:
        self._clients.log.warning(
            "client_stalled", host=self.pool.host.id, **size, **self._peer_fields()
        )

    def _refuse_too_long(self, size: int) -> None:
        self._clients.log.warning(
            "request_too_long",
            host=self.pool.host.id,
            request_bytes=size,
            error=f"over max_request_bytes = {self._buffer.limit}",
            **self._peer_fields(),
        )
        self._write(CON_LOST)

    def _peer_fields(self) -> dict[str, int]:
        try:
            return {"client_pid": peer_of(self.stream.fd).pid}
        except OSError:
            return {}

    def snapshot(self, *, whole: bool) -> ClientSnapshot | None:
        """Return the state for a restart in place; None if the client is to be disconnected.

        whole: whether the next program can be given transactions. If not, a request in the queue
        becomes unread again.
        """
        transaction = self.transaction
        reply = transaction.reply if transaction else None
        unsent = self.stream.unsent or bytes(reply or b"")
        # Without a transaction it is a con_lost after a request that was too long.
        if unsent and (transaction is None or not whole):
            return None
        unread = self._buffer.contents
        is_owner = transaction is not None and reply is None
        if transaction is not None and is_owner and not whole:
            unread = bytes(transaction.request) + unread
        return ClientSnapshot(
            self.pool.host.id, self.stream.fd, unread, is_owner=is_owner and whole, unsent=unsent
        )

    def _close(self) -> None:
        """Close the stream and forget the client."""
        self.transaction = None
        if self._buffer.data:
            self._buffer.clear()  # a spare connection may be kept for long
        self.stream.close()
        self.is_spare = True
