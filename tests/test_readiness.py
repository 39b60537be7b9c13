# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is woken when many descriptors are readable at once."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from unittest import mock

import gevent
import pytest

from lonc_gevent.readiness import HANG_UPS, SHARE, Readiness
from lonc_gevent.stream import Stream, in_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

CROWD = 5 * HANG_UPS


class Pairs:
    """Streams, each read by a greenlet of its own, and their other ends."""

    def __init__(self) -> None:
        self.readiness = Readiness(gevent.get_hub())
        self.peers: list[socket.socket] = []
        self.streams: list[Stream] = []
        self.heard: list[tuple[int, bytes]] = []
        """What was read, in order: which one, and what."""

    def add(self, count: int) -> None:
        """Add so many; they wait already."""
        for _ in range(count):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self.peers.append(theirs)
            self.streams.append(Stream(self.readiness, ours.detach()))
            gevent.spawn(self._hear, len(self.streams) - 1)
        gevent.sleep(0)

    def _hear(self, number: int) -> None:
        data = b"?"
        while data:
            data = self.streams[number].read()
            self.heard.append((number, data))
        self.streams[number].close()

    def run(self, until: int) -> None:
        """Let them hear until so much was heard."""
        with gevent.Timeout(10):
            while len(self.heard) < until:
                gevent.sleep(0.001)

    def close(self) -> None:
        """Close all that is left."""
        for stream in self.streams:
            stream.close()
        for peer in self.peers:
            peer.close()
        self.readiness.close()


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    """Give an empty one, closed at the end."""
    pairs = Pairs()
    yield pairs
    pairs.close()


def test_who_hangs_up_gives_way_to_who_asks(pairs: Pairs) -> None:
    """A crowd that leaves at once is not in front of a request that came after it."""
    pairs.add(CROWD + 1)
    for peer in pairs.peers[:CROWD]:
        peer.close()
    pairs.peers[CROWD].send(b"ping\n")

    pairs.run(CROWD + 1)

    assert pairs.heard.index((CROWD, b"ping\n")) <= HANG_UPS
    assert sorted(number for number, data in pairs.heard if not data) == list(range(CROWD))
    assert repr(pairs.readiness) == "<Readiness of 1, 0 put off>"


def test_what_was_said_before_the_end_is_heard(pairs: Pairs) -> None:
    """Of a crowd that asks and leaves in the same moment, each request is read."""
    pairs.add(CROWD)
    for peer in pairs.peers:
        peer.send(b"ping\n")
        peer.close()

    pairs.run(2 * CROWD)

    assert sorted(pairs.heard) == sorted(
        (number, data) for number in range(CROWD) for data in (b"ping\n", b"")
    )


def test_one_that_was_put_off_may_be_closed_and_used_again(pairs: Pairs) -> None:
    """A stream that gets another descriptor before its turn is woken for that one only."""
    pairs.add(CROWD)
    for peer in pairs.peers:
        peer.close()
    in_hub(pairs.readiness.hub, pairs.readiness._turn)  # the last ones are put off now
    last = pairs.streams[-1]
    assert len(pairs.heard) == HANG_UPS
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    last.close()
    last.reopen(ours.detach())
    theirs.send(b"another\n")

    pairs.run(CROWD)
    assert (CROWD - 1, b"another\n") in pairs.heard
    assert (CROWD - 1, b"") not in pairs.heard
    theirs.close()
    pairs.run(CROWD + 1)
    assert pairs.heard[-1] == (CROWD - 1, b"")


def test_what_nobody_waits_for_does_not_spin(pairs: Pairs) -> None:
    """A descriptor that is readable while nobody reads is told once, and again when read."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(pairs.readiness, ours.detach())
    reading = gevent.spawn(stream.read)
    gevent.sleep(0)
    theirs.send(b"first")
    assert reading.get(timeout=10) == b"first"
    theirs.send(b"second")
    told = 0
    hear = stream.on_readable

    def count() -> None:
        nonlocal told
        told += 1
        hear()

    pairs.readiness._readers[stream.fd] = type(
        "Counting", (), {"fd": stream.fd, "on_readable": staticmethod(count)}
    )()
    for _ in range(5):
        gevent.sleep(0.001)

    assert told == 1
    assert gevent.spawn(stream.read).get(timeout=10) == b"second"
    stream.close()
    theirs.close()


def test_as_many_leave_as_ask(pairs: Pairs) -> None:
    """Under load, where each asks and hangs up, those who have left do not pile up."""
    pairs.add(2 * CROWD)
    for peer in pairs.peers[:CROWD]:
        peer.close()
    for peer in pairs.peers[CROWD:]:
        peer.send(b"ping\n")

    def one_pass() -> None:
        pairs.readiness._turn()
        pairs.readiness._catch_up()

    in_hub(pairs.readiness.hub, one_pass)

    assert len(pairs.heard) == 2 * CROWD
    assert repr(pairs.readiness) == f"<Readiness of {CROWD}, 0 put off>"


def test_what_was_put_off_ends_in_bounded_time(pairs: Pairs) -> None:
    """Of very many, more go in each pass."""
    pairs.add(SHARE * (HANG_UPS + 8) + HANG_UPS)
    for peer in pairs.peers:
        peer.close()
    in_hub(pairs.readiness.hub, pairs.readiness._turn)
    before = len(pairs.heard)
    in_hub(pairs.readiness.hub, pairs.readiness._catch_up)

    assert before >= HANG_UPS
    assert len(pairs.heard) - before >= HANG_UPS + 1


def test_an_error_of_one_is_not_the_end_of_all(pairs: Pairs) -> None:
    """What comes out of a reader is told, and all others are heard: also those put off."""
    pairs.add(CROWD)
    told = []
    mine, theirs = socket.socketpair()
    pairs.peers += (mine, theirs)  # to be closed, too

    def fail() -> None:
        raise KeyError("a bug")

    methods = {"on_readable": staticmethod(fail), "on_put_off": staticmethod(lambda: None)}
    reader = type("Failing", (), {"fd": mine.fileno(), **methods})()
    pairs.readiness.watch(reader)
    with mock.patch.object(pairs.readiness.hub, "handle_error", lambda *a: told.append(a)):
        theirs.send(b"x")
        gevent.sleep(0.001)
        in_hub(pairs.readiness.hub, lambda: pairs.readiness._give_way(reader))
        for peer in pairs.peers[:CROWD]:
            peer.close()
        pairs.run(CROWD)

    assert told
    assert all(context is reader and kind is KeyError for context, kind, _, _ in told)
    assert sorted(number for number, _ in pairs.heard) == list(range(CROWD))
