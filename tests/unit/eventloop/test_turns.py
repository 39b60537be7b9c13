# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is woken when many descriptors are readable at once."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import gevent
import pytest
from greenlet import greenlet
from hub import in_hub

from lonc_gevent.eventloop.hangups import HANG_UPS
from lonc_gevent.eventloop.participants import UnquietError, UnsentError
from lonc_gevent.eventloop.stream import Stream
from lonc_gevent.eventloop.turns import BURST, PATIENCE, READ_SIZE, TURN, Turns
from lonc_gevent.frontend.listeners import Listener, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CROWD = 5 * HANG_UPS


class Pairs:
    """Streams, each read by a greenlet of its own, and their other ends."""

    def __init__(self) -> None:
        self.turns = Turns(gevent.get_hub())
        self.peers: list[socket.socket] = []
        self.streams: list[Stream] = []
        self.greenlets: list[gevent.Greenlet[..., None]] = []
        self.heard: list[tuple[int, bytes]] = []
        """What was read, in order: which one, and what."""

    def add(self, count: int) -> None:
        """Add so many; they wait already."""
        for _ in range(count):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self.peers.append(theirs)
            self.streams.append(Stream(self.turns, ours.detach()))
            self.greenlets.append(gevent.spawn(self._hear, len(self.streams) - 1))
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
        self.turns.close()


