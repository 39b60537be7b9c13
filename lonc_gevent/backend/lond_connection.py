# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet that owns one lond connection, from the connection attempt to its end.

The greenlet connects and shakes hands. Then it takes the oldest request, exchanges it with lond
and finishes it, or waits idle. However it ends, it answers the request that it still holds, closes
the socket and notifies the pool.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

import gevent

from lonc_gevent.errors import (
    ConnectionLostError,
    LondError,
    NotSentError,
    ReplyLostError,
    UnsolicitedBytesError,
)
from lonc_gevent.eventloop import Stream
from lonc_gevent.protocol.lines import CON_LOST

from .connect import connect
from .lond import Lond
from .snapshot import ConnectionSnapshot

if TYPE_CHECKING:
    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import MemoryBudget
    from lonc_gevent.protocol.lines import Line

    from .snapshot import TransactionSnapshot
    from .tls import Credentials
    from .transaction import Transaction


class PoolInterface(Protocol):
    """What a lond connection needs of its pool."""

    hub: Hub
    log: FilteringBoundLogger
    memory: MemoryBudget

    @property
    def host(self) -> HostSettings:
        """The settings of the host."""

    @property
    def credentials(self) -> Credentials:
        """The TLS credentials."""

    @property
    def connecting(self) -> LondConnection | None:
        """The connection that is being made."""

    def take(self, now: float) -> Transaction | None:
        """Remove the oldest transaction from the queue and return it, None if none waits."""

    def park(self, connection: LondConnection) -> None:
        """Put the connection on the idle list."""

    def requeue(self, transaction: Transaction) -> None:
        """Put a transaction of which nothing was sent back to the head of the queue."""

    def finish(self, transaction: Transaction, reply: Line) -> None:
        """End a transaction and resume the greenlet that waits for it."""

    def reply_lost(
        self, connection: LondConnection, transaction: Transaction, error: ReplyLostError
    ) -> None:
        """End a transaction that may have run, and that gets no reply."""

    def connected(self, connection: LondConnection) -> None:
        """Note that the handshake of the connection is complete."""

    def connect_failed(self, connection: LondConnection, error: NotSentError) -> None:
        """Note that the connection could not be made."""

    def ended(self, connection: LondConnection, error: LondError | None = None) -> None:
        """Note the end of the connection. No error: it was closed on purpose."""


