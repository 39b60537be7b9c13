# SPDX-License-Identifier: GPL-2.0-or-later
"""Client connections over real sockets, with a pool whose replies are the test's."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from lonc_gevent.backend.transaction import Transaction
from lonc_gevent.frontend.client_connection import LINES_IN_A_ROW
from lonc_gevent.frontend.clients import MAX_SPARE, Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 10
LARGE = 1_000_000
"""Bytes of a reply that does not fit into a socket's buffer."""


def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


class FakePool:
    """A pool whose reply to each request is the host's id and the request."""

    def __init__(self, host_id: bytes = b"msul1") -> None:
        self.host: Any = SimpleNamespace(
            id=host_id.decode(), pool=SimpleNamespace(max_request_bytes=100, reply_timeout=PATIENCE)
        )
        self.is_ending = False
        self.requests: list[bytes] = []
        self.wait: Callable[[Transaction], Any] = lambda _transaction: None
        self.reply: Callable[[bytes], bytes] = lambda request: host_id + b" " + request

    def transact(self, transaction: Transaction) -> bytes:
        """Reply, as the production pool does when no wait is needed, unless `wait` waits."""
        request = bytes(transaction.request)
        self.requests.append(request)
        self.wait(transaction)
        reply = transaction.reply or self.reply(request)
        transaction.reply = reply
        return bytes(reply)


class Scene:
    """The clients of a daemon, and the other ends of their sockets."""

    def __init__(self) -> None:
        access: Any = SimpleNamespace(is_open=True, release=lambda _uid: None)
        log: Any = SimpleNamespace()
        self.clients = Clients(gevent.get_hub(), log, access=access)
        self._peers: list[socket.socket] = []

    def connect(
        self,
        pool: FakePool,
        unread: bytes | None = None,
        transaction: Transaction | None = None,
    ) -> socket.socket:
        """Let a client connect; return its end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._peers.append(theirs)
        self.clients.serve(pool, ours.detach(), unread, transaction)  # type: ignore[arg-type]
        return theirs

    @property
    def only(self) -> Any:
        """The one connection that serves a client."""
        (connection,) = (c for c in self.clients.connections if not c.is_spare)
        return connection

    def close(self) -> None:
        """Let all clients disconnect."""
        for peer in self._peers:
            peer.close()
        until(lambda: not self.clients.count)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Give one without clients."""
    made = Scene()
    yield made
    made.close()


def receive(peer: socket.socket, size: int) -> bytes:
    """Read so many bytes, while the loop runs."""
    data = b""
    with gevent.Timeout(PATIENCE):
        while len(data) < size:
            with suppress(BlockingIOError):
                more = peer.recv(65536)
                assert more, f"end of stream after {data!r}"
                data += more
            gevent.sleep(0)
    return data


def ask(peer: socket.socket, request: bytes, reply: bytes) -> None:
    """Send a request and expect this reply."""
    peer.send(request)
    assert receive(peer, len(reply)) == reply


def half_a_line(scene: Scene, peer: socket.socket) -> None:
    """Send the beginning of a line, and wait until it was read."""
    peer.send(b"put:half")
    until(lambda: scene.only._buffer.data)


def test_lines_in_one_write_are_answered_in_order(scene: Scene) -> None:
    """One reply a line, also to those that arrive while the first ones are answered."""
    peer = scene.connect(FakePool())
    ask(peer, b"a\nb\nc\n", b"msul1 a\nmsul1 b\nmsul1 c\n")
    ask(peer, b"d\n", b"msul1 d\n")


def test_many_lines_at_once_yield_to_others(scene: Scene) -> None:
    """Replies that need no wait do not keep other greenlets from running."""
    pool = FakePool()
    peer = scene.connect(pool)
    runs: list[int] = []

    def count() -> None:
        seen = 0
        while True:
            runs.append(len(pool.requests) - seen)
            seen = len(pool.requests)
            gevent.sleep(0)

    counter = gevent.spawn(count)
    lines = 5 * LINES_IN_A_ROW
    ask(peer, b"a\n" * lines, b"msul1 a\n" * lines)
    counter.kill()
    assert sum(runs) == lines
    assert max(runs) <= LINES_IN_A_ROW + 1


def test_unread_bytes_of_an_inherited_client_are_answered(scene: Scene) -> None:
    """What the program before a restart had read is a part of the client's requests."""
    peer = scene.connect(FakePool(), unread=b"pi")
    ask(peer, b"ng\n", b"msul1 ping\n")


def test_half_a_line_does_not_reach_the_next_client_of_the_greenlet(scene: Scene) -> None:
    """A connection that is used again begins without bytes of the client before."""
    for host in (b"msul1", b"msul2"):
        peer = scene.connect(FakePool(host))
        ask(peer, b"ping\n", host + b" ping\n")
        half_a_line(scene, peer)
        fd = scene.only.stream.fd
        peer.close()
        until(lambda: not scene.clients.count)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    assert len(scene.clients.connections) == 1, "the same greenlet served both"
    ask(scene.connect(FakePool(b"msul3")), b"ping\n", b"msul3 ping\n")


