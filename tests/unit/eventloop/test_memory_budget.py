# SPDX-License-Identifier: GPL-2.0-or-later
"""The budget for long lines: which readers pause, and what resumes them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import gevent
import pytest

from lonc_gevent.eventloop import DeadlineError, MemoryBudget, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stream() -> Iterator[Stream]:
    """Give a stream that has input, which must not end a pause."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"x")
    made = Stream(gevent.get_hub())
    made.open(ours.detach())
    yield made
    made.close()
    theirs.close()


def admit(budget: MemoryBudget, data: bytearray, stream: Stream) -> gevent.Greenlet[[], bytearray]:
    """Admit the line in a greenlet, and let it run until it waits."""
    greenlet = gevent.spawn(lambda: budget.admit(data, stream))
    gevent.idle()
    gevent.idle()
    return greenlet


def test_bytes_are_counted_until_the_line_is_freed(stream: Stream) -> None:
    """Its growth is counted, and a line without a budget of its own is copied once."""
    budget = MemoryBudget(100_000)
    line = budget.admit(bytearray(20_000), stream)
    line += bytes(50)
    same = budget.admit(line, stream)

    assert (same is line, budget.used) == (True, 20_050)
    del line, same
    assert budget.used == 0


def test_reader_over_the_limit_pauses_until_another_line_is_freed(stream: Stream) -> None:
    """Input does not end the pause."""
    budget = MemoryBudget(100_000)
    first = budget.line(bytes(80_000))
    reader = admit(budget, bytearray(30_000), stream)
    assert not reader.ready()

    del first
    gevent.idle()

    assert len(reader.get(timeout=1)) == 30_000
    assert budget.used == 30_000


def test_reader_of_the_oldest_line_does_not_pause(stream: Stream) -> None:
    """However much over the limit the lines are."""
    budget = MemoryBudget(100_000)
    oldest = budget.line(bytes(80_000))
    younger = budget.line(bytes(80_000))
    oldest += bytes(500_000)

    assert admit(budget, oldest, stream).ready()
    waits = admit(budget, younger, stream)
    assert not waits.ready()
    waits.kill()


def test_every_reader_ends_if_all_together_are_over_the_limit() -> None:
    """Each line is freed only once it is whole, as a transaction's is."""
    budget = MemoryBudget(100_000)
    pairs = [socket.socketpair() for _ in range(5)]
    done = []

    def read(sock: socket.socket) -> None:
        stream = Stream(gevent.get_hub())
        sock.setblocking(False)
        stream.open(sock.detach())
        data = bytearray(20_000)
        while len(data) < 90_000:
            data = budget.admit(data, stream)
            data += bytes(10_000)
            gevent.sleep(0)
        done.append(budget.used)
        stream.close()

    gevent.joinall([gevent.spawn(read, ours) for ours, _ in pairs], timeout=5, raise_error=True)

    for _, theirs in pairs:
        theirs.close()
    assert len(done) == len(pairs)
    assert max(done) <= 100_000 + 90_000 + 20_000 * len(pairs)
    assert budget.used == 0


def test_pause_ends_at_a_deadline(stream: Stream) -> None:
    """Also if it came before the pause; the line is not counted any more."""
    budget = MemoryBudget(100_000)
    other = budget.line(bytes(110_000))
    reader = admit(budget, bytearray(20_000), stream)
    stream.expire()
    with pytest.raises(DeadlineError):
        reader.get(timeout=1)

    stream.expire()
    with pytest.raises(DeadlineError):
        admit(budget, bytearray(20_000), stream).get(timeout=1)
    del reader
    assert budget.used == len(other)


@pytest.mark.parametrize(("size", "counted"), [(16_384, 0), (16_385, 16_385), (300_000, 300_000)])
def test_whole_line_is_counted_if_it_is_long(size: int, counted: int) -> None:
    """Also if it was never admitted, as it arrived in two reads."""
    budget = MemoryBudget(100_000)

    line = budget.counted(bytes(size))

    assert (len(line), budget.used) == (size, counted)
