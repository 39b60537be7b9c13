# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's pool: a queue of transactions, and the lond connections that take from it.

A transaction goes from the client's greenlet to a connection's greenlet, and its reply from there
back to the client's. The rules:

1. A transaction ends exactly once: with lond's whole reply, or with con_lost.
2. A connection left by anything but a whole reply is closed, for any reason.
3. Only a request that was not sent is sent again. It goes to the head of the queue.
4. Connections are made one at a time, each in its own greenlet, never in a client's.
5. Busy is not down. If all connections are busy, a request waits in the queue (transaction.py), up
   to `queue_timeout`. If the host is down (no connection, and the retry gate is shut after a failed
   attempt), a request gets con_lost at once.
6. `connections` holds each connection: being made, busy or idle. The idle ones are also a stack:
   the one used last is used first, so that the surplus ages and is pruned.
7. If a connection is idle, the queue is empty.
8. The state is one enum (pool_state.py). Only the methods of Pool and of its base class
   PoolConnections change it, or any other attribute of a pool.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from lonc_gevent.errors import ReplyLostError
from lonc_gevent.logs.throttle import Throttle
from lonc_gevent.protocol.lines import CON_LOST

from .pool_state import PoolState
from .pool_transfer import TransferablePool
from .retry_gate import RetryGate
from .stats import DURATION_BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.protocol.lines import Line

    from .lond_connection import LondConnection
    from .tls import Credentials
    from .transaction import QueueBudget, Transaction

REFUSED_LOG_INTERVAL = 10.0
"""Seconds between two `requests_refused` events of one host."""

SHORT_WAIT = 0.25
"""Seconds in the queue up to which a request is sent without a check that its client is still
connected. Under full load most requests wait for less, and the check is a system call."""