def test_spurious_resumes_of_a_spare_greenlet_change_nothing(scene: Scene) -> None:
    """Neither a spare greenlet nor the one of a silent client acts on them."""
    peer = scene.connect(FakePool())
    ask(peer, b"ping\n", b"msul1 ping\n")
    greenlet = scene.only._greenlet
    for _ in range(2):
        peer.close()
        until(lambda: not scene.clients.count)
        for _ in range(3):
            scene.clients.hub.loop.run_callback(greenlet.switch)
            gevent.sleep(0)
        assert len(scene.clients._spare) == 1
        peer = scene.connect(FakePool(b"msul2"))
        scene.clients.hub.loop.run_callback(greenlet.switch)
        ask(peer, b"ping\n", b"msul2 ping\n")
    assert scene.only._greenlet is greenlet


def test_greenlets_over_the_bound_end_after_a_burst(scene: Scene) -> None:
    """MAX_SPARE are kept for the next clients."""
    pool = FakePool()
    peers = [scene.connect(pool) for _ in range(MAX_SPARE + 20)]
    for peer in peers:
        ask(peer, b"a\n", b"msul1 a\n")
    for peer in peers:
        peer.close()
    until(lambda: not scene.clients.count)
    assert len(scene.clients.connections) == MAX_SPARE


@pytest.mark.parametrize("begun", [False, True])
def test_snapshot_between_two_requests_has_what_was_read(scene: Scene, begun: bool) -> None:
    """The client is not disturbed by it."""
    peer = scene.connect(FakePool())
    ask(peer, b"ping\n", b"msul1 ping\n")
    if begun:
        half_a_line(scene, peer)
    state = scene.only.snapshot(whole=True)
    assert state.unread == (b"put:half" if begun else b"")
    assert (state.unsent, state.is_owner) == (b"", False)
    assert "half" not in repr(state)
    ask(peer, b"\n", b"msul1 put:half\n" if begun else b"msul1 \n")


def test_snapshot_of_a_client_that_reads_slowly_has_the_rest_of_its_reply(scene: Scene) -> None:
    """The next program writes it, and then answers the next request."""
    pool = FakePool()
    pool.reply = lambda request: request[:-1] * LARGE + b"\n"
    peer = scene.connect(pool)
    peer.send(b"1\n2\n")
    until(lambda: scene.only.stream.unsent)
    begun = receive(peer, 100_000)
    state = scene.only.snapshot(whole=True)
    assert scene.only.snapshot(whole=False) is None, "an older program cannot write it"
    arrived = begun + receive(peer, LARGE + 1 - len(begun) - len(state.unsent))
    assert arrived + state.unsent == b"1" * LARGE + b"\n"
    assert state.unread == b"2\n"

    rest = Transaction(b"", None, 0.0, reply=b"rest of 1\n")
    again = scene.connect(pool, b"2\n", rest)
    expected = b"rest of 1\n" + b"2" * LARGE + b"\n"
    assert receive(again, len(expected)) == expected


@pytest.mark.parametrize("whole", [False, True])
def test_snapshot_of_a_client_that_waits_for_its_reply(scene: Scene, whole: bool) -> None:
    """A program that cannot be given the transaction reads its request anew."""
    pool = FakePool()
    hub: Any = gevent.get_hub()
    pool.wait = lambda transaction: transaction.wait(hub)
    peer = scene.connect(pool)
    peer.send(b"first\nsecond\n")
    until(lambda: scene.only.transaction)
    state = scene.only.snapshot(whole=whole)
    assert state.is_owner is whole
    assert state.unread == (b"second\n" if whole else b"first\nsecond\n")
    transaction = scene.only.transaction
    transaction.reply = b"done\n"
    pool.wait = lambda _transaction: None
    hub.loop.run_callback(transaction.waiter.switch)
    assert receive(peer, 5 + len(b"msul1 second\n")) == b"done\nmsul1 second\n"


@pytest.mark.parametrize("of_the_host", [True, False])
def test_a_draining_client_is_disconnected_after_its_replies(
    scene: Scene, of_the_host: bool
) -> None:
    """Of a stopping daemon, or of a host that was removed."""
    pool = FakePool()
    peer = scene.connect(pool)
    peer.send(b"a\nb\n")
    if of_the_host:
        pool.is_ending = True
    else:
        scene.clients.draining = scene.clients.closing = True
    assert receive(peer, 16) == b"msul1 a\nmsul1 b\n"
    until(lambda: not scene.clients.count)
    assert peer.recv(1) == b""


def test_a_client_that_half_closes_gets_its_reply(scene: Scene) -> None:
    """It has no more requests, but it still reads."""
    peer = scene.connect(FakePool())
    peer.send(b"ping\n")
    peer.shutdown(socket.SHUT_WR)
    assert receive(peer, 11) == b"msul1 ping\n"


def test_close_disconnects_a_client_that_never_stops_asking(scene: Scene) -> None:
    """After its current reply, though more requests of it have arrived."""
    pool = FakePool()
    peer = scene.connect(pool)
    ask(peer, b"a\n", b"msul1 a\n")

    def reply(request: bytes) -> bytes:
        peer.send(b"again\n")
        return request

    pool.reply = reply
    peer.send(b"again\n")
    scene.clients.close()
    until(lambda: not scene.clients.count)
    assert len(pool.requests) <= 3
