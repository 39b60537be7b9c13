# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's lines, in this process: who else has a turn between them."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
from hub import in_hub

from lonc_gevent.conversation import IN_A_ROW, Client

if TYPE_CHECKING:
    from lonc_gevent.transaction import Transaction
    from lonc_gevent.turns import Turns

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
