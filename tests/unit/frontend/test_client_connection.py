# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's lines, in this process: who else has a turn between them."""

from __future__ import annotations

import contextlib
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from greenlet import getcurrent
from hub import in_hub

from lonc_gevent.frontend.client_connection import IN_A_ROW, Client
from lonc_gevent.frontend.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gevent.hub import Hub

    from lonc_gevent.backend.transaction import Transaction
    from lonc_gevent.eventloop.turns import Turns

LINES = 5 * IN_A_ROW


def test_many_lines_at_once_give_way(turns: Turns) -> None:
    """Answers that need no wait (con_lost, control lines) do not keep others from their turns."""
    heard: list[str] = []
    hub = turns.hub

    def submit(transaction: Transaction) -> None:
        heard.append("answer")
        transaction.reply = b"con_lost\n"

    pool: Any = SimpleNamespace(
        host=SimpleNamespace(pool=SimpleNamespace(max_request_bytes=100)),
        submit=submit,
        draining=False,
    )
    clients: Any = SimpleNamespace(hub=hub, turns=turns, keep=lambda _client: False)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"a\n" * LINES)
    theirs.shutdown(socket.SHUT_WR)
    ours.setblocking(False)
    client = Client(clients)
    in_hub(hub, lambda: client.serve(pool, ours.detach()))
    while not client.greenlet.dead:
        heard.append("turn")
        gevent.sleep(0)

    theirs.setblocking(False)
    assert theirs.recv(100_000) == b"con_lost\n" * LINES
    theirs.close()
    assert heard.count("answer") == LINES
    runs = "".join(word[0] for word in heard).replace("t", " ").split()
    assert max(map(len, runs)) <= IN_A_ROW + 1


def test_a_line_that_comes_while_others_have_their_turn(turns: Turns) -> None:
    """Of many lines at once and one more meanwhile, each is answered."""
    answered = 0

    def submit(transaction: Transaction) -> None:
        nonlocal answered
        answered += 1
        transaction.reply = b"con_lost\n"
        if answered == IN_A_ROW + 2:
            theirs.send(b"late\n")

    pool: Any = SimpleNamespace(
        host=SimpleNamespace(pool=SimpleNamespace(max_request_bytes=100)),
        submit=submit,
        draining=False,
    )
    clients: Any = SimpleNamespace(hub=turns.hub, turns=turns, keep=lambda _client: False)
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    ours.setblocking(False)
    client = Client(clients)
    client.serve(pool, ours.detach())
    theirs.send(b"first\n")
    with gevent.Timeout(10):
        while answered < 1:
            gevent.sleep(0.001)
        theirs.send(b"a\n" * (IN_A_ROW + 8))
        while answered < IN_A_ROW + 10:
            gevent.sleep(0.001)
    gevent.sleep(0)

    assert theirs.recv(100_000) == b"con_lost\n" * (IN_A_ROW + 10)
    theirs.close()
    with gevent.Timeout(10):
        while not client.greenlet.dead:
            gevent.sleep(0.001)


def test_a_line_that_was_read_goes_with_its_client(turns: Turns) -> None:
    """Of a client that is handed over, a line goes along that was read while its reply went out."""
    reply = b"x" * 1_000_000 + b"\n"

    def submit(transaction: Transaction) -> None:
        transaction.reply = reply
        transaction.post()

    pool: Any = SimpleNamespace(
        host=SimpleNamespace(
            id="msul2", pool=SimpleNamespace(max_request_bytes=100, reply_timeout=9)
        ),
        submit=submit,
        draining=False,
    )
    clients: Any = SimpleNamespace(
        hub=turns.hub, turns=turns, keep=lambda _client: False, slow=set(), watch=lambda: None
    )
    clients.holding, clients.held = False, []
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    client = Client(clients)
    client.serve(pool, ours.detach())
    theirs.send(b"first\n")
    with gevent.Timeout(10):
        while not clients.slow:
            gevent.sleep(0.001)
        theirs.send(b"second\n")
        gevent.sleep(0.01)
        pool.draining = clients.holding = True
        theirs.settimeout(0)
        got = b""
        while len(got) < len(reply):
            gevent.sleep(0)
            with contextlib.suppress(BlockingIOError):
                got += theirs.recv(65536)
        while not client.greenlet.dead:
            gevent.sleep(0.001)

    assert got == reply
    ((_, fd, unread),) = clients.held
    left = socket.socket(fileno=fd)
    left.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        unread += left.recv(100)
    assert unread == b"second\n"
    left.close()
    theirs.close()


def pool_that_answers(host: bytes, hub: Hub) -> Any:
    """Make a pool whose answer is the host's name and the request."""

    def answer(transaction: Transaction) -> None:
        transaction.reply = host + b" " + transaction.request
        transaction.post()

    return SimpleNamespace(
        host=SimpleNamespace(id=host.decode(), pool=SimpleNamespace(max_request_bytes=100)),
        submit=lambda transaction: hub.loop.run_callback(answer, transaction),
        draining=False,
    )


