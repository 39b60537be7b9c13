# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions (a request and its reply), and the queue of those of one host that wait."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from gevent.queue import SimpleQueue

from lonc_gevent.eventloop import UNLIMITED
from lonc_gevent.protocol.lines import CON_LOST, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from greenlet import greenlet

    from lonc_gevent.errors import ReplyLostError
    from lonc_gevent.eventloop import MemoryBudget
    from lonc_gevent.protocol.lines import Line


def never() -> bool:
    """Return False."""
    return False


def always() -> bool:
    """Return True."""
    return True


@dataclass(slots=True, eq=False, repr=False)
class Transaction:
    """One request, its reply once there is one, and the greenlet that waits for it.

    since         when it was submitted (monotonic seconds)
    is_abandoned  returns whether its client has disconnected, so that it need not be sent
    error         why there is no reply, if the request may have run
    """

    request: Line
    waiter: greenlet | None
    since: float
    is_abandoned: Callable[[], bool] = never
    reply: Line | None = None
    error: ReplyLostError | None = None

    def __repr__(self) -> str:
        return f"<Transaction {verb(self.request)} {'open' if self.reply is None else 'done'}>"

    @property
    def is_answered(self) -> bool:
        """Whether the reply is lond's, even if lond sent a line that equals one of ours."""
        return not any(self.reply is none for none in (None, CON_LOST))

    def wait(self, hub: Hub) -> Line:
        """Wait until the transaction has ended; return its reply. Called by `waiter` only."""
        try:
            while self.reply is None:
                hub.switch()
        finally:
            self.waiter = None
        return self.reply

    def fields(self, now: float) -> dict[str, object]:
        """Return its fields in a log event, with only the verb and the size of the request."""
        return {
            "verb": verb(self.request),
            "request_bytes": len(self.request),
            "duration_ms": round((now - self.since) * 1000, 3),
        }


OVERLOAD: Final = 1.0
"""Seconds. While the oldest transaction of a queue has waited for longer, the newest is sent first:
in the order of arrival, each reply would come after its client has given up (decision 0008)."""

SEARCHED: Final = 200
"""Transactions of a queue that one search for abandoned ones examines: each is a system call."""


class QueueBudget:
    """The bytes in the queues of all hosts, and their limit, `max_queued_bytes`.

    replies  counts the long replies of all hosts
    """

    __slots__ = ("limit", "replies", "used")

    def __init__(self, limit: int, replies: MemoryBudget = UNLIMITED) -> None:
        self.limit = limit
        self.replies = replies
        self.used = 0


class TransactionQueue:
    """The transactions of a host that wait for a lond connection, oldest first, in a gevent queue.

    Limited in their number, and by the bytes of `QueueBudget` in all hosts together, of which one
    host may use as many as it leaves free. So a host that takes no requests does not use up those
    of the others.
    """

    __slots__ = ("_budget", "_searched", "_used", "waiting")

    def __init__(self, budget: QueueBudget) -> None:
        self.waiting: SimpleQueue[Transaction] = SimpleQueue()
        self._budget = budget
        self._used = 0
        self._searched = 0

    def __len__(self) -> int:
        """Return the number of queued transactions."""
        return self.waiting.qsize()

    def __repr__(self) -> str:
        return f"<TransactionQueue of {len(self)}>"

    @property
    def oldest_since(self) -> float:
        """When the oldest one was submitted (monotonic seconds); infinity if the queue is empty."""
        return self.waiting.peek_nowait().since if self.waiting.qsize() else inf

    def put(self, transaction: Transaction, limit: int) -> bool:
        """Append a transaction; return False if a limit is reached."""
        size = len(transaction.request)
        free = self._budget.limit - self._budget.used
        if self.waiting.qsize() >= limit or self._used + size > free:
            return False
        self.waiting.put_nowait(transaction)
        self._count(size)
        return True

    def _count(self, size: int) -> None:
        self._used += size
        self._budget.used += size

    def requeue(self, transaction: Transaction) -> None:
        """Insert a transaction before all newer ones. Not subject to the limits."""
        waiting = self.waiting.queue
        # Usually the first place; one that was requeued just before may be older.
        place = bisect_left(waiting, transaction.since, key=lambda each: each.since)
        waiting.insert(place, transaction)
        self._count(len(transaction.request))

    def take(self, now: float = -inf) -> Transaction:
        """Remove and return the oldest transaction, or under OVERLOAD at that time the newest.

        The queue must not be empty.
        """
        waiting = self.waiting.queue
        transaction = waiting.pop() if now - waiting[0].since > OVERLOAD else waiting.popleft()
        self._count(-len(transaction.request))
        return transaction

    def remove_abandoned(self, now: float) -> list[Transaction]:
        """Remove and return the abandoned ones, under OVERLOAD, among the next SEARCHED.

        `take` does not reach them then, and they would fill the queue.
        """
        removed: list[Transaction] = []
        if now - self.oldest_since <= OVERLOAD:
            return removed
        waiting = self.waiting.queue
        before = self._searched if self._searched < len(waiting) else 0
        examined = min(SEARCHED, len(waiting) - before)
        waiting.rotate(-before)
        for _ in range(examined):
            transaction = waiting.popleft()
            if transaction.is_abandoned():
                removed.append(transaction)
                self._count(-len(transaction.request))
            else:
                waiting.append(transaction)
        self._searched = before + examined - len(removed)
        waiting.rotate(self._searched)
        return removed