class Pool(TransferablePool):
    """One host: its queue, its connections, its retry gate and its counters.

    budget    what the queues and the long replies of all hosts may use
    schedule  called with the pool when something begins here that has a deadline; the receiver
              then calls `run_maintenance` every tick until it returns True
    on_up     called with the pool when the host is up again after it was down
    sample    each n-th transaction is logged, none if 0
    """

    def __init__(  # noqa: PLR0913 - settings and collaborators, each used
        self,
        host: HostSettings,
        hub: Hub,
        logger: FilteringBoundLogger,
        *,
        credentials: Credentials,
        budget: QueueBudget,
        schedule: Callable[[Pool], None] = lambda _: None,
        on_up: Callable[[Pool], None] = lambda _: None,
        sample: int = 0,
    ) -> None:
        super().__init__(
            host,
            hub,
            logger,
            credentials=credentials,
            budget=budget,
            schedule=partial(schedule, self),
            on_up=partial(on_up, self),
        )
        self._sample = sample
        self._refused_log = Throttle(REFUSED_LOG_INTERVAL)

    def __repr__(self) -> str:
        return (
            f"<Pool {self.host.id} {self.state.value} queue={len(self.queue)} idle={len(self.idle)}"
            f" busy={self.busy} connecting={int(self.connecting is not None)}>"
        )

    # -- the path of a transaction -----------------------------------------------------------

    def transact(self, transaction: Transaction) -> Line:
        """Send the request through the pool and wait for the reply line, which may be CON_LOST.

        Called by `transaction.waiter`, which waits for up to `queue_timeout` and `reply_timeout`
        together. Never raises.
        """
        self.submit(transaction)
        try:  # Transaction.wait, written out: one call less for each request
            while transaction.reply is None:
                self.hub.switch()
        finally:
            transaction.waiter = None
        return transaction.reply

    def submit(self, transaction: Transaction) -> None:
        """Give the transaction to an idle connection, or queue it, or refuse it."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()
        now = transaction.since
        if self.idle:
            self.stats.queue_wait.buckets[0] += 1
            self.idle.pop().assign(transaction, now)
        elif self._refuses_at_once(now):
            self._refuse(transaction, self._why_down)
        elif self.queue.put(transaction, self.host.pool.max_queued):
            if self.connecting is None:
                self.open_connection(now)
        else:
            self._refuse(transaction, "queue_full")
            self._log_refused(now, "queue_full")

    def _refuses_at_once(self, now: float) -> bool:
        """Whether no connection will come soon: stopping, or down with no attempt in progress."""
        if self.state is PoolState.STOPPING:
            return True
        if self.state is PoolState.PAUSED:
            return False
        if self.connections:
            return self._is_probing and len(self.queue) > 0
        return not self.gate.is_open(now)

    def take(self, now: float) -> Transaction | None:
        """Remove and return the next transaction that is still to be sent, None if none waits.

        Ends those before it that have timed out or are abandoned.
        """
        while self.queue.waiting.qsize():
            transaction = self.queue.take(now)
            waited = now - transaction.since
            if waited >= self.host.pool.queue_timeout:
                self._time_out(transaction, now)
            elif waited > SHORT_WAIT and transaction.is_abandoned():
                self._abandon(transaction)
            else:
                self.stats.queue_wait.observe(waited)
                return transaction
        return None

    def _time_out(self, transaction: Transaction, now: float) -> None:
        """End a transaction that has waited for `queue_timeout`."""
        self.finish(transaction, CON_LOST, "queue_timeout")
        self._log_refused(now, "queue_timeout")

    def _log_refused(self, now: float, reason: str) -> None:
        if count := self._refused_log.count(now):
            self.log.warning("requests_refused", error=reason, count=count)

    def requeue(self, transaction: Transaction) -> None:
        """Give a transaction of which nothing was sent to an idle connection, or queue it again."""
        if self.idle:
            self.idle.pop().assign(transaction, monotonic())
        else:
            self.queue.requeue(transaction)

    def finish(self, transaction: Transaction, reply: Line, reason: str = "") -> None:
        """End a transaction: count it (`reason`: of con_lost), and resume its waiting greenlet."""
        # Identity is meant: CON_LOST is the reply of this daemon. An equal line that lond sent is a
        # whole reply, and would be counted as con_lost with `==`.
        stats = self.stats
        if reply is CON_LOST:
            stats.lost_by[reason or (transaction.error or ReplyLostError).kind] += 1
        else:
            stats.ok += 1
            stats.last_reply = now = monotonic()
            seconds = now - transaction.since
            # Histogram.observe, written out: one call less for each request.
            duration = stats.duration
            duration.buckets[bisect_left(DURATION_BOUNDS, seconds)] += 1
            duration.sum += seconds
            duration.highest = max(duration.highest, seconds)
            if self._sample and not stats.ok % self._sample:
                self.log.info("transaction", reply_bytes=len(reply), **transaction.fields(now))
        transaction.reply = reply
        if transaction.waiter is not None:
            self.hub.loop.run_callback(transaction.waiter.switch)

    def _abandon(self, transaction: Transaction) -> None:
        """Drop a transaction whose client has disconnected."""
        self.stats.abandoned += 1
        transaction.reply = CON_LOST
        if transaction.waiter is not None:
            self.hub.loop.run_callback(transaction.waiter.switch)

    def _refuse(self, transaction: Transaction, reason: str) -> None:
        """End a transaction whose greenlet does not wait yet."""
        transaction.reply = CON_LOST
        self.stats.lost_by[reason] += 1

    @property
    def _why_down(self) -> str:
        return "stopping" if self.state is PoolState.STOPPING else "host_down"

    def reply_lost(
        self, connection: LondConnection, transaction: Transaction, error: ReplyLostError
    ) -> None:
        """End a transaction that may have run, and that gets no reply."""
        fields = transaction.fields(monotonic())
        self.finish(transaction, CON_LOST)
        self.log.warning(
            "reply_lost",
            connection=connection.number,
            error=error.kind,
            detail=str(error),
            **fields,
        )

    def park(self, connection: LondConnection) -> None:
        """Put the connection on the idle list."""
        connection.idle_since = monotonic()
        connection.stream.deadline = inf
        self.idle.append(connection)

    def _fail_queue(self) -> None:
        """End all queued transactions with con_lost, except while the host is paused."""
        while self.queue and self.state is not PoolState.PAUSED:
            self.finish(self.queue.take(), CON_LOST, self._why_down)

    # -- maintenance, by the janitor ---------------------------------------------------------

    def run_maintenance(self, now: float) -> bool:
        """Enforce deadlines, prune idle connections, open one that is needed.

        A host that is down is tried once in `retry_backoff_max`, even without a request.
        Returns True if nothing has a deadline before `next_due`.
        """
        longest = self.host.pool.queue_timeout
        while self.queue.oldest_since + longest <= now:
            self._time_out(self.queue.take(), now)
        for transaction in self.queue.remove_abandoned(now):
            self._abandon(transaction)
        for connection in self.connections:
            if connection.stream.deadline <= now:
                connection.stream.expire()
        while self.idle and self.idle[0].idle_since + self.host.pool.idle_timeout <= now:
            self.idle.pop(0).close_when_idle()
        if self.queue or self._probe_due <= now:
            self.open_connection(now)
        is_quiet = len(self.idle) == len(self.connections) and not self.queue
        self._is_scheduled = not is_quiet
        return is_quiet

    @property
    def next_due(self) -> float | None:
        """When a quiet pool needs maintenance again (monotonic seconds), None if never."""
        if self.idle:
            return self.idle[0].idle_since + self.host.pool.idle_timeout
        return None if self._probe_due == inf else self._probe_due

    @property
    def _probe_due(self) -> float:
        return self._probe_at if self.state is PoolState.DOWN else inf

    # -- commands ----------------------------------------------------------------------------

    def pause(self) -> None:
        """Keep requests in the queue, up to `queue_timeout`; end connections once they are idle."""
        if self.state is not PoolState.STOPPING:
            self._enter(PoolState.PAUSED)
            self.close_connections()

    def resume(self) -> None:
        """Send requests again after `pause`. A host that was down is tried at once."""
        self.gate.open()
        if self.state is PoolState.PAUSED:
            self._enter(self._by_connections())
            if self.queue or self._is_down:
                self.open_connection(monotonic())

    def reconnect(self) -> None:
        """End connections once they are idle, and open the retry gate for the next request."""
        self.gate.open()
        self.close_connections()

    def reconfigure(self, host: HostSettings, credentials: Credentials, *, reconnect: bool) -> None:
        """Replace the settings and credentials.

        reconnect: also replace the connections. The queue is kept, and requests in progress
        finish on the connections that they were sent on.
        """
        self.host = host
        self.credentials = credentials
        if not reconnect:
            return
        self.gate = RetryGate(host.pool.retry_backoff_min, host.pool.retry_backoff_max)
        self.close_connections()
        if self.connecting is not None:
            self._kill(self.connecting)
        if self.queue:
            self.open_connection(monotonic())

    def stop(self) -> None:
        """Take no more requests. Queued ones get con_lost; connections end once they are idle."""
        self._enter(PoolState.STOPPING)
        self._fail_queue()
        self.close_connections()
        if self.connecting is not None:
            self._kill(self.connecting)