def fake_reader(fd: int, on_readable: Callable[[], None], *, accepts: bool = False) -> Any:
    """Make a reader that only hears."""
    return SimpleNamespace(
        fd=fd, reading=False, asks=False, accepts=accepts, watched=True, on_readable=on_readable
    )


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
    assert repr(pairs.turns) == "<Turns of 1, 0 put off>"


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
    in_hub(pairs.turns.hub, pairs.turns._turn)  # the last ones are put off now
    last = pairs.streams[-1]
    assert len(pairs.heard) == HANG_UPS
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    last.close()
    last.reopen(ours.detach(), pairs.greenlets[-1])
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
    stream = Stream(pairs.turns, ours.detach())
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

    pairs.turns.readers[stream.fd] = fake_reader(stream.fd, count)
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
        for _ in range(1 + len(pairs.streams) // BURST):
            pairs.turns._turn()
        pairs.turns._hang_ups._catch_up()

    in_hub(pairs.turns.hub, one_pass)

    assert len(pairs.heard) == 2 * CROWD
    assert repr(pairs.turns) == f"<Turns of {CROWD}, 0 put off>"


def test_what_was_put_off_ends_in_bounded_time(pairs: Pairs) -> None:
    """Of very many, more go in each pass."""
    share = 8
    pairs.add(share * (HANG_UPS + 8) + HANG_UPS)
    for peer in pairs.peers:
        peer.close()
    in_hub(pairs.turns.hub, pairs.turns._turn)
    before = len(pairs.heard)
    with mock.patch("lonc_gevent.eventloop.hangups.SHARE", share):
        in_hub(pairs.turns.hub, pairs.turns._hang_ups._catch_up)

    assert before >= HANG_UPS
    assert len(pairs.heard) - before >= HANG_UPS + 1


@pytest.mark.parametrize("accepts", [False, True])
def test_an_error_of_one_is_not_the_end_of_all(pairs: Pairs, *, accepts: bool) -> None:
    """What comes out of a reader is told, and all others are heard: also those put off."""
    pairs.add(CROWD)
    told = []
    mine, theirs = socket.socketpair()
    pairs.peers += (mine, theirs)  # to be closed, too

    def fail() -> None:
        raise KeyError("a bug")

    reader = fake_reader(mine.fileno(), fail, accepts=accepts)
    pairs.turns.watch(reader)
    with mock.patch.object(pairs.turns.hub, "handle_error", lambda *a: told.append(a)):
        theirs.send(b"x")
        gevent.sleep(0.001)
        in_hub(pairs.turns.hub, lambda: pairs.turns._hang_ups.put_off(reader))
        for peer in pairs.peers[:CROWD]:
            peer.close()
        pairs.run(CROWD)

    assert told
    assert all(context is reader and kind is KeyError for context, kind, _, _ in told)
    assert sorted(number for number, _ in pairs.heard) == list(range(CROWD))


def test_a_turn_that_fails_is_not_the_last(pairs: Pairs) -> None:
    """Where a turn itself fails, out of memory say, it is told, and the next one comes."""
    pairs.add(1)
    told = []
    read = pairs.turns._read

    def fail(*_: object, **__: object) -> None:
        pairs.turns._read = read  # type: ignore[method-assign]
        raise MemoryError

    with mock.patch.object(pairs.turns.hub, "handle_error", lambda *a: told.append(a[1])):
        pairs.turns._read = fail  # type: ignore[method-assign]
        pairs.peers[0].send(b"ping\n")
        pairs.run(1)

    assert told == [MemoryError]
    assert pairs.heard == [(0, b"ping\n")]


class Visitor:
    """A stream as a client's is: a greenlet answers each line that comes, until the end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(10)
        ours.setblocking(False)
        self.stream = Stream(turns)
        self.trouble: list[Exception] = []
        self.answer = b"re: "
        self.fd = ours.fileno()
        self.stream.reopen(ours.detach(), greenlet(self._serve, turns.hub))

    @property
    def watched(self) -> bool:
        """Whether the kernel was told of it."""
        return self.fd in self.turns.readers

    def _serve(self) -> None:
        try:
            while line := self.stream.read():
                self.stream.post(self.answer + line)
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            self.trouble.append(error)
            while isinstance(error, UnsentError) and self.stream.posted is not None:
                self.stream.write_rest()
        self.stream.close()

    def turn(self) -> None:
        """Let one turn pass, and nothing else."""
        in_hub(self.turns.hub, self.turns._turn)

    def close(self) -> None:
        """Close both ends."""
        self.stream.close()
        self.peer.close()


@pytest.fixture
def visitor(turns: Turns) -> Iterator[Visitor]:
    """Give one that was just accepted."""
    visitor = Visitor(turns)
    yield visitor
    visitor.close()


def test_who_asks_and_leaves_is_never_registered(visitor: Visitor) -> None:
    """While others have much to say, the kernel is not told of a client that soon leaves."""
    visitor.peer.send(b"one\n")
    visitor.peer.shutdown(socket.SHUT_WR)
    other, ready = [mock.Mock()], visitor.turns._ready
    busy = mock.patch.object(
        visitor.turns, "_read", side_effect=lambda *_, **__: ready.extend(other)
    )
    with busy, mock.patch.object(visitor.turns, "watch") as watch:
        visitor.turn()
        visitor.turn()

    assert visitor.peer.recv(100) == b"re: one\n"
    assert visitor.stream.fd == -1
    assert not watch.called


def test_who_asks_again_is_watched(visitor: Visitor) -> None:
    """A client that stays is told to the kernel once, and no more tried."""
    for number in range(3):
        visitor.peer.send(b"%d\n" % number)
        with gevent.Timeout(10):
            gevent.sleep(0.001)
        visitor.turn()
        assert visitor.peer.recv(100) == b"re: %d\n" % number
        assert not any(visitor.turns._untried)
    assert visitor.watched


def test_who_says_nothing_yet_is_watched(visitor: Visitor) -> None:
    """A client that was accepted and has nothing to say costs no further look."""
    visitor.turn()

    assert visitor.watched
    assert not any(visitor.turns._untried)


def test_what_did_not_go_out_is_told_to_the_reader(visitor: Visitor) -> None:
    """Of a line that is too long for the kernel, nothing is lost: whoever reads writes the rest."""
    visitor.answer = b"x" * 1_000_000
    line = visitor.answer + b"long\n"
    visitor.peer.send(b"long\n")
    reading = gevent.get_hub().threadpool.spawn(_receive, visitor.peer, len(line))
    assert reading.get(timeout=10) == line

    assert [type(error) for error in visitor.trouble] == [UnsentError]


def _receive(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += peer.recv(65536)
    return data


def test_the_end_is_not_all_while_a_line_is_on_its_way(visitor: Visitor) -> None:
    """One that says no more but reads on gets all of its reply before it is let go."""

    def let_go() -> bool:
        visitor.stream.close()
        return True

    visitor.stream.on_end = let_go
    visitor.peer.setblocking(False)
    visitor.peer.send(b"one\n")
    visitor.turn()
    assert visitor.watched
    assert visitor.peer.recv(100) == b"re: one\n"
    visitor.answer = b"x" * 1_000_000
    visitor.peer.send(b"two\n")
    visitor.peer.shutdown(socket.SHUT_WR)
    got = 0
    with gevent.Timeout(10):
        while got < 1_000_004:
            gevent.sleep(0)
            with contextlib.suppress(BlockingIOError):
                got += len(visitor.peer.recv(65536))
    assert got == 1_000_004


@pytest.mark.parametrize("watched", [True, False])
def test_an_error_is_told_as_what_it_was(visitor: Visitor, *, watched: bool) -> None:
    """An error that the turn met is the reader's: the kernel tells it once only."""
    if watched:
        visitor.turn()
    with mock.patch("os.read", side_effect=ConnectionResetError(104, "reset")):
        visitor.peer.send(b"x")
        visitor.turn()

    assert [type(error) for error in visitor.trouble] == [ConnectionResetError]


def test_who_has_left_when_the_answer_comes(visitor: Visitor) -> None:
    """What cannot be written ends the reading, with the system's own error."""
    visitor.peer.send(b"one\n")
    visitor.peer.close()
    visitor.turn()

    assert [type(error) for error in visitor.trouble] == [BrokenPipeError]
    assert visitor.stream.fd == -1


@pytest.mark.parametrize("burst", [256, 1], ids=["found", "asked"])
def test_who_is_cautious_does_not_talk_into_what_is_said(turns: Turns, burst: int) -> None:
    """Where something is there to read already, a line is not written, and that is told.

    From what the turn has found; or, where it did not look at all, by asking.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(0)
    stream = Stream(turns, ours.detach())
    stream.asks = True
    trouble: list[type[Exception]] = []

    def ask() -> None:
        try:
            assert stream.read() == b"hello\n"
            stream.post(b"first\n")
            assert stream.read() == b"reply\n"
            theirs.send(b"stray\n")
            stream.post(b"second\n")
            stream.read()
        except UnquietError as error:
            trouble.append(type(error))

    asking = gevent.spawn(ask)
    theirs.send(b"hello\n")
    with mock.patch("lonc_gevent.eventloop.turns.BURST", burst):
        with gevent.Timeout(10):
            while not select.select([theirs], [], [], 0)[0]:
                gevent.sleep(0.001)
        assert theirs.recv(100) == b"first\n"
        theirs.send(b"reply\n")
        asking.join(timeout=10)

    assert trouble == [UnquietError]
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    assert os.read(stream.fd, 100) == b"stray\n"
    stream.close()
    theirs.close()


def test_a_line_longer_than_a_read_comes_at_once(turns: Turns) -> None:
    """What a turn's read leaves behind is read with it, as far as it is there."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns, ours.detach())
    for size in (READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 4096):
        theirs.send(b"x" * size)
        assert len(gevent.spawn(stream.read).get(timeout=10)) == size
    stream.close()
    theirs.close()


def test_the_loop_has_its_turn_between_two_turns(turns: Turns) -> None:
    """Who wakes others again and again does not keep the loop from all else that it has to do."""
    played = 0

    def play() -> None:
        nonlocal played
        while played < 10 * TURN:
            played += 1
            turns.wake(player)
            turns.hub.switch()

    player = greenlet(play, turns.hub)
    with mock.patch.object(turns, "_again") as again:
        turns._woken.append(player)
        in_hub(turns.hub, turns._turn)

        assert 0 < played <= TURN
        assert again.start.called
    in_hub(turns.hub, turns._turn)
    with gevent.Timeout(10):
        while not player.dead:
            gevent.sleep(0.001)
    assert played == 10 * TURN


def test_who_left_before_its_try_is_not_taken_for_the_next(visitor: Visitor) -> None:
    """Where a stream is closed and used again before it was tried, the old try is void."""
    stream, turns = visitor.stream, visitor.turns
    visitor.peer.send(b"one\n")
    visitor.peer.close()  # the answer cannot be written: the stream ends, still to be tried
    busy = mock.patch.object(turns, "_read")
    with busy, mock.patch("lonc_gevent.eventloop.turns.TURN", 1):
        visitor.turn()
        assert stream.fd == -1
        assert any(turns._untried)
        ours, visitor.peer = socket.socketpair()
        ours.setblocking(False)
        stream.reopen(ours.detach())  # its greenlet is busy elsewhere: nobody reads
        for _ in range(PATIENCE + 1):
            visitor.turn()

    assert stream.fd not in turns.readers


def test_what_is_posted_between_turns_goes_out_before_anything_is_read(turns: Turns) -> None:
    """What came before a request left is not taken for its reply, wherever it was posted."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(0)
    stream = Stream(turns, ours.detach())
    stream.asks = True
    turns.watch(stream)
    stream.watched = True
    theirs.send(b"stray\n")

    def ask() -> bytes:
        stream.post(b"request\n")
        return stream.read()

    with pytest.raises(UnquietError):
        gevent.spawn(ask).get(timeout=10)

    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    stream.close()
    theirs.close()


def test_what_is_unsent_comes_first(turns: Turns) -> None:
    """A reader hears that something is still to be written before it gets what it can read."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns, ours.detach())
    seen: list[str] = []
    readings = []

    def talk() -> None:
        theirs.send(b"early\n")
        stream.post(b"x" * 1_000_000)
        try:
            seen.append(stream.read().decode())
        except UnsentError:
            seen.append("unsent")
            readings.append(gevent.get_hub().threadpool.spawn(_receive, theirs, 1_000_000))
            stream.write_rest()
        seen.append(stream.read().decode())

    gevent.spawn(talk).get(timeout=10)

    assert [len(reading.get(timeout=10) or b"") for reading in readings] == [1_000_000]
    assert seen == ["unsent", "early\n"]
    stream.close()
    theirs.close()


def test_a_closed_stream_keeps_no_line(visitor: Visitor) -> None:
    """Not even by way of an error's traceback."""
    visitor.peer.send(b"one\n")
    visitor.peer.close()
    visitor.turn()

    assert visitor.trouble
    assert visitor.stream._error is None


def test_a_stream_that_the_kernel_does_not_take(turns: Turns) -> None:
    """Where no more can be watched, who waits is told; others are served on."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns, ours.detach())
    full = mock.Mock(closed=False)
    full.poll.return_value = []
    full.register.side_effect = OSError(28, "No space left on device")
    with mock.patch.object(turns, "_epoll", full), pytest.raises(OSError, match="No space"):
        stream.read()

    assert stream.fd not in turns.readers
    stream.close()
    theirs.close()


def test_who_is_to_read_no_more_may_write(turns: Turns) -> None:
    """A client that is to be handed over gets its reply to its end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns, ours.detach())
    stream.fail(KeyError("no more"), readers_only=True)

    reading = gevent.get_hub().threadpool.spawn(_receive, theirs, 1_000_000)
    gevent.spawn(stream.write, b"x" * 1_000_000).get(timeout=10)

    assert len(reading.get(timeout=10) or b"") == 1_000_000
    with pytest.raises(KeyError):
        stream.read()
    stream.close()
    theirs.close()


