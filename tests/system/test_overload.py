# SPDX-License-Identifier: GPL-2.0-or-later
"""More requests than lond can answer, from clients that disconnect after two seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Final

import gevent
import pytest
from gevent import socket

if TYPE_CHECKING:
    from harness import Network

PATIENCE: Final = 2.0
"""Seconds after which a client disconnects."""

CAPACITY: Final = 50.0
"""Requests that lond answers in a second: CONNECTIONS at a time, each after DELAY_MS."""

CONNECTIONS: Final = 4
DELAY_MS: Final = 80

SECONDS: Final = 10.0
"""Seconds of overload that are measured, after PATIENCE, in which the queue fills."""


class ImpatientClients:
    """Clients that connect at a constant rate, whether those before have their replies or not."""

    def __init__(self, path: str, rate: float) -> None:
        self.good = 0
        """Replies that came in time."""
        self._path = path
        self._rate = rate

    def run(self) -> None:
        """Send requests for PATIENCE and SECONDS; count the good ones of the SECONDS."""
        began = time.monotonic()
        count = int(self._rate * (PATIENCE + SECONDS))
        clients = []
        for number in range(count):
            gevent.sleep(max(began + number / self._rate - time.monotonic(), 0.0))
            is_measured = number >= self._rate * PATIENCE
            clients.append(gevent.spawn(self._ask, b"echo:%d" % number, is_measured))
        gevent.joinall(clients)

    def _ask(self, request: bytes, is_measured: bool) -> None:
        with (
            suppress(TimeoutError),
            gevent.Timeout(PATIENCE, TimeoutError()),
            socket.socket(socket.AF_UNIX) as sock,
        ):
            sock.connect(self._path)
            sock.sendall(request + b"\n")
            reply = sock.recv(100)
            self.good += is_measured and reply == request[5:] + b"\n"


def goodput(net: Network, load: float) -> float:
    """Return the replies in time, as a part of lond's capacity, at a load of so many times it."""
    net.pool |= {"max_connections": CONNECTIONS, "queue_timeout": 60.0}
    net.add("msul2", "--delay-ms", f"{DELAY_MS}-{DELAY_MS}")
    net.start()
    clients = ImpatientClients(str(net.sockets / "msul2"), CAPACITY * load)
    thread = Thread(target=clients.run)  # with a hub of its own
    thread.start()
    thread.join()
    return clients.good / (CAPACITY * SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("load", [2.0, 5.0])
def test_replies_in_time_under_overload_are_most_of_the_capacity(net: Network, load: float) -> None:
    """In the order of arrival nearly all of them come too late."""
    assert goodput(net, load) > 0.7
