# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done with is let go: memory after large lines, and after what went wrong with them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sliced_daemon
from harness import wait_until

if TYPE_CHECKING:
    from harness import Network

MB = 1024 * 1024
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(MB)}
"""glibc gives each large block back at once then. By itself it keeps up to twice the largest."""


SLICE = 0.02
"""Seconds of CPU time for which a long line may hold the event loop at a time."""


def resident(net: Network, key: str = "VmRSS") -> int:
    """Return the daemon's resident memory, in bytes; with VmHWM the most since `forget_peak`."""
    assert net.daemon
    text = Path(f"/proc/{net.daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if key in line) * 1024


def forget_peak(net: Network) -> None:
    """Let VmHWM begin anew."""
    assert net.daemon
    Path(f"/proc/{net.daemon.pid}/clear_refs").write_text("5")


def ask_at_once(net: Network, requests: list[bytes], timeout: float = 60.0) -> list[bytes]:
    """Send each request by a client of its own, all at the same time; return the replies."""
    replies = [b""] * len(requests)

    def ask(number: int) -> None:
        with net.client("msul2", timeout) as client:
            replies[number] = client.ask(requests[number])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


def test_replies_that_were_too_long(net: Network) -> None:
    """What was read of a reply that is too long is let go with its connection."""
    net.pool["max_reply_bytes"] = 8 * MB
    net.add("msul2")
    net.start(env=MALLOC)
    assert net.ask("msul2", b"ping") == b"msul2"
    before = resident(net)

    for _ in range(5):
        assert net.ask("msul2", b"fault:unended:8500000") == b"con_lost"
    wait_until(lambda: resident(net) - before < 12 * MB, "the memory is let go")


def test_clients_that_stay_connected(net: Network) -> None:
    """A client that stays connected, and a lond connection, do not keep their last lines."""
    net.add("msul2")
    net.start(env=MALLOC)
    text = b"x" * (2 * MB)

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(net.client("msul2")) for _ in range(20)]
        assert clients[0].ask(b"ping") == b"msul2"
        before = resident(net)
        for client in clients:
            assert client.ask(b"echo:" + text) == text
        wait_until(lambda: resident(net) - before < 16 * MB, "the memory is let go")


def test_requests_that_never_end(net: Network) -> None:
    """Who waits for the next client does not keep what the last one left unfinished."""
    net.add("msul2")
    net.start(env=MALLOC)
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        before = resident(net)
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(net.client("msul2")).sock.sendall(b"x" * (2 * MB))
            wait_until(lambda: resident(net) - before > 36 * MB, "all of it is read")
        wait_until(lambda: resident(net) - before < 16 * MB, "the memory is let go")
        assert client.ask(b"ping") == b"msul2"


def test_replies_that_clients_do_not_read_count_in_the_budget(net: Network) -> None:
    """Beyond it no more of other long replies is read; short ones are answered."""
    net.pool |= {"max_bytes_in_flight": 4 * MB, "reply_timeout": 3.0, "max_connections": 20}
    net.add("msul2")
    net.add("msul3")
    net.start(env=MALLOC)
    assert net.ask("msul3", b"ping") == b"msul3"
    before = resident(net)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(net.client("msul2")).send(b"big:1000000\n")
        net.wait_for("client_stalled")
        assert net.ask("msul3", b"ping") == b"msul3"
        assert resident(net, "VmHWM") - before < 8 * MB
        net.wait_for("reply_lost", error="reply_timeout")
    assert net.ask("msul2", b"big:1000000") == b"b" * 1_000_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("request_text", "reply", "times", "line"),
    [
        (b"encrypt:put:" + b"x" * (16 * MB - 64), b"ok", 4, 16 * MB),
        (b"encrypt:echo:" + b"x" * (16 * MB - 64), b"x" * (16 * MB - 64), 1, 32 * MB),
        (b"encrypt:big:33000000", b"b" * 33_000_000, 1, 66_000_000),
        (b"encrypt:" + b" " * (16 * MB - 64), b"unknown_cmd", 1, 16 * MB),
    ],
    ids=["4 requests", "request and reply", "66 MB reply", "blanks"],
)
def test_long_encrypted_lines_cost_four_times_their_size_and_short_slices(
    net: Network, request_text: bytes, reply: bytes, times: int, line: int
) -> None:
    """The peak of the memory, and the longest CPU time between two switches of greenlets."""
    net.pool["reply_timeout"] = 60.0
    net.add("msul2", "--seal-replies", "--client-id", "msul1")
    net.write()
    slices = net.directory / "slices"
    support = str(Path(sliced_daemon.__file__).parent)
    env = MALLOC | {"PYTHONPATH": os.pathsep.join((support, os.environ.get("PYTHONPATH", "")))}
    net.run(env=env, program=("sliced_daemon", str(slices)))
    assert net.ask("msul2", b"ping") == b"msul2"
    before = resident(net)
    forget_peak(net)
    slices.unlink(missing_ok=True)

    assert ask_at_once(net, [request_text] * times) == [reply] * times

    assert resident(net, "VmHWM") - before < 4 * times * line
    assert not slices.exists() or float(slices.read_text()) < SLICE


def test_long_lines_beyond_the_budget_wait_and_are_all_answered(net: Network) -> None:
    """Requests and replies of 2 MB, twelve at once, with 1 MB for each of the two kinds."""
    net.pool |= {"max_bytes_in_flight": 2 * MB, "reply_timeout": 60.0, "queue_timeout": 60.0}
    net.add("msul2")
    net.start(env=MALLOC)
    assert net.ask("msul2", b"ping") == b"msul2"
    before = resident(net)
    forget_peak(net)
    requests = [b"echo:%02d" % number + b"x" * (2 * MB) for number in range(12)]

    assert ask_at_once(net, requests) == [request[5:] for request in requests]

    # One line of each kind beyond its limit; without the budget it is three times as much.
    assert resident(net, "VmHWM") - before < 14 * MB


def test_long_request_that_does_not_end_holds_up_others_no_longer_than_reply_timeout(
    net: Network,
) -> None:
    """It is disconnected with con_lost; short requests are answered meanwhile, and a TERM works."""
    net.pool |= {"max_bytes_in_flight": MB, "reply_timeout": 60.0}
    net.add("msul2")
    net.add("msul3", reply_timeout=1.0)
    daemon = net.start()
    text = b"y" * MB
    replies: list[bytes] = []
    other = threading.Thread(target=lambda: replies.extend(ask_at_once(net, [b"echo:" + text])))
    with net.client("msul3") as endless:
        endless.send(b"x" * (2 * MB))
        other.start()
        assert net.ask("msul2", b"ping") == b"msul2"
        assert not replies
        event = net.wait_for("client_stalled", host="msul3")
        assert event["request_bytes"] >= 2 * MB
        assert endless.line() == b"con_lost\n"
    other.join()
    assert replies == [text]
    with net.client("msul3") as endless, net.client("msul2") as paused:
        endless.send(b"x" * (2 * MB))
        paused.send(b"y" * 100_000)
        assert daemon.end(signal.SIGTERM) == 0
