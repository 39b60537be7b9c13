# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pool does when its lond misbehaves, is busy, or is not there: one test a fault."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from harness import HANDSHAKE_FAULTS, PATIENCE, wait_until
from unixhttp import host_status, http

from lonc_gevent.backend.transaction import OVERLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Lond, Network


@pytest.mark.parametrize(("fault", "kind"), HANDSHAKE_FAULTS)
def test_a_lond_that_does_not_shake_hands(net: Network, fault: str, kind: str) -> None:
    """Each way to fail a handshake has its own error, and the request gets con_lost."""
    net.pool["handshake_timeout"] = 0.5
    net.add("msul2", "--fault", fault)
    net.start()

    assert net.ask("msul2", b"ping") == b"con_lost"

    net.wait_for("connection_failed", host="msul2", error=kind)
    assert net.wait_for("host_down", host="msul2")["error"] == kind


@pytest.mark.parametrize(
    ("request_line", "kind"),
    [
        (b"fault:drop-before", "connection_lost"),
        (b"fault:drop-middle", "connection_lost"),
        (b"fault:mute", "reply_timeout"),
        (b"fault:endless", "reply_too_long"),
        (b"fault:unended:3000000", "reply_too_long"),
        (b"encrypt:fault:bad-seal", "bad_sealed_reply"),
        (b"encrypt:fault:bad-seal-hex", "bad_sealed_reply"),
        (b"encrypt:fault:bad-seal-lines", "bad_sealed_reply"),
    ],
)
def test_a_reply_that_is_lost(net: Network, request_line: bytes, kind: str) -> None:
    """Each way to lose a reply has its own error, and costs this one request only."""
    net.pool |= {"reply_timeout": 1.0, "max_reply_bytes": 1_000_000}
    lond = net.add("msul2")
    net.start()

    assert net.ask("msul2", request_line) == b"con_lost"

    event = net.wait_for("reply_lost", host="msul2", error=kind)
    assert event["verb"] == request_line.split(b":")[0].decode()
    assert net.ask("msul2", b"ping") == b"msul2"
    assert len(lond.received) == 2, "nothing that may have run is sent again"


def test_a_reply_in_single_bytes(net: Network) -> None:
    """A reply that trickles in is still one reply."""
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"fault:drip:slow and whole") == b"fault:drip:slow and whole"


def test_bytes_after_a_reply_end_the_connection(net: Network) -> None:
    """An unrequested line never becomes a reply."""
    net.pool["max_connections"] = 1
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"fault:extra-line:mine") == b"fault:extra-line:mine"

    net.wait_for("connection_lost", host="msul2", error="unsolicited_bytes")
    for i in range(5):
        assert net.ask("msul2", b"echo:%d" % i) == b"%d" % i


def test_bytes_on_an_idle_connection_end_it(net: Network) -> None:
    """A lond that speaks without being asked is not asked again on that connection."""
    net.pool["max_connections"] = 1
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"fault:later-line:20:mine") == b"fault:later-line:20:mine"

    net.wait_for("connection_lost", host="msul2", error="unsolicited_bytes")
    assert net.ask("msul2", b"ping") == b"msul2"


def test_an_idle_pool_whose_lond_restarted(net: Network) -> None:
    """Stale connections are noticed before a request is put on one: no con_lost."""
    lond = net.add("msul2")
    net.start()
    clients = [net.client("msul2") for _ in range(5)]
    for client in clients:
        client.send(b"delay:200:x\n")
    for client in clients:
        assert client.line() == b"x\n"
        client.sock.close()
    lond.kill()
    lond.start()

    for i in range(20):
        assert net.ask("msul2", b"echo:%d" % i) == b"%d" % i


