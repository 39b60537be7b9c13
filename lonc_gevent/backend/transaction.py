# SPDX-License-Identifier: GPL-2.0-or-later
"""A request and its reply, and the queue of the requests of one host that wait."""

from __future__ import annotations

from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING

from gevent.queue import SimpleQueue

from lonc_gevent.protocol.lines import verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from greenlet import greenlet

    from lonc_gevent.errors import ReplyLostError
    from lonc_gevent.protocol.lines import Line


def never() -> bool:
    """Return False."""
    return False


class Transaction:
    """One request on its way to a lond, and the greenlet that waits for its reply.

    since         when it was submitted (monotonic seconds)
    is_abandoned  whether its client has disconnected, so that it need not be sent any more
    error         why the reply will not come, of a request that may have run
    """

    __slots__ = ("error", "is_abandoned", "reply", "request", "since", "waiter")

    def __init__(
        self,
        request: Line,
        waiter: greenlet,
        since: float,
        is_abandoned: Callable[[], bool] = never,
    ) -> None:
        self.request = request
        self.waiter: greenlet | None = waiter
        self.since = since
        self.is_abandoned = is_abandoned
        self.reply: Line | None = None
        self.error: ReplyLostError | None = None

    def __repr__(self) -> str:
        return f"<Transaction {verb(self.request)} {'open' if self.reply is None else 'done'}>"

    def wait(self, hub: Hub) -> Line:
        """Wait, in the greenlet that is its waiter, until it has ended; return its reply."""
        try:
            while self.reply is None:
                hub.switch()
        finally:
            self.waiter = None
        return self.reply

    def fields(self, now: float) -> dict[str, object]:
        """Return what a log event holds of it: of the request, only the verb and its size."""
        return {
            "verb": verb(self.request),
            "request_bytes": len(self.request),
            "duration_ms": round((now - self.since) * 1000, 3),
        }


class QueueBudget:
    """The bytes in the queues of all hosts together, and their limit, `max_queued_bytes`."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class TransactionQueue:
    """A host's transactions that wait for a lond connection, oldest first.

    Bounded by a number of transactions, and by the budget's bytes over all hosts.
    """

    __slots__ = ("_budget", "_waiting")

    def __init__(self, budget: QueueBudget) -> None:
        self._waiting: SimpleQueue[Transaction] = SimpleQueue()
        self._budget = budget

    def __len__(self) -> int:
        """Return the number of transactions that wait."""
        return self._waiting.qsize()

    def __repr__(self) -> str:
        return f"<TransactionQueue of {len(self)}>"

    @property
    def oldest_since(self) -> float:
        """Since when the oldest one has waited (monotonic seconds); infinity if none waits."""
        return self._waiting.peek_nowait().since if self._waiting.qsize() else inf

    def put(self, transaction: Transaction, limit: int) -> bool:
        """Append a transaction; return False if there is no room."""
        size = len(transaction.request)
        if self._waiting.qsize() >= limit or self._budget.used + size > self._budget.limit:
            return False
        self._waiting.put_nowait(transaction)
        self._budget.used += size
        return True

    def requeue(self, transaction: Transaction) -> None:
        """Insert a transaction before all that are newer. Not subject to the limits."""
        waiting = self._waiting.queue
        # Almost always the first place; one that was requeued just before may be older.
        older = sum(1 for _ in takewhile(lambda t: t.since < transaction.since, waiting))
        waiting.insert(older, transaction)
        self._budget.used += len(transaction.request)

    def take(self) -> Transaction | None:
        """Remove and return the oldest transaction, None if none waits."""
        if not self._waiting.qsize():
            return None
        transaction = self._waiting.get_nowait()
        self._budget.used -= len(transaction.request)
        return transaction
