# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's pool: a queue of transactions, and the lond connections that take from it.

The rules that this keeps (the shape is one greenlet a lond connection; a transaction goes from the
client's greenlet to the connection's, and its reply from there to the client's stream):

1. A transaction ends exactly once: with lond's whole reply, or with con_lost.
2. A connection left by anything but a whole reply is closed, whatever the reason.
3. Only what was not sent is tried again; it goes back to the head of the queue.
4. Connections are made one at a time, each in its own greenlet. A waiter never dials.
5. Busy is not down. Busy: wait in the queue, oldest first, up to `queue_timeout`. Down (no
   connection, and the gate is shut since the last attempt failed): con_lost at once.
6. `connections` is the one number: made, being made and at work. `idle` is part of it, most
   lately used last and used first, so that the surplus ages and is pruned.
7. If a connection is idle, nothing waits in the queue.
"""

from __future__ import annotations

from math import inf
from random import random
from time import monotonic
from typing import TYPE_CHECKING

from greenlet import getcurrent

from lonc_gevent.errors import NotSentError
from lonc_gevent.logs.throttle import Throttle
from lonc_gevent.protocol.lines import CON_LOST

from .lond_connection import Connection
from .retry_gate import Gate
from .stats import HostState, HostStats
from .tls import Credentials
from .transaction import Transaction, TransactionQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.errors import LondError, ReplyLostError
    from lonc_gevent.eventloop.turns import Turns
    from lonc_gevent.protocol.lines import Line

    from .transaction import QueueBudget

REFUSED_LOG_INTERVAL = 10.0
"""Seconds between two `requests_refused` events of one host."""


class Pool:
    """One host: its queue, its connections, its gate and its counts.

    `watch` is called when something begins here that has a deadline, with this pool; whoever
    is told so must call `tend` every tick until it says that all is quiet.
    """

    def __init__(
        self,
        host: HostSettings,
        turns: Turns,
        logger: FilteringBoundLogger,
        *,
        budget: QueueBudget,
        watch: Callable[[Pool], None],
        sample: int = 0,
    ) -> None:
        self.host = host
        self.turns = turns
        self.hub = turns.hub
        self.wake: Callable[[greenlet], None] = turns.wake
        self.log = logger.bind(host=host.id)
        self.credentials = Credentials()
        self.stats = HostStats()
        self.gate = Gate(host.pool.retry_backoff_min, host.pool.retry_backoff_max)
        self.queue = TransactionQueue(budget)
        self.connection_class = Connection
        self.connections: set[Connection] = set()
        self.idle: list[Connection] = []
        self.dialling: Connection | None = None
        self.watched = False
        self.stopping = self.paused = self.is_down = False
        self.draining = False  # clients are let go once they have their replies
        self.last_error = ""
        self.came_back: Callable[[Pool], None] = lambda _: None  # told when it is up again
        self._watch = watch
        self._sample = sample
        self._numbers = 0
        self._refusals = Throttle(REFUSED_LOG_INTERVAL)

    def __repr__(self) -> str:
        return (
            f"<Pool {self.host.id} {self.state.value} queue={len(self.queue)}"
            f" idle={len(self.idle)} busy={self.busy} connecting={int(self.dialling is not None)}>"
        )

    @property
    def state(self) -> HostState:
        """How the host stands."""
        if self.stopping or self.paused:
            return HostState.STOPPING if self.stopping else HostState.PAUSED
        if len(self.connections) > (self.dialling is not None):
            return HostState.UP
        if self.is_down:
            return HostState.DOWN
        return HostState.CONNECTING if self.dialling else HostState.IDLE

    # -- the path of a transaction -----------------------------------------------------------

    def transact(self, request: Line) -> Line:
        """Send the request through the pool and wait for the reply line, or CON_LOST.

        Called in the greenlet that wants the reply. It may wait up to `queue_timeout` and
        `reply_timeout` together, and never raises.
        """
        transaction = Transaction(request, getcurrent(), monotonic())
        self.submit(transaction)
        return transaction.wait(self.hub)

    def submit(self, transaction: Transaction) -> None:
        """Give the transaction to an idle connection, or to the queue, or refuse it."""
        if not self.watched:
            self.watched = True
            self._watch(self)
        now = transaction.since
        if self.idle:
            self.stats.queue_wait.buckets[0] += 1
            self.idle.pop().assign(transaction, now)
        elif self.stopping or not (self.connections or self.paused or self.gate.is_open(now)):
            self._refuse(transaction)
        elif self.queue.put(transaction, self.host.pool.max_queued):
            if self.dialling is None and len(self.connections) < self.host.pool.max_connections:
                self.grow(now)
        else:
            self._refuse(transaction)
            self._log_refused(now, "queue_full")

    def take(self, now: float) -> Transaction | None:
        """Take the oldest transaction that waits and may still be sent."""
        while (transaction := self.queue.take()) is not None:
            waited = now - transaction.since
            if waited < self.host.pool.queue_timeout:
                self.stats.queue_wait.observe(waited)
                return transaction
            self._give_up(transaction, now)
        return None

    def _give_up(self, transaction: Transaction, now: float) -> None:
        """End a transaction that has waited for `queue_timeout`."""
        self.finish(transaction, CON_LOST)
        self._log_refused(now, "queue_timeout")

    def _log_refused(self, now: float, reason: str) -> None:
        if count := self._refusals.count(now):
            self.log.warning("requests_refused", error=reason, count=count)

    def put_back(self, transaction: Transaction) -> None:
        """Give back what was not sent: it is older than all that waits."""
        if self.idle:
            self.idle.pop().assign(transaction, monotonic())
        else:
            self.queue.put_back(transaction)

    def finish(self, transaction: Transaction, reply: Line) -> None:
        """End a transaction: its reply goes to its outlet, or whoever waits for it is woken."""
        transaction.reply = reply
        stats = self.stats
        if reply is CON_LOST:
            stats.con_lost += 1
        else:
            stats.ok += 1
            now = monotonic()
            stats.duration.observe(now - transaction.since)
            if self._sample and not stats.ok % self._sample:
                self.log.info("transaction", reply_bytes=len(reply), **transaction.fields(now))
        if transaction.outlet is not None and not self.draining:
            transaction.post()
        elif transaction.waiter is not None:
            self.wake(transaction.waiter)

    def _refuse(self, transaction: Transaction) -> None:
        """End a transaction whose waiter is not waiting yet."""
        transaction.reply = CON_LOST
        self.stats.con_lost += 1

    def reply_lost(
        self, connection: Connection, transaction: Transaction, error: ReplyLostError
    ) -> None:
        """End a transaction that may have run, and whose reply will not come."""
        fields = transaction.fields(monotonic())
        self.finish(transaction, CON_LOST)
        self.log.warning(
            "reply_lost",
            connection=connection.number,
            error=error.kind,
            detail=str(error),
            **fields,
        )

    def rest(self, connection: Connection) -> None:
        """Take back a connection that found nothing to do."""
        connection.idle_since = monotonic()
        connection.stream.deadline = inf
        self.idle.append(connection)

    # -- connections -------------------------------------------------------------------------

    def grow(self, now: float) -> None:
        """Begin to make a connection, unless one is being made, all are, or the gate is shut."""
        if (
            self.dialling is not None
            or len(self.connections) >= self.host.pool.max_connections
            or self.stopping
            or self.paused
            or not self.gate.is_open(now)
        ):
            return
        if not self.watched:
            self.watched = True
            self._watch(self)
        self._numbers += 1
        self.dialling = connection = self.connection_class(self, self._numbers)
        self.connections.add(connection)

    def dialled(self, connection: Connection) -> None:
        """Note that a connection is made and handshaken."""
        self.dialling = None
        self.stats.attempts["ok"] += 1
        self.gate.open()
        self.last_error = ""
        if self.is_down:
            self.is_down = False
            self.log.info("host_up")
            self.came_back(self)
        self.log.info("connection_made", **connection.session_fields)
        # The new one takes the oldest request; if more wait, one connection more is made.
        if len(self.queue) > 1:
            self.grow(monotonic())

    def dial_failed(self, connection: Connection, error: NotSentError) -> None:
        """Note that no connection could be made: the gate shuts."""
        self.dialling = None
        self.connections.discard(connection)
        self.stats.attempts[error.kind] += 1
        self._attempt_failed(connection, error)

    def ended(self, connection: Connection, error: LondError | None = None) -> None:
        """Note the end of a connection; make another one if something waits for it."""
        if connection not in self.connections:
            return  # killed while it was being made, and that was told already
        if self.dialling is connection:
            self.dialling = None
        self.connections.discard(connection)
        if connection in self.idle:  # whatever ended it, nobody must get it any more
            self.idle.remove(connection)
        if error is None:
            self.log.info("connection_closed", connection=connection.number)
        elif isinstance(error, NotSentError) and connection.stillborn:
            # Its transaction waits again: without the gate this would be a loop of dialling.
            self._attempt_failed(connection, error)
            return
        else:
            self.log.info(
                "connection_lost",
                connection=connection.number,
                error=error.kind,
                detail=str(error),
            )
        if self.queue:
            self.grow(monotonic())
            if not self.connections:
                self.fail_queue()

    def _attempt_failed(self, connection: Connection, error: NotSentError) -> None:
        delay = self.gate.failed(monotonic(), random())  # noqa: S311 - jitter # nosec B311
        self.last_error = f"{error.kind}: {error}"
        self.log.warning(
            "connection_failed",
            connection=connection.number,
            error=error.kind,
            detail=str(error),
            retry_in_s=round(delay, 3),
        )
        if not self.connections:
            if not self.is_down:
                self.is_down = True
                self.log.warning("host_down", error=error.kind, detail=str(error))
            self.fail_queue()

    def fail_queue(self) -> None:
        """Answer con_lost to all that waits, unless it is to wait for the host's resumption."""
        while (self.stopping or not self.paused) and (transaction := self.queue.take()):
            self.finish(transaction, CON_LOST)

    # -- what time, people and the end ask for -----------------------------------------------

    def tend(self, now: float) -> bool:
        """Do all that is due; return whether it is quiet: no deadline but `next_due`."""
        longest = self.host.pool.queue_timeout
        while self.queue.oldest_since + longest <= now and (transaction := self.queue.take()):
            self._give_up(transaction, now)
        for connection in self.connections:
            if connection.stream.deadline <= now:
                connection.stream.expire()
        while self.idle and self.idle[0].idle_since + self.host.pool.idle_timeout <= now:
            self.idle[0].retire()
        if self.queue:
            self.grow(now)
        return len(self.idle) == len(self.connections) and not self.queue

    @property
    def next_due(self) -> float | None:
        """When a quiet pool must be tended again (monotonic seconds), None if never."""
        return self.idle[0].idle_since + self.host.pool.idle_timeout if self.idle else None

    def close_connections(self) -> None:
        """End all connections once their transactions are done (`close_connection_exit`)."""
        for connection in tuple(self.connections):
            connection.retire()

    def stop(self) -> None:
        """Take no more; what waits gets con_lost; idle connections end. Busy ones go on."""
        self.stopping = self.draining = True
        self.fail_queue()
        self.close_connections()
        if self.dialling is not None:
            self.abort(self.dialling)

    @property
    def busy(self) -> int:
        """The number of transactions under way on lond connections."""
        return sum(c.transaction is not None for c in self.connections)

    def kill(self) -> None:
        """End all connections now; transactions under way get con_lost."""
        for connection in tuple(self.connections):
            self.abort(connection)

    def abort(self, connection: Connection) -> None:
        """End a connection now."""
        connection.greenlet.kill(block=False)
        if connection is self.dialling:
            self.ended(connection)
