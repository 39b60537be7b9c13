# SPDX-License-Identifier: GPL-2.0-or-later
"""The asyncio client, where it could differ from the blocking one."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until

from lonc_gevent.client import ConLost, NoDaemonError, TimedOutError, aio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakedaemon import Fake
    from harness import Network


@pytest.fixture
def up(net: Network) -> Network:
    """Give a network with the host msul2 up and the host down down."""
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.add("msul2")
    net.add("down", start=False)
    net.start()
    return net


def test_many(up: Network) -> None:
    """Each host has its own outcome, in the order asked."""
    requests = {"nobody": b"ping", "msul2": b"ping", "down": b"ping"}

    outcomes = asyncio.run(aio.many(requests, timeout=5, sockets=up.sockets))

    assert list(outcomes) == list(requests)
    assert outcomes["msul2"] == b"msul2"
    assert [type(outcomes[host]) for host in ("nobody", "down")] == [NoDaemonError, ConLost]


def test_a_late_reply_is_nobodys(up: Network) -> None:
    """After a timeout, and after a task was cancelled, the connection is a new one."""

    async def ask() -> bytes:
        async with aio.Connection("msul2", sockets=up.sockets) as connection:
            with pytest.raises(TimedOutError):
                await connection.reply(b"delay:400:late", timeout=0.2)
            task = asyncio.create_task(connection.reply(b"delay:3000:later"))
            await asyncio.sleep(0)  # it begins at once, and has the connection then
            with pytest.raises(RuntimeError, match="needs its own"):
                await connection.reply(b"other")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await connection.reply(b"delay:600:right")

    assert asyncio.run(ask()) == b"right"


def test_a_line_nobody_asked_for(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], Fake]
) -> None:
    """What waits on a kept connection before a request is no reply to it."""
    answered = threading.Event()

    def talk(client: socket.socket) -> None:
        while line := client.recv(1000):
            client.sendall(line)
            if line == b"1\n":
                answered.wait(PATIENCE)
                client.sendall(b"stray\n")

    daemon = fake(talk)

    async def ask() -> list[bytes]:
        async with aio.Connection("fake", timeout=PATIENCE, sockets=short_path) as connection:
            first = await connection.reply(b"1")
            answered.set()
            wait_until(connection._sock.has_input, "the stray line is there")
            return [first, await connection.reply(b"2")]

    assert asyncio.run(ask()) == [b"1", b"2"]
    assert daemon.clients == 2


def test_a_request_that_is_too_long(up: Network) -> None:
    """con_lost that comes before all was sent is con_lost, not a broken pipe."""
    with pytest.raises(ConLost) as caught:
        asyncio.run(aio.reply(b"x" * 40_000_000, "msul2", sockets=up.sockets))

    assert type(caught.value) is ConLost


def test_a_full_backlog(short_path: Path) -> None:
    """A daemon too busy to accept is waited for until the deadline, not taken for absent."""
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(short_path / "deaf"))
        deaf.listen(0)
        first.connect(str(short_path / "deaf"))

        with pytest.raises(TimedOutError):
            asyncio.run(aio.reply(b"ping", "deaf", timeout=0.3, sockets=short_path))
