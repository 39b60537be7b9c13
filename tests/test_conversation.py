# SPDX-License-Identifier: GPL-2.0-or-later
"""One client's lines, in this process: who else has a turn between them."""

from __future__ import annotations

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