def test_a_listener_that_the_kernel_does_not_take(turns: Turns, tmp_path: Path) -> None:
    """Whoever opens it hears of that: it would let nobody in."""
    path = tmp_path / "msul2"
    listener = Listener(path, mock.Mock(), listen(path, 0o600), mock.Mock())
    full = mock.Mock(closed=False)
    full.register.side_effect = OSError(28, "No space left on device")
    with mock.patch.object(turns, "_epoll", full), pytest.raises(OSError, match="No space"):
        turns.watch(listener)
    listener.close()


def test_who_writes_the_rest_is_not_written_for_again(turns: Turns) -> None:
    """A line that its own greenlet is at is not begun anew by a turn that comes to it late."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns, ours.detach())
    line = b"".join(b"%07d " % number for number in range(125_000))

    def write() -> None:
        stream.post(line)
        stream.write_rest()

    with mock.patch.object(turns, "_write"):  # as a turn that fails before it comes to that
        writing = gevent.spawn(write)
        with gevent.Timeout(10):
            while not stream.sent:
                gevent.sleep(0.001)
    first = theirs.recv(100_000)  # there is room now
    in_hub(turns.hub, turns._turn)
    rest = gevent.get_hub().threadpool.spawn(_receive, theirs, len(line) - len(first))
    writing.join(timeout=10)

    assert first + (rest.get(timeout=10) or b"") == line
    stream.close()
    theirs.close()


def test_who_is_accepted_is_read_for_in_the_same_round(visitor: Visitor) -> None:
    """A client that has asked by then need not wait for the next look at the kernel."""
    turns = visitor.turns
    visitor.turn()  # the visitor's own try is over
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    mine, caller = socket.socketpair()
    looks: list[int] = []
    guest = Stream(turns)

    def read() -> None:
        while line := guest.read():
            looks.append(poll.call_count)
            guest.post(b"re: " + line)

    def accept() -> None:
        mine.recv(1)
        guest.reopen(ours.detach(), greenlet(read, turns.hub))
        looks.append(poll.call_count)

    turns.watch(fake_reader(mine.fileno(), accept, accepts=True))
    theirs.send(b"one\n")
    caller.send(b"x")
    kernel = turns._epoll
    with mock.patch.object(turns, "_epoll", mock.Mock(wraps=kernel, closed=False)) as looked:
        poll = looked.poll
        visitor.turn()

    assert looks[0] == looks[1]
    assert theirs.recv(100) == b"re: one\n"
    guest.close()
    for end in (mine, caller, theirs):
        end.close()


def test_who_is_woken_for_no_reason_does_not_write_unseen(turns: Turns) -> None:
    """A request waits for the turn's look, whoever wakes its greenlet before that."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(0)
    stream = Stream(turns, ours.detach())
    stream.asks = True
    trouble: list[type[Exception]] = []

    def ask() -> None:
        stream.wait_readable()  # an idle connection that is given a request now
        stream.post(b"request\n")
        try:
            while True:
                try:
                    stream.read()
                    break
                except UnsentError:
                    stream.write_rest()
        except UnquietError as error:
            trouble.append(type(error))

    asking = gevent.spawn(ask)
    with gevent.Timeout(10):
        while not stream.watched:
            gevent.sleep(0.001)
        theirs.send(b"stray\n")
        turns.wake(asking)
        asking.join()

    assert trouble == [UnquietError]
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    stream.close()
    theirs.close()


