# SPDX-License-Identifier: GPL-2.0-or-later
"""Fairness: what runs between the steps of a greenlet that never has to wait."""

from __future__ import annotations

import socket
from time import monotonic

import gevent
import pytest
from greenlet import greenlet

from lonc_gevent.eventloop import Acceptor, DisconnectLimiter, in_slices, yield_to_others
from lonc_gevent.eventloop.acceptor import BACKLOG_SHARE, DISCONNECTS


def test_yield_lets_a_readable_descriptor_run_first() -> None:
    """Which gevent.sleep(0) does not."""
    ours, theirs = socket.socketpair()
    seen: list[str] = []
    hub = gevent.get_hub()
    watcher = hub.loop.io(ours.fileno(), 1)

    def on_input() -> None:
        seen.append("input")
        watcher.stop()

    watcher.start(on_input)
    theirs.send(b"x")
    yield_to_others(hub)
    assert seen == ["input"]
    ours.close()
    theirs.close()


def test_in_slices_lets_others_run_during_long_work() -> None:
    """After each millisecond of it."""
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    ticker = gevent.spawn(tick)
    for _ in in_slices(range(10)):
        end = monotonic() + 0.002
        while monotonic() < end:
            pass
    ticker.kill()
    assert ticks >= 10


@pytest.mark.parametrize("count", [10, DISCONNECTS + 1, 5 * DISCONNECTS, 4000])
def test_disconnects_over_the_bound_wait_for_later_iterations(count: int) -> None:
    """All of them end, some in each loop iteration."""
    hub = gevent.get_hub()
    limiter = DisconnectLimiter(hub)
    handled: list[float] = []

    def disconnect() -> None:
        limiter.wait()
        handled.append(hub.loop.now())

    def disconnect_all() -> None:
        for _ in range(count):
            greenlet(disconnect, hub).switch()

    # In one iteration, as readable descriptors are; spawned greenlets are spread over several.
    timer = hub.loop.timer(0)
    timer.start(disconnect_all)
    with gevent.Timeout(10):
        while len(handled) < count:
            gevent.sleep(0.001)
    timer.close()
    limiter.close()
    assert len(handled) == count
    most = max(handled.count(iteration) for iteration in set(handled))
    # Two batches can share the loop's time: the first, and the first of those put off.
    assert most <= DISCONNECTS + max(DISCONNECTS, count // BACKLOG_SHARE)


def test_an_acceptor_accepts_all_that_wait_until_it_is_stopped() -> None:
    """Also more than in one burst."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.setblocking(False)
        accepted: list[int] = []
        errors: list[OSError] = []
        acceptor = Acceptor(gevent.get_hub(), listener, accepted.append, errors.append)
        acceptor.start()
        acceptor.start()
        peers = [socket.create_connection(listener.getsockname()) for _ in range(70)]
        with gevent.Timeout(5):
            while len(accepted) < len(peers):
                gevent.sleep(0.001)
        acceptor.stop()
        peers.append(socket.create_connection(listener.getsockname()))
        gevent.idle()
        assert len(accepted) == 70
        while acceptor.accept_some():
            pass
        assert len(accepted) == 71
        acceptor.close()
        assert errors == []
        for fd in accepted:
            socket.socket(fileno=fd).close()
        for peer in peers:
            peer.close()
