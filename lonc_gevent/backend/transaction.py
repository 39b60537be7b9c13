# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions (a request and its reply), and the queue of those of one host that wait."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Final

from gevent.queue import SimpleQueue

from lonc_gevent.protocol.lines import CON_LOST, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlet import greenlet

    from lonc_gevent.errors import ReplyLostError
    from lonc_gevent.protocol.lines import Line


WITHDRAWN: Final[Line] = bytes(bytearray(b"withdrawn\n"))
"""In place of a reply (by identity): the request was not sent, and is to be submitted again."""


def never() -> bool:
    """Return False."""
    return False


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
        return not any(self.reply is none for none in (None, CON_LOST, WITHDRAWN))

    def fields(self, now: float) -> dict[str, object]:
        """Return its fields in a log event, with only the verb and the size of the request."""
        return {
            "verb": verb(self.request),
            "request_bytes": len(self.request),
            "duration_ms": round((now - self.since) * 1000, 3),
        }


class QueueBudget:
    """The bytes in the queues of all hosts, and their limit, `max_queued_bytes`."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class TransactionQueue:
    """The transactions of a host that wait for a lond connection, oldest first, in a gevent queue.

    Limited in their number, and by the bytes of `QueueBudget` in all hosts together.
    """

    __slots__ = ("_budget", "waiting")

    def __init__(self, budget: QueueBudget) -> None:
        self.waiting: SimpleQueue[Transaction] = SimpleQueue()
        self._budget = budget

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
        if self.waiting.qsize() >= limit or self._budget.used + size > self._budget.limit:
            return False
        self.waiting.put_nowait(transaction)
        self._budget.used += size
        return True

    def requeue(self, transaction: Transaction) -> None:
        """Insert a transaction before all newer ones. Not subject to the limits."""
        waiting = self.waiting.queue
        # Usually the first place; one that was requeued just before may be older.
        older = sum(1 for _ in takewhile(lambda t: t.since < transaction.since, waiting))
        waiting.insert(older, transaction)
        self._budget.used += len(transaction.request)

    def take(self) -> Transaction:
        """Remove and return the oldest transaction. The queue must not be empty."""
        transaction = self.waiting.get_nowait()
        self._budget.used -= len(transaction.request)
        return transaction