def test_a_first_connection_whose_lond_restarted(net: Network) -> None:
    """A connection that went stale before it was ever used costs no con_lost either."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    lond = net.add("msul2")
    net.start()
    net.wait_for("connection_made", host="msul2")
    lond.kill()
    lond.start()

    assert net.ask("msul2", b"ping") == b"msul2"


def test_a_lond_that_closes_right_after_the_handshake(net: Network) -> None:
    """A lond that takes connections only to drop them is down, not dialled without end."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    with closing_lond() as port:
        net.add("msul2", start=False, port=port, negotiation="legacy")
        net.start()

        while net.ask("msul2", b"ping") == b"con_lost":
            if net.find("host_down", host="msul2"):
                break

        assert len(net.find("connection_made", host="msul2")) < 20


@contextmanager
def closing_lond() -> Iterator[int]:
    """Shake hands, and close at once."""

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, peer.makefile("rb") as lines:
                    for answer in (b"123\n", b"ok\n", b"ABC\n"):
                        lines.readline()
                        peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_lond_that_closes_after_each_reply(net: Network) -> None:
    """A lond that serves one request a connection costs a handshake each, and no con_lost.

    As long as its close is seen before the next request: one that was sent may have run.
    """
    net.add("msul2", "--fault", "close-after:1")
    net.start()

    for i in range(20):
        assert net.ask("msul2", b"echo:%d" % i) == b"%d" % i
        net.wait_for("connection_lost", times=i + 1, host="msul2")


def test_requests_that_are_never_answered_do_not_wedge_the_host(net: Network) -> None:
    """With all connections taken by silence, others go on after reply_timeout."""
    net.pool |= {"reply_timeout": 1.0, "max_connections": 5}
    net.add("msul2")
    net.start()
    mute = [net.client("msul2") for _ in range(5)]
    for client in mute:
        client.send(b"fault:mute\n")
    wait_until(lambda: len(net.londs["msul2"].received) == 5, "all five are under way")

    assert net.ask("msul2", b"ping") == b"msul2"

    for client in mute:
        assert client.line() == b"con_lost\n"
        client.sock.close()


def test_a_half_open_lond(net: Network) -> None:
    """A lond that stops reading in the middle of a request holds it for reply_timeout only."""
    net.pool |= {"reply_timeout": 1.0}
    net.add("msul2")
    net.start()
    assert net.ask("msul2", b"fault:half-open") == b"con_lost"

    assert net.ask("msul2", b"ping") == b"msul2"


def test_the_pool_grows_to_its_limit_and_not_over_it(net: Network) -> None:
    """While requests wait, connections are made, one at a time, up to max_connections."""
    net.pool["max_connections"] = 3
    net.add("msul2")
    net.start()
    clients = [net.client("msul2") for _ in range(9)]
    for client in clients:
        client.send(b"delay:300:x\n")

    assert [client.line() for client in clients] == [b"x\n"] * 9

    assert len(net.find("connection_made", host="msul2")) == 3
    for client in clients:
        client.sock.close()


def test_requests_that_wait_less_than_a_second_are_sent_oldest_first(net: Network) -> None:
    """Requests that wait for a short time are sent in the order in which they came."""
    net.pool["max_connections"] = 1
    lond = net.add("msul2")
    net.start()
    requests = [b"delay:700:0", *(b"echo:%d" % i for i in range(1, 5))]
    for _attempt in range(10):  # on a busy machine the four may not be queued in time
        before = len(lond.received)
        clients = [net.client("msul2") for _ in requests]
        clients[0].send(requests[0] + b"\n")
        wait_until(partial(has_received, lond, before + 1), "the first one is in progress")
        first_queued = time.monotonic()
        for i, client in enumerate(clients[1:], 1):
            client.send(requests[i] + b"\n")
            wait_until(partial(is_queued_or_sent, net, i, lond, before + 2), "it is in the queue")
        assert [client.line() for client in clients] == [b"%d\n" % i for i in range(5)]
        took = time.monotonic() - first_queued
        for client in clients:
            client.sock.close()
        if took < OVERLOAD:
            break
    assert lond.received[before:] == requests