def ask(peer: socket.socket, request: bytes = b"") -> bytes:
    """Send a request and return the reply."""
    peer.setblocking(False)
    peer.send(request)
    with gevent.Timeout(10):
        while True:
            with contextlib.suppress(BlockingIOError):
                return peer.recv(1000)
            gevent.sleep(0.001)


def wait_until_half_is_read(client: Client) -> None:
    """Wait until the client's greenlet has bytes that are no whole line yet."""
    with gevent.Timeout(10):
        while not client._buffer:
            gevent.sleep(0.001)


class Visits:
    """Clients, one after the other, in one greenlet: each of another host."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.kept_in: list[object] = []
        """Where the greenlet was taken back: in the hub, or in itself."""
        self.left: list[int] = []
        clients: Any = SimpleNamespace(
            hub=turns.hub,
            turns=turns,
            keep=self._keep,
            door=SimpleNamespace(leave=self.left.append),
        )
        self.client = Client(clients)
        self._peers: list[socket.socket] = []

    def _keep(self, _client: Client) -> bool:
        self.kept_in.append(getcurrent())
        return True

    def begin(self, host: bytes) -> socket.socket:
        """Let another client come, to a host whose answer is its name and the request."""
        pool = pool_that_answers(host, self.turns.hub)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._peers.append(theirs)
        in_hub(self.turns.hub, lambda: self.client.serve(pool, ours.detach()))
        return theirs

    def end(self, peer: socket.socket) -> None:
        """Let the client leave, and wait until it is let go."""
        peer.close()
        with gevent.Timeout(10):
            while not self.client.is_spare:
                gevent.sleep(0.001)

    def close(self) -> None:
        """Let all leave."""
        for peer in self._peers:
            peer.close()
        self.client.stream.close()


@pytest.fixture
def visits(turns: Turns) -> Iterator[Visits]:
    """Give one that nobody has visited."""
    visits = Visits(turns)
    yield visits
    visits.close()


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_who_leaves_is_let_go_without_its_greenlet(visits: Visits, requests: int) -> None:
    """The greenlet sleeps on, and the next client's request goes to that one's host."""
    hub = visits.turns.hub
    for uid, host in enumerate((b"msul1", b"msul2", b"msul3")):
        peer = visits.begin(host)
        visits.client.uid = uid
        for number in range(requests):
            request = b"ping %d\n" % number
            assert ask(peer, request) == host + b" " + request
        fd = visits.client.stream.fd
        visits.end(peer)
        assert visits.kept_in.pop() is hub
        assert not visits.kept_in
        assert visits.left == list(range(uid + 1))
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    assert not visits.client.answering


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_who_leaves_in_the_middle_of_a_line(visits: Visits, requests: int) -> None:
    """What it did not say to the end is forgotten, and not the next client's."""
    for host in (b"msul1", b"msul2"):
        peer = visits.begin(host)
        for _ in range(requests):
            assert ask(peer, b"ping\n") == host + b" ping\n"
        peer.send(b"put:half")
        wait_until_half_is_read(visits.client)
        visits.end(peer)
    assert ask(visits.begin(b"msul3"), b"ping\n") == b"msul3 ping\n"


@pytest.mark.parametrize("requests", [0, 1, 2])
def test_a_spare_one_that_is_woken_for_no_reason(visits: Visits, requests: int) -> None:
    """It is not taken back twice, which would give it two clients at once; it serves the next."""
    for wakes in (1, 2, 3):
        peer = visits.begin(b"msul1")
        for _ in range(requests):
            assert ask(peer, b"ping\n") == b"msul1 ping\n"
        visits.end(peer)
        for _ in range(wakes):
            visits.turns.wake(visits.client.greenlet)
            gevent.sleep(0.001)
        assert len(visits.kept_in) == wakes
        assert not visits.client.greenlet.dead
    assert ask(visits.begin(b"msul2"), b"ping\n") == b"msul2 ping\n"


def test_who_is_woken_for_no_reason_before_it_asks(visits: Visits) -> None:
    """A greenlet that was meant to be woken for a client that has left has another one by then."""
    visits.end(visits.begin(b"msul1"))
    for requests in (1, 2):
        peer = visits.begin(b"msul2")
        visits.turns.wake(visits.client.greenlet)
        for _ in range(requests):
            assert ask(peer, b"ping\n") == b"msul2 ping\n"
        visits.end(peer)
    assert len(visits.kept_in) == 3


def test_who_is_taken_back_is_answered_what_was_read_before(turns: Turns) -> None:
    """When a restart is off, a client may have been read from already; others have left by then."""
    door: Any = SimpleNamespace(is_open=True)
    logger: Any = SimpleNamespace()
    clients = Clients(turns, logger, door=door, watch=lambda: None)
    pool = pool_that_answers(b"msul1", turns.hub)
    ours, early = socket.socketpair()
    ours.setblocking(False)
    clients.adopt(pool, ours.detach(), b"")
    early.send(b"pi")
    (client,) = clients.clients
    wait_until_half_is_read(client)
    early.close()
    with gevent.Timeout(10):
        while clients.count:
            gevent.sleep(0.001)

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    clients.adopt(pool, ours.detach(), b"ping\n")

    assert ask(theirs) == b"msul1 ping\n"
    theirs.close()
