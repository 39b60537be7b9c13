# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction: one request, its reply, and the greenlet that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rules.wire import verb

if TYPE_CHECKING:
    from greenlet import greenlet

    from .errors import ReplyLostError
    from .rules.wire import Line


class Transaction:
    """One request on its way to a lond, and the greenlet that waits for its reply."""

    __slots__ = ("error", "reply", "request", "since", "waiter")

    def __init__(self, request: Line, waiter: greenlet, since: float) -> None:
        self.request = request
        self.waiter: greenlet | None = waiter
        self.since = since
        self.reply: Line | None = None
        self.error: ReplyLostError | None = None
        """Why the reply will not come, of a request that may have run."""

    def __repr__(self) -> str:
        return f"<Transaction {verb(self.request)} {'done' if self.reply else 'open'}>"


class QueueBudget:
    """The bytes that wait in the queues of all hosts together, against `max_queued_bytes`."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