class Exchange:
    """A client that asks on while its reply is under way, and a connection to lond."""

    def __init__(self, turns: Turns, reply: bytes) -> None:
        self.seen: list[bytes | str] = []
        self._turns = turns
        self._reply = reply
        self._lond, self.lond = self._pair()
        self._client, self.client = self._pair()
        self._lond.asks = True
        self._asking = greenlet(self._ask_on, turns.hub)
        self._connection = gevent.spawn(self._connect)

    def _pair(self) -> tuple[Stream, socket.socket]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        return Stream(self._turns, ours.detach()), theirs

    def _ask_on(self) -> None:
        self._turns.hub.switch()  # as for a transaction
        try:
            while self._client.posted is not None:
                self._client.write_rest()
            self.seen.append(self._client.read())
        except OSError as error:
            self.seen.append(repr(error))

    def _connect(self) -> None:
        in_hub(self._turns.hub, self._asking.switch)
        self._lond.post(b"first\n")
        self._lond.read()
        self._client.answer(self._reply, self._asking)
        self._lond.post(b"next\n")  # so there is a look, which finds what the client asks
        self._lond.read()

    def run(self) -> None:
        """Answer the first request after the client's second; wait until that is seen."""
        with gevent.Timeout(10):
            while not select.select([self.lond], [], [], 0)[0]:
                gevent.sleep(0.001)
            self.lond.recv(100)
            self.client.send(b"second\n")
            self.lond.send(b"reply\n")
            while not self.seen:
                gevent.sleep(0.001)

    def close(self) -> None:
        """Close all ends."""
        self._connection.kill()
        for stream in (self._lond, self._client):
            stream.close()
        for end in (self.lond, self.client):
            end.close()