def is_queued_or_sent(net: Network, length: int, lond: Lond, count: int) -> bool:
    """Return whether so many requests wait for msul2, or lond has received so many already."""
    return has_received(lond, count) or is_queued(net, length)


def has_received(lond: Lond, count: int) -> bool:
    """Return whether the lond has received so many requests."""
    return len(lond.received) >= count


def is_queued(net: Network, length: int) -> bool:
    """Say whether so many requests wait for msul2."""
    return bool(host_status(net, "msul2")["queue"] == length)


def test_a_request_that_no_connection_took(net: Network) -> None:
    """A request that waited for queue_timeout gets con_lost, and is never sent."""
    net.pool |= {"max_connections": 1, "queue_timeout": 0.3}
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as busy:
        busy.send(b"delay:1500:x\n")
        wait_until(lambda: lond.received, "the connection is busy")

        assert net.ask("msul2", b"ping") == b"con_lost"

        net.wait_for("requests_refused", host="msul2", error="queue_timeout")
        assert busy.line() == b"x\n"
    assert lond.received == [b"delay:1500:x"]


@pytest.mark.parametrize(
    "limit", [{"max_queued": 1}, {"max_queued_bytes": 64, "max_request_bytes": 64}]
)
def test_a_queue_that_is_full(net: Network, limit: dict[str, int]) -> None:
    """A request that finds the queue full, in requests or in bytes, gets con_lost at once."""
    net.pool |= {"max_connections": 1, **limit}
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as busy, net.client("msul2") as waiting:
        busy.send(b"delay:1000:x\n")
        wait_until(lambda: lond.received, "the connection is busy")
        waiting.send(b"echo:" + b"y" * 40 + b"\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "one waits")

        assert net.ask("msul2", b"echo:" + b"z" * 40) == b"con_lost"

        net.wait_for("requests_refused", host="msul2", error="queue_full")
        assert busy.line() == b"x\n"
        assert waiting.line() == b"y" * 40 + b"\n"
        assert net.ask("msul2", b"ping") == b"msul2", "the queue's bytes are given back"


def test_a_host_that_is_down_answers_at_once(net: Network) -> None:
    """While the gate is shut, con_lost comes without a wait and without an attempt."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    net.add("msul2", start=False)
    net.start()
    net.wait_for("host_down", host="msul2")

    began = time.monotonic()
    for _ in range(50):
        assert net.ask("msul2", b"ping") == b"con_lost"

    assert time.monotonic() - began < PATIENCE / 3
    assert len(net.find("connection_failed", host="msul2")) == 1


def test_a_host_comes_back_within_a_backoff_step_and_a_second(net: Network) -> None:
    """The gate opens by itself; the next request makes the attempt and gets its reply."""
    net.pool |= {"retry_backoff_min": 0.2, "retry_backoff_max": 0.5}
    lond = net.add("msul2", start=False)
    net.start()
    for _ in range(3):
        assert net.ask("msul2", b"ping") == b"con_lost"
    lond.start()

    began = time.monotonic()
    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "it is back")

    assert time.monotonic() - began < 0.5 + 1.0
    net.wait_for("host_up", host="msul2")


def test_a_blackhole_costs_connect_timeout(net: Network) -> None:
    """A host that never answers the dial gives con_lost after connect_timeout, and hinders none."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(3):  # the backlog is full: further SYNs are not answered
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        net.pool["connect_timeout"] = 0.5
        net.add("msul2", start=False, port=deaf.getsockname()[1])
        net.add("msul3")
        net.start()

        began = time.monotonic()
        assert net.ask("msul3", b"ping") == b"msul3"
        assert net.ask("msul2", b"ping") == b"con_lost"

        assert time.monotonic() - began < PATIENCE / 3
        net.wait_for("connection_failed", host="msul2", error="connect_timeout")
        for filler in fillers:
            filler.close()


def test_a_name_without_an_address(net: Network) -> None:
    """A host whose name cannot be resolved is down, with its own error."""
    net.add("msul2", start=False, address="no-such-host.invalid")
    net.start()

    assert net.ask("msul2", b"ping") == b"con_lost"

    net.wait_for("connection_failed", host="msul2", error="unresolvable")


def test_a_name_with_two_addresses(net: Network) -> None:
    """Each address of a name is tried: `localhost` is ::1 too, where no lond listens."""
    try:
        socket.getaddrinfo("localhost", None)
    except socket.gaierror:
        pytest.skip("this machine does not know localhost")
    net.add("msul2", address="localhost")
    net.start()

    assert net.ask("msul2", b"ping") == b"msul2"


def test_surplus_connections_go_under_light_steady_traffic(net: Network) -> None:
    """The most lately used connection is used first, so that the surplus ages and is pruned."""
    net.pool |= {"max_connections": 4, "idle_timeout": 1.0}
    net.add("msul2")
    net.start()
    clients = [net.client("msul2") for _ in range(4)]
    for client in clients:
        client.send(b"delay:300:x\n")
    for client in clients:
        client.line()
        client.sock.close()
    assert len(net.find("connection_made", host="msul2")) == 4

    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            net.ask("msul2", b"ping")

    thread = threading.Thread(target=trickle)
    thread.start()
    net.wait_for("connection_closed", times=3, host="msul2")
    stop.set()
    thread.join()

    assert net.ask("msul2", b"ping") == b"msul2"
    assert len(net.find("connection_made", host="msul2")) == 4, "the one in use stayed"


def test_an_idle_connection_is_pruned_and_made_again(net: Network) -> None:
    """After idle_timeout there is no connection left; the next request makes one."""
    net.pool["idle_timeout"] = 0.3
    net.add("msul2")
    net.start()

    net.wait_for("connection_closed", host="msul2")

    assert net.ask("msul2", b"ping") == b"msul2"


def test_a_killed_lond_gives_con_lost_to_what_was_under_way(net: Network) -> None:
    """A reply that will never come is con_lost; its request is not sent again."""
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as client:
        client.send(b"delay:5000:x\n")
        wait_until(lambda: lond.received, "it is under way")

        lond.kill()

        assert client.line() == b"con_lost\n"
    lond.start()
    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "it is back")
    assert lond.received.count(b"delay:5000:x") == 1


