# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue of a host's transactions, by itself."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from math import inf

import pytest
from greenlet import getcurrent

from lonc_gevent.backend.transaction import (
    OVERLOAD,
    SEARCHED,
    QueueBudget,
    Transaction,
    TransactionQueue,
)


def transaction(since: float, request: bytes = b"ping\n") -> Transaction:
    """Make a transaction that began at that time."""
    return Transaction(request, getcurrent(), since)


def take_all(queue: TransactionQueue) -> list[Transaction]:
    """Empty the queue."""
    return [queue.take() for _ in range(len(queue))]


@pytest.mark.parametrize("order", list(permutations([1.0, 2.0, 3.0])))
def test_what_is_requeued_waits_in_its_old_order(order: tuple[float, ...]) -> None:
    """Whichever of several connections gives its transaction back first, the oldest goes first."""
    queue = TransactionQueue(QueueBudget(1000))
    for since in (4.0, 5.0):
        assert queue.put(transaction(since), limit=10)

    for since in order:
        queue.requeue(transaction(since))

    assert queue.oldest_since == 1.0
    taken = [one.since for one in take_all(queue)]
    assert taken == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_is_requeued_goes_before_what_came_in_the_same_moment() -> None:
    """It had been at the head of the queue already."""
    queue = TransactionQueue(QueueBudget(1000))
    assert queue.put(transaction(1.0, b"later\n"), limit=10)

    queue.requeue(transaction(1.0, b"first\n"))

    assert [one.request for one in take_all(queue)] == [b"first\n", b"later\n"]


def test_a_transaction_shows_its_verb_and_nothing_else() -> None:
    """The text of a request must not get into a log or traceback."""
    one = transaction(1.0, b"auth:msu:smith:secret\n")
    assert repr(one) == "<Transaction auth open>"
    one.reply = b"authorized\n"
    assert repr(one) == "<Transaction auth done>"


def test_an_empty_queue() -> None:
    """No transaction is the oldest one."""
    queue = TransactionQueue(QueueBudget(1000))

    assert len(queue) == 0
    assert queue.oldest_since == inf


def test_the_limit_is_a_number_of_transactions() -> None:
    """The next one is refused; requeue is not subject to the limit."""
    queue = TransactionQueue(QueueBudget(1000))

    assert [queue.put(transaction(i), limit=2) for i in (1.0, 2.0, 3.0)] == [True, True, False]

    queue.requeue(transaction(0.5))
    assert len(queue) == 3


def test_the_budget_is_bytes_over_all_hosts() -> None:
    """Bytes are counted while they wait, in all queues together, and given back."""
    budget = QueueBudget(10)
    one, other = TransactionQueue(budget), TransactionQueue(budget)

    assert one.put(transaction(1.0, b"12345\n"), limit=9)
    assert other.put(transaction(1.0, b"123\n"), limit=9)
    assert budget.used == 10
    assert not other.put(transaction(1.0, b"\n"), limit=9)

    taken = one.take()
    assert taken is not None
    assert budget.used == 4
    one.requeue(taken)
    assert budget.used == 10
    other.take()
    one.take()
    assert budget.used == 0


def test_queue_of_one_host_may_use_half_of_the_bytes() -> None:
    """Each may use as many as are free: one host a half, the next one half of the rest."""
    budget = QueueBudget(1000)
    mute, healthy = TransactionQueue(budget), TransactionQueue(budget)

    accepted = sum(mute.put(transaction(1.0, b"x" * 9 + b"\n"), limit=1000) for _ in range(200))

    assert accepted == 50
    assert healthy.put(transaction(1.0, b"x" * 249 + b"\n"), limit=1000)
    assert not mute.put(transaction(1.0, b"\n"), limit=1000)


def test_newest_is_taken_first_while_the_oldest_waits_for_long() -> None:
    """Until then, and after it, the oldest is."""
    queue = TransactionQueue(QueueBudget(1000))
    for since in (1.0, 1.5, 2.0):
        assert queue.put(transaction(since), limit=10)

    assert queue.take(1.0 + OVERLOAD).since == 1.0
    assert queue.take(1.6 + OVERLOAD).since == 2.0
    assert queue.take().since == 1.5


@pytest.mark.parametrize("size", [4, SEARCHED, SEARCHED + 1, 3 * SEARCHED + 7])
def test_abandoned_ones_are_removed_while_the_oldest_waits_for_long(size: int) -> None:
    """SEARCHED are examined at a time; the order and the bytes of the others stay as they are."""
    budget = QueueBudget(1_000_000)
    queue = TransactionQueue(budget)
    for number in range(size):
        one = transaction(1.0 + number, b"ping\n")
        one.is_abandoned = partial(bool, number % 3)
        assert queue.put(one, limit=size)
    left = [1.0 + number for number in range(0, size, 3)]

    assert not queue.remove_abandoned(1.0 + OVERLOAD)
    removed = [queue.remove_abandoned(5.0) for _ in range(size // SEARCHED + 1)]

    assert sum(map(len, removed)) == size - len(left)
    assert max(map(len, removed)) <= SEARCHED
    assert budget.used == len(left) * len(b"ping\n")
    assert [one.since for one in take_all(queue)] == left
    assert budget.used == 0
