# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that never pause, of each loop over a descriptor or a queue, while web processes ask."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import flood
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

SPELL: Final = 1.0
"""Seconds of attack during which requests are timed."""

SPELLS: Final = 8
"""A machine that is busy with something else spoils some of them; a daemon that is held, all."""

BOUND: Final = 0.1
"""Seconds in which a web process has its reply."""

STOP_TIMEOUT: Final = 1.0


@contextmanager
def attack(net: Network, kind: str, clients: int = 1) -> Iterator[None]:
    """Run child processes that attack the daemon."""
    assert net.daemon
    command = [sys.executable, flood.__file__, str(net.sockets), kind, str(net.daemon.pid)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(clients)]
    try:
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == b"attacking\n"
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()
            assert child.stdout
            child.stdout.close()


def longest_wait(net: Network, seconds: float) -> float:
    """Return how long the slowest of many requests took, each on a connection of its own."""
    longest = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert net.ask("msul3", b"ping") == b"msul3"
        longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.parametrize("kind", [*flood.HTTP, *flood.LINES, *flood.OTHERS])
def test_web_client_is_served_at_once_during_flood(net: Network, kind: str) -> None:
    """In the best of several spells, the slowest request takes less than BOUND; TERM is obeyed."""
    net.tables["admin"] = {"stop_timeout": STOP_TIMEOUT}
    net.add("msul2")
    net.add("msul3")
    net.add("gone", start=False)
    daemon = net.start()
    assert net.ask("msul3", b"ping") == b"msul3"

    with attack(net, kind):
        waits: list[float] = []
        while len(waits) < SPELLS and min(waits, default=BOUND) >= BOUND:
            waits.append(longest_wait(net, SPELL))
        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        code = daemon.process.wait(30)
        stopped_after = time.monotonic() - began

    assert min(waits) < BOUND, waits
    assert (code, stopped_after < STOP_TIMEOUT + 1.0) == (0, True), stopped_after


def test_host_is_reached_while_a_client_has_its_connections_closed_without_end(
    net: Network,
) -> None:
    """Each connection was closed before it had served, and all others got con_lost."""
    net.add("msul2")
    net.start()
    with attack(net, "close_lines", clients=2):
        for _ in range(10):
            assert net.ask("msul2", b"ping") == b"msul2"
