# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction: one request, its reply, who waits for it; and the queue of those that wait."""

from __future__ import annotations

from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from gevent.queue import SimpleQueue

from lonc_gevent.protocol.lines import verb

if TYPE_CHECKING:
    from gevent.hub import Hub
    from greenlet import greenlet

    from lonc_gevent.errors import ReplyLostError
    from lonc_gevent.protocol.lines import Line


POSTED: Final = b""
"""In place of a reply that went to the transaction's outlet."""


class Outlet(Protocol):
    """Where a reply can go without a hand of who waits for it: a client's stream."""

    def answer(self, line: Line, waiter: greenlet) -> None:
        """Post the line, and switch to the waiter when there is something to read, or to do."""


class Transaction:
    """One request on its way to a lond, and the greenlet that waits for its reply.

    With an `outlet` the reply goes there, if it may, and `reply` is POSTED. The waiter then sleeps
    on until the outlet has something for it: that saves a switch to it and back.
    """

    __slots__ = ("error", "outlet", "reply", "request", "since", "waiter")

    def __init__(
        self, request: Line, waiter: greenlet, since: float, outlet: Outlet | None = None
    ) -> None:
        self.request = request
        self.waiter: greenlet | None = waiter
        self.since = since
        self.outlet = outlet
        self.reply: Line | None = None
        self.error: ReplyLostError | None = None
        """Why the reply will not come, of a request that may have run."""

    def __repr__(self) -> str:
        return f"<Transaction {verb(self.request)} {'open' if self.reply is None else 'done'}>"

    def wait(self, hub: Hub) -> Line:
        """Wait, in the greenlet that is its waiter, until it has ended; return its reply.

        POSTED: the outlet had the reply, and has woken the greenlet since.
        """
        try:
            while self.reply is None:
                hub.switch()
        finally:
            self.waiter = None
        return self.reply

    def post(self) -> None:
        """Hand the reply to the outlet."""
        if self.outlet is not None and self.waiter is not None and self.reply is not None:
            self.outlet.answer(self.reply, self.waiter)
        # A client that keeps its connection open must not keep its last lines in memory.
        self.request = self.reply = POSTED

    def fields(self, now: float) -> dict[str, object]:
        """Return what a log event tells of it; nothing of what it holds but the verb."""
        return {
            "verb": verb(self.request),
            "request_bytes": len(self.request),
            "duration_ms": round((now - self.since) * 1000, 3),
        }


class QueueBudget:
    """The bytes that wait in the queues of all hosts together, against `max_queued_bytes`."""

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
        """Return how many transactions wait."""
        return self._waiting.qsize()

    def __repr__(self) -> str:
        return f"<TransactionQueue of {len(self)}>"

    @property
    def oldest_since(self) -> float:
        """Since when the oldest one has waited (monotonic seconds); infinity if none waits."""
        return self._waiting.peek_nowait().since if self._waiting.qsize() else inf

    def put(self, transaction: Transaction, limit: int) -> bool:
        """Let it wait, behind all others; False: there is no room."""
        size = len(transaction.request)
        if self._waiting.qsize() >= limit or self._budget.used + size > self._budget.limit:
            return False
        self._waiting.put_nowait(transaction)
        self._budget.used += size
        return True

    def put_back(self, transaction: Transaction) -> None:
        """Let it wait again, before all that is newer. There is always room."""
        waiting = self._waiting.queue
        # Almost always the first place; what was put back just before it may be older.
        older = sum(1 for _ in takewhile(lambda t: t.since < transaction.since, waiting))
        waiting.insert(older, transaction)
        self._budget.used += len(transaction.request)

    def take(self) -> Transaction | None:
        """Take the oldest one; None: nothing waits."""
        if not self._waiting.qsize():
            return None
        transaction = self._waiting.get_nowait()
        self._budget.used -= len(transaction.request)
        return transaction
