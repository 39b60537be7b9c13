# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done with is let go: memory after large lines, and after what went wrong with them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness import wait_until

if TYPE_CHECKING:
    from harness import Network

MB = 1024 * 1024
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(MB)}
"""glibc gives each large block back at once then. By itself it keeps up to twice the largest."""


def resident(net: Network) -> int:
    """Return the daemon's resident memory, in bytes."""
    assert net.daemon
    text = Path(f"/proc/{net.daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line) * 1024


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