class LondConnection:
    """A lond connection and its greenlet. `start` begins the connection attempt."""

    __slots__ = (
        "_greenlet",
        "_pool",
        "_served",
        "_started",
        "_unsent",
        "closing",
        "idle_since",
        "lond",
        "number",
        "stream",
        "transaction",
    )

    def __init__(self, pool: PoolInterface, number: int) -> None:
        self._pool = pool
        self.number = number
        self.stream = Stream(pool.hub)
        self.lond: Lond | None = None
        self.transaction: Transaction | None = None
        self.idle_since = 0.0
        self.closing = False
        self._started = 0.0
        self._served = False
        self._unsent = b""
        self._greenlet = gevent.Greenlet(self._run)

    def __repr__(self) -> str:
        return f"<LondConnection {self._pool.host.id}/{self.number} {self.state}>"

    @property
    def state(self) -> str:
        """The state as in the metric lonc_connections: connecting, idle or busy."""
        if self.lond is None:
            return "connecting"
        return "busy" if self.transaction is not None else "idle"

    @property
    def session_fields(self) -> dict[str, object]:
        """The fields of an established connection in a log event."""
        lond = self.lond
        if lond is None:
            return {"connection": self.number}
        peer = str(lond.address) if lond.address else None
        return {"connection": self.number, "security": lond.session.security, "peer": peer}

    @property
    def stillborn(self) -> bool:
        """Whether it has neither served a request nor been idle."""
        return not self._served and not self.idle_since

    # -- called by the pool ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, in the greenlet of this connection."""
        self._greenlet.start()

    def assign(self, transaction: Transaction, now: float) -> None:
        """Give a transaction to this idle connection."""
        self.transaction = transaction
        self._started = now
        self.stream.resume()

    def close_when_idle(self) -> None:
        """End the connection, now if it is idle, otherwise after its transaction."""
        self.closing = True
        if self.transaction is None:
            self.stream.resume()

    def kill(self) -> None:
        """End the connection now; its transaction, if any, gets con_lost."""
        self._greenlet.kill(block=False)

    # -- restart in place --------------------------------------------------------------------

    @property
    def may_have_sent(self) -> bool:
        """Whether lond may have received a part of the request of the transaction."""
        return self.lond is not None and self.lond.is_asked and not self.lond.in_sethost

    def snapshot(self, under_way: TransactionSnapshot | None) -> ConnectionSnapshot | None:
        """Return the state; None if the connection is of no use to the next program.

        under_way: the transaction, if `may_have_sent`.
        """
        lond = self.lond
        if lond is None or (
            under_way is None and (self.closing or lond.is_spent or lond.in_sethost)
        ):
            return None
        return ConnectionSnapshot(
            fd=self.stream.fd,
            number=self.number,
            session=lond.session,
            host_id=lond.host_id,
            address=lond.address,
            idle_since=self.idle_since,
            transaction=under_way,
            started=self._started,
            unsent=lond.unsent(),
            received=lond.received,
            is_last=self.closing or lond.is_spent,
        )

    def restore(self, state: ConnectionSnapshot, transaction: Transaction | None) -> None:
        """Start with a connection of the program before, in place of a connection attempt."""
        host = self._pool.host
        self.stream.open(state.fd)
        self.lond = Lond(
            self.stream,
            state.session,
            host.server_id,
            host.pool.max_reply_bytes,
            state.address,
            self._pool.memory,
        )
        self.lond.restore(state.host_id, state.received, is_asked=transaction is not None)
        self.transaction = transaction
        self.closing = state.is_last
        self._started = state.started
        self._unsent = state.unsent
        self._served = True
        self.start()

    # -- the greenlet ------------------------------------------------------------------------

    def _run(self) -> None:
        lond = self.lond or self._open()
        if lond is None:
            return
        pool = self._pool
        ending: LondError | None = None
        try:
            if self.lond is None:
                self._note_connected(lond)
            ending = self._serve(lond)
        except LondError as error:
            ending = _without_frames(error)
        finally:
            # A transaction is left if this greenlet was killed, or failed by a bug.
            transaction, self.transaction = self.transaction, None
            if transaction is not None:
                transaction.error = ConnectionLostError("connection ended by lonc")
                pool.finish(transaction, CON_LOST)
            lond.close()
            pool.ended(self, ending)

    def _open(self) -> Lond | None:
        """Connect to lond; return None if that failed, which the pool then knows."""
        pool = self._pool
        try:
            lond = self._connect()
        except NotSentError as error:
            if pool.connecting is self:  # else it was killed, and another attempt may have begun
                pool.connect_failed(self, error)
            return None
        except gevent.GreenletExit:
            raise  # the pool noted it, as a greenlet killed before its first switch cannot
        except BaseException:  # a bug: the pool must not count this connection any more
            pool.ended(self)
            raise
        if pool.connecting is not self:
            lond.close()
            return None
        return lond

    def _note_connected(self, lond: Lond) -> None:
        pool = self._pool
        self.lond = lond
        pool.connected(self)
        if lond.session.fell_back:
            pool.log.warning(
                "session_not_encrypted", connection=self.number, detail=lond.session.fell_back
            )

    def _connect(self) -> Lond:
        """Connect to lond and shake hands. Raises NotSentError. Overridden in tests."""
        pool = self._pool
        return connect(pool.host, pool.hub, self.stream, pool.credentials, pool.memory)

    def _serve(self, lond: Lond) -> LondError | None:
        """Exchange transactions; return the error that ended this, None if closed on purpose."""
        pool = self._pool
        stream = self.stream
        timeout = pool.host.pool.reply_timeout
        resumed = self.transaction  # begun by the program before a restart in place
        while True:
            transaction = resumed or self._next(lond)
            if transaction is None:
                return None
            stream.deadline = self._started + timeout
            try:
                if resumed is None:
                    reply = lond.exchange(transaction.request)
                else:
                    resumed = None
                    reply = lond.resume(self._unsent)
            except NotSentError as error:
                self.transaction = None
                pool.requeue(transaction)
                return _without_frames(error)
            except ReplyLostError as error:
                self.transaction = None
                transaction.error = error
                pool.reply_lost(self, transaction, error)
                return _without_frames(error)
            self.transaction = None
            self._served = True
            pool.finish(transaction, reply)
            del transaction, reply  # an idle connection must not keep the last lines in memory
            if lond.buffer.data:
                return UnsolicitedBytesError("bytes after the end of a reply")
            if lond.is_spent:
                return None

    def _next(self, lond: Lond) -> Transaction | None:
        """Wait for a transaction; None if closed on purpose. Raises NotSentError on input."""
        pool = self._pool
        if self.closing:
            return None
        now = monotonic()
        transaction = pool.take(now)
        if transaction is not None:
            self.transaction = transaction
            self._started = now
            return transaction
        pool.park(self)
        return self._wait_for_work(lond)

    def _wait_for_work(self, lond: Lond) -> Transaction | None:
        """Wait while idle; returns and raises as `_next` does."""
        while True:
            # Resumed by `assign`, by `close_when_idle`, by input from lond, or for no reason.
            self.stream.wait_readable()
            if self.transaction is not None:
                return self.transaction
            if self.closing:
                return None
            if self.stream.has_input():
                raise lond.unexpected()


def _without_frames(error: LondError) -> LondError:
    """Remove the frames from an error that this greenlet keeps a reference to.

    The frames refer to the greenlet, and this cycle would keep a large reply in memory until the
    garbage collector runs.
    """
    error.__context__ = None
    return error.with_traceback(None)
