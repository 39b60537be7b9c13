# SPDX-License-Identifier: GPL-2.0-or-later
"""A host over a restart in place: its state for the next program, and what that makes of it."""

from __future__ import annotations

from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from .pool_connections import PoolConnections
from .pool_state import PoolState
from .snapshot import PoolSnapshot, TransactionSnapshot
from .transaction import Transaction, always

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .lond_connection import PoolInterface


class TransferablePool(PoolConnections):
    """The part of `Pool` for a restart in place."""

    def snapshot(self, owners: Mapping[int, int]) -> PoolSnapshot:
        """Return the state of the host; nothing changes here.

        owners: id of a transaction -> its `TransactionSnapshot.owner`. A connection that is being
        made is not handed over. Requests of which nothing was sent go to the queue.
        """

        def of(transaction: Transaction) -> TransactionSnapshot:
            owner = owners.get(id(transaction))
            return TransactionSnapshot(bytes(transaction.request), transaction.since, owner)

        queue = [of(transaction) for transaction in self.queue.waiting.queue]
        connections = []
        for connection in self.connections:
            transaction = None if connection.transaction is None else of(connection.transaction)
            if transaction is not None and not connection.may_have_sent:
                queue.append(transaction)
                transaction = None
            connections.append(connection.snapshot(transaction))
        return PoolSnapshot(
            host=self.host,
            gate=self.gate,
            stats=self.stats,
            queue=tuple(queue),
            connections=tuple(filter(None, connections)),
            next_number=self._next_number,
            probe_at=None if self._probe_at == inf else self._probe_at,
            last_error=self.last_error,
            is_down=self._is_down,
            is_paused=self.state is PoolState.PAUSED,
            is_leaving=self.is_ending,
            since=self.since,
            changes=tuple(self.changes),
            made={
                key: None if value is None else str(value) for key, value in self.session.items()
            },
        )

    def restore(self, state: PoolSnapshot, pause: float = 0.0) -> dict[int, Transaction]:
        """Go on with the host where the program before stopped; return the transactions by owner.

        pause: seconds since `snapshot`, which do not count as a wait in the queue: a restart on a
        slow machine must not make queued requests time out

        The pool must be new, and its settings those of the snapshot. Until an owner sets `waiter`
        and `is_abandoned`, a transaction counts as abandoned.
        """
        self.stats, self.gate = state.stats, state.gate
        self.last_error, self._is_down = state.last_error, state.is_down
        self._next_number = state.next_number
        self._probe_at = inf if state.probe_at is None else state.probe_at
        owned = {}

        def made(each: TransactionSnapshot) -> Transaction:
            transaction = Transaction(each.request, None, each.since, is_abandoned=always)
            if each.owner is not None:
                owned[each.owner] = transaction
            return transaction

        for waiting in state.queue:
            transaction = made(waiting)
            transaction.since += pause
            self.queue.requeue(transaction)
        # The one used last is parked last, and so used first.
        for each in sorted(state.connections, key=attrgetter("idle_since")):
            connection = self.connection_class(cast("PoolInterface", self), each.number)
            self.connections.add(connection)
            connection.restore(each, made(each.transaction) if each.transaction else None)
        self.state = PoolState.PAUSED if state.is_paused else self._by_connections()
        self.since = state.since
        self.changes.extend(state.changes)
        self.session = dict(state.made)
        self._is_scheduled = True
        self._schedule()
        return owned
