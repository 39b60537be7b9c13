# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet that owns one lond connection, from dialling to its end.

Read from top to bottom it is the life of the connection: connect and shake hands, then take a
transaction, exchange it, hand the reply back, take the next one. Whatever ends it, a transaction
that it still holds is answered, the socket is closed, and the pool is told.
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
from lonc_gevent.eventloop.stream import Stream
from lonc_gevent.protocol.lines import CON_LOST

from .lond import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from greenlet import greenlet
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop.turns import Turns
    from lonc_gevent.protocol.lines import Line

    from .lond import Lond
    from .tls import Credentials
    from .transaction import Transaction


class Owner(Protocol):
    """What a connection asks of the pool that it belongs to."""

    host: HostSettings
    hub: Hub
    turns: Turns
    wake: Callable[[greenlet], None]
    credentials: Credentials
    log: FilteringBoundLogger
    idle: list[Connection]
    dialling: Connection | None

    def take(self, now: float) -> Transaction | None:
        """Return the oldest transaction that waits, None if none does."""

    def rest(self, connection: Connection) -> None:
        """Take back a connection that found nothing to do."""

    def put_back(self, transaction: Transaction) -> None:
        """Take back a transaction of which nothing was sent."""

    def finish(self, transaction: Transaction, reply: Line) -> None:
        """End a transaction and wake its waiter."""

    def reply_lost(
        self, connection: Connection, transaction: Transaction, error: ReplyLostError
    ) -> None:
        """End a transaction that may have run, and whose reply will not come."""

    def dialled(self, connection: Connection) -> None:
        """Hear that the connection is made and handshaken."""

    def dial_failed(self, connection: Connection, error: NotSentError) -> None:
        """Hear that it could not be made."""

    def ended(self, connection: Connection, error: LondError | None = None) -> None:
        """Hear of its end; no error: it was asked to end."""


class Connection:
    """A lond connection and the greenlet that owns it, from dialling to its end."""

    __slots__ = (
        "greenlet",
        "idle_since",
        "lond",
        "number",
        "pool",
        "retiring",
        "served",
        "started",
        "stream",
        "transaction",
    )

    def __init__(self, pool: Owner, number: int) -> None:
        self.pool = pool
        self.number = number
        self.stream = Stream(pool.turns)
        self.lond: Lond | None = None
        self.transaction: Transaction | None = None
        self.started = 0.0
        self.idle_since = 0.0
        self.served = False
        self.retiring = False
        self.greenlet = gevent.spawn(self._run)

    def __repr__(self) -> str:
        return f"<Connection {self.pool.host.id}/{self.number} {self.state}>"

    @property
    def state(self) -> str:
        """In the words of the metric lonc_connections: connecting, idle or busy."""
        if self.lond is None:
            return "connecting"
        return "busy" if self.transaction is not None else "idle"

    @property
    def session_fields(self) -> dict[str, object]:
        """What a log event tells of a connection that is made."""
        security = self.lond.session.security if self.lond else None
        return {"connection": self.number, "security": security}

    @property
    def stillborn(self) -> bool:
        """Whether it was gone before it could serve, or rest, for the first time."""
        return not self.served and not self.idle_since

    def _run(self) -> None:
        pool = self.pool
        try:
            lond = self._connect()
        except NotSentError as error:
            if pool.dialling is self:  # else it was aborted, and another one may be under way
                pool.dial_failed(self, error)
            return
        except gevent.GreenletExit:
            raise  # the pool knows: before the first turn nothing here could tell it
        except BaseException:
            pool.ended(self)
            raise
        if pool.dialling is not self:
            lond.close()
            return
        self.lond = lond
        ending: LondError | None = None
        try:
            pool.dialled(self)
            if lond.session.fell_back:
                pool.log.warning(
                    "session_not_encrypted", connection=self.number, detail=lond.session.fell_back
                )
            ending = self._serve(lond)
        except LondError as error:
            ending = _without_frames(error)
        finally:
            # Killed, or a bug of ours: the reply, if any, is lost.
            transaction, self.transaction = self.transaction, None
            if transaction is not None:
                transaction.error = ConnectionLostError("we ended it ourselves")
                pool.finish(transaction, CON_LOST)
            lond.close()
            pool.ended(self, ending)

    def _connect(self) -> Lond:
        """Connect to lond and shake hands; a test of the pool has its own. Raises NotSentError."""
        pool = self.pool
        return connect(pool.host, pool.hub, self.stream, pool.credentials)

    def _serve(self, lond: Lond) -> LondError | None:
        """Carry one transaction after another; return why it ended, None if it was asked to."""
        pool = self.pool
        stream = self.stream
        timeout = pool.host.pool.reply_timeout
        while True:
            transaction = self._next(lond)
            if transaction is None:
                return None
            stream.deadline = self.started + timeout
            try:
                reply = lond.exchange(transaction.request)
            except NotSentError as error:
                self.transaction = None
                pool.put_back(transaction)
                return _without_frames(error)
            except ReplyLostError as error:
                self.transaction = None
                transaction.error = error
                pool.reply_lost(self, transaction, error)
                return _without_frames(error)
            self.transaction = None
            self.served = True
            pool.finish(transaction, reply)
            del transaction, reply  # an idle connection must not keep the last lines in memory
            if lond.buffer.data:
                return UnsolicitedBytesError("bytes after the end of a reply")
            if lond.is_spent:
                return None

    def _next(self, lond: Lond) -> Transaction | None:
        """Wait for a transaction. None: asked to end. Raises NotSentError if lond ended it."""
        pool = self.pool
        if self.retiring:
            return None
        now = monotonic()
        transaction = pool.take(now)
        if transaction is not None:
            self.transaction = transaction
            self.started = now
            return transaction
        pool.rest(self)
        return self._wait_for_work(lond)

    def _wait_for_work(self, lond: Lond) -> Transaction | None:
        """Wait, idle, as `_next` does."""
        while True:
            # Woken by a transaction (see `assign`), by `retire`, by lond, or for no reason.
            self.stream.wait_readable()
            if self.transaction is not None:
                return self.transaction
            if self.retiring:
                return None
            if not self.stream.is_quiet():
                raise lond.unexpected()

    def assign(self, transaction: Transaction, now: float) -> None:
        """Hand a transaction to this idle connection."""
        self.transaction = transaction
        self.started = now
        self.pool.wake(self.greenlet)

    def retire(self) -> None:
        """End the connection: now if it is idle, else once its transaction is done."""
        self.retiring = True
        if self in self.pool.idle:
            self.pool.idle.remove(self)
            self.pool.wake(self.greenlet)


def _without_frames(error: LondError) -> LondError:
    """Drop the frames that an error holds, as this greenlet goes on holding the error.

    In that circle the 64 MB of a reply that was too long would stay until Python looks for
    circles; it did, and that was once in many such replies.
    """
    error.__context__ = None
    return error.with_traceback(None)
