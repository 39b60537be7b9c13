# SPDX-License-Identifier: GPL-2.0-or-later
"""Each limit reached on purpose: what it costs in memory, and what other clients notice.

Meanwhile a client of another host asks all the time: all its requests must be answered, the
slowest within a bound. Memory is the daemon's resident set.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import Client, Network, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MB = 1024 * 1024
QUEUED = 64 * MB
"""max_queued_bytes in these tests."""

SLOWEST = 0.5
"""Seconds that another client's request may take at most; the machine may be busy."""

SILENT = 10_000
SILENT_CLIENT = 24 * 1024
"""Clients that send nothing, and the bytes of memory that one may cost."""


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line) * 1024


def be_the_other_client(path: str, pid: int) -> None:
    """Ask until stdin has a line, and once more; print how often, the slowest time and the peak.

    The peak is the daemon's most resident memory.
    """
    asked, peak, slowest = 0, 0, 0.0
    with Client(Path(path)) as client:
        print("ready", flush=True)  # noqa: T201 - for the test to read
        is_last = False
        while not is_last:
            is_last = bool(select.select([sys.stdin], [], [], 0.01)[0])
            began = time.monotonic()
            assert client.ask(b"echo:other") == b"other"
            asked += 1
            slowest = max(slowest, time.monotonic() - began)
            peak = max(peak, resident(pid))
    print(json.dumps({"asked": asked, "peak": peak, "slowest": slowest}))  # noqa: T201 - the same


@contextlib.contextmanager
def costs_at_most(net: Network, allowed: int, **pool: Any) -> Iterator[None]:
    """Start the daemon; assert that the block costs it no more memory, and others no time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    net.pool |= {"max_queued_bytes": QUEUED, "reply_timeout": 60.0, "queue_timeout": 60.0, **pool}
    for host in ("msul2", "msul3", "mute"):
        net.add(host, "--client-id", "msul1")
    daemon = net.start()
    assert net.ask("msul3", b"echo:warm") == b"warm"
    before = resident(daemon.pid)
    command = [sys.executable, __file__, str(net.sockets / "msul3"), str(daemon.pid)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        yield
        seen = json.loads(other.communicate(b"\n", timeout=60)[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen["asked"] > 1
    assert seen["peak"] - before <= allowed
    assert seen["slowest"] < SLOWEST


def test_queue_that_is_filled_four_times_over(net: Network) -> None:
    """Requests over max_queued_bytes are refused with con_lost."""
    with costs_at_most(net, QUEUED + 8 * MB):
        mute = [net.client("mute") for _ in range(5)]
        for client in mute:
            client.send(b"fault:mute\n")
        wait_until(lambda: len(net.londs["mute"].received) == len(mute), "all are busy")
        clients = [net.client("mute") for _ in range(4 * QUEUED // MB)]
        for client in clients:
            client.send(b"echo:" + b"q" * MB + b"\n")
        refused = 0
        for client in clients:
            client.sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                refused += client.line() == b"con_lost\n"
        # Those that wait are closed by their clients.
        for client in (*mute, *clients):
            client.sock.close()
        net.londs["mute"].kill()
        assert refused >= 3 * QUEUED // MB - 6


def connect(path: Path) -> Client:
    """Connect as soon as the backlog has room."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return Client(path)
        except BlockingIOError:
            assert time.monotonic() < deadline, "the daemon does not accept"
            time.sleep(0.01)


def test_clients_that_send_nothing(net: Network) -> None:
    """10,000 of them cost some memory each, and nothing else."""
    with costs_at_most(net, SILENT * SILENT_CLIENT):
        clients = [connect(net.sockets / "msul2") for _ in range(SILENT)]
        assert net.ask("msul2", b"echo:besides") == b"besides"
        for client in clients:
            client.sock.close()


def test_long_request_in_small_pieces(net: Network) -> None:
    """16 MB arrive in pieces, the first 20,000 bytes one by one, and come back."""
    size, single, piece = 16 * MB - 64, 20_000, 997
    text = (bytes(range(11, 256)) * (size // 245 + 1))[:size]
    with costs_at_most(net, 6 * 16 * MB), net.client("msul2", timeout=120) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.send(b"echo:")
        for at in range(single):
            client.send(text[at : at + 1])
        for at in range(single, size, piece):
            client.send(text[at : at + piece])
        client.send(b"\n")
        assert client.line() == text + b"\n"


def test_reply_without_an_end(net: Network) -> None:
    """After max_reply_bytes (64 MB) without a newline the client gets con_lost."""
    with costs_at_most(net, 2 * 64 * MB), net.client("msul2", timeout=120) as client:
        assert client.ask(b"fault:unended:67200000") == b"con_lost"
        net.wait_for("reply_lost", error="reply_too_long")


def test_reply_that_drips(net: Network) -> None:
    """A lond that sends a byte a moment, for ever, is left after reply_timeout."""
    with costs_at_most(net, 8 * MB, reply_timeout=5.0):
        began = time.monotonic()
        assert net.ask("msul2", b"fault:drip:50:" + b"d" * 10_000) == b"con_lost"
        assert time.monotonic() - began < 10.0


def test_request_that_is_too_long(net: Network) -> None:
    """A request over max_request_bytes is answered con_lost, and its connection closed."""
    with costs_at_most(net, 2 * 17 * MB), net.client("msul2", timeout=60) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):
                client.send(b"x" * MB)
        with contextlib.suppress(ConnectionResetError):
            assert client.line() == b"con_lost\n"
        net.wait_for("request_too_long")


if __name__ == "__main__":
    be_the_other_client(sys.argv[1], int(sys.argv[2]))