def test_a_stopped_lond_goes_on_where_it_was(net: Network) -> None:
    """A lond that is only slow (SIGSTOP) loses nothing."""
    lond = net.add("msul2")
    net.start()
    assert net.ask("msul2", b"ping") == b"msul2"
    assert lond.process
    lond.process.send_signal(signal.SIGSTOP)
    with net.client("msul2") as client:
        client.send(b"echo:patient\n")
        wait_until(lambda: host_status(net, "msul2")["busy"] == 1, "it is under way")
        lond.process.send_signal(signal.SIGCONT)

        assert client.line() == b"patient\n"


def test_host_that_is_down_is_tried_without_a_request(net: Network) -> None:
    net.pool |= {"retry_backoff_min": 0.1, "retry_backoff_max": 1.0}
    lond = net.add("msul2", start=False)
    net.start()
    net.wait_for("host_down", host="msul2")
    net.wait_for("connection_failed", 3, host="msul2")

    lond.start()

    net.wait_for("host_up", host="msul2")
    assert not net.find("requests_refused")


def test_paused_host_that_is_down_is_tried_once_it_is_resumed(net: Network) -> None:
    net.pool |= {"retry_backoff_min": 0.1, "retry_backoff_max": 1.0}
    lond = net.add("msul2", start=False)
    net.start()
    net.wait_for("host_down", host="msul2")
    assert http(net, "/hosts/msul2/pause", "POST").status == 200
    failed = len(net.find("connection_failed"))
    lond.start()
    assert http(net, "/hosts/msul2/resume", "POST").status == 200

    net.wait_for("host_up", host="msul2")
    assert len(net.find("connection_failed")) <= failed + 1  # one may have been under way
