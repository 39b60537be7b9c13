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
        self.reply: Callable[[bytes], bytes] = lambda request: host_id + b" " + request

    def transact(self, request: bytes, _is_abandoned: Callable[[], bool]) -> bytes:
        """Reply, as the production pool does when no wait is needed."""
        self.requests.append(bytes(request))
        return self.reply(bytes(request))


class Scene:
    """The clients of a daemon, and the other ends of their sockets."""

    def __init__(self) -> None:
        access: Any = SimpleNamespace(is_open=True, release=lambda _uid: None)
        log: Any = SimpleNamespace()
        self.clients = Clients(gevent.get_hub(), log, access=access)
        self._peers: list[socket.socket] = []

    def connect(self, pool: FakePool, unread: bytes | None = None) -> socket.socket:
        """Let a client connect; return its end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._peers.append(theirs)
        self.clients.serve(pool, ours.detach(), unread)  # type: ignore[arg-type]
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
def test_hold_takes_a_client_between_two_requests_at_once(scene: Scene, begun: bool) -> None:
    """With the bytes that were read of its next request."""
    peer = scene.connect(FakePool())
    ask(peer, b"ping\n", b"msul1 ping\n")
    if begun:
        half_a_line(scene, peer)
    scene.clients.hold()
    until(lambda: not scene.clients.unfinished)
    ((_, fd, unread),) = scene.clients.held
    assert unread == (b"put:half" if begun else b"")
    peer.send(b"next\n")
    assert os.read(fd, 100) == b"next\n", "the next request is left in the kernel"
    os.close(fd)


def test_hold_takes_an_answering_client_after_its_whole_reply(scene: Scene) -> None:
    """A reply that is being written goes out whole; the request after it is not executed."""
    pool = FakePool()
    pool.reply = lambda _request: b"x" * LARGE + b"\n"
    peer = scene.connect(pool)
    peer.send(b"first\nsecond\n")
    until(lambda: scene.only.answering)
    scene.clients.hold()
    assert not scene.clients.held
    assert receive(peer, LARGE + 1) == b"x" * LARGE + b"\n"
    until(lambda: scene.clients.held)
    ((_, fd, unread),) = scene.clients.held
    assert (pool.requests, unread) == ([b"first\n"], b"second\n")
    os.close(fd)


def test_clients_are_served_on_if_the_restart_does_not_take_place(scene: Scene) -> None:
    """`go_on` gives each held client a greenlet again, with what was read of it."""
    pool = FakePool()
    early, silent = scene.connect(pool), scene.connect(pool)
    early.send(b"pi")
    until(lambda: any(c._buffer.data for c in scene.clients.connections))
    scene.clients.hold()
    until(lambda: len(scene.clients.held) == 2)
    scene.clients.go_on()
    ask(early, b"ng\n", b"msul1 ping\n")
    ask(silent, b"ping\n", b"msul1 ping\n")


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