def test_who_asks_on_and_leaves_is_heard(turns: Turns) -> None:
    """A client that has its reply and is gone by then has its next request read all the same."""
    exchange = Exchange(turns, b"reply\n")
    write = os.write

    def leave(fd: int, data: bytes) -> int:
        written = write(fd, data)
        if bytes(data) == b"reply\n":
            exchange.client.recv(100)
            exchange.client.close()
        return written

    with mock.patch("os.write", leave):
        exchange.run()

    assert exchange.seen == [b"second\n"]
    exchange.close()


def test_who_asks_on_need_not_read_first(turns: Turns) -> None:
    """A reply that fills most of the client's buffer is out: its next request is read."""
    exchange = Exchange(turns, b"x" * 100_000 + b"\n")

    exchange.run()

    assert exchange.seen == [b"second\n"]
    exchange.close()


def test_who_cannot_be_watched_hears_of_it_at_once(turns: Turns) -> None:
    """Though nothing else goes on: with an error that is known nobody waits for an event."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = Stream(turns)
    trouble: list[type[Exception]] = []

    def serve() -> None:
        try:
            while line := stream.read():
                stream.post(line)
        except OSError as error:
            trouble.append(type(error))

    reader = greenlet(serve, turns.hub)
    full = mock.Mock(wraps=turns._epoll, closed=False)
    full.register.side_effect = OSError(28, "No space left on device")
    with mock.patch.object(turns, "_epoll", full), gevent.Timeout(10):
        theirs.send(b"one\n")
        stream.reopen(ours.detach(), reader)
        while not trouble:
            gevent.sleep(0.001)

    assert trouble == [OSError]
    stream.close()
    theirs.close()
