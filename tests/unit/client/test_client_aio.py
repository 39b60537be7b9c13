# SPDX-License-Identifier: GPL-2.0-or-later
"""The asyncio client, where it could differ from the blocking one."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until

from lonc_gevent.client import ConLostError, TimedOutError, UnknownHostError, aio

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakedaemon import FakeDaemon
    from harness import Network


def test_many_returns_the_outcome_of_each_host(up: Network) -> None:
    requests = {"nobody": b"ping", "msul2": b"ping", "down": b"ping"}

    outcomes = asyncio.run(aio.many(requests, timeout=5, sockets=up.sockets))

    assert list(outcomes) == list(requests)
    assert outcomes["msul2"] == b"msul2"
    assert [type(outcomes[host]) for host in ("nobody", "down")] == [UnknownHostError, ConLostError]


def test_a_late_reply_is_not_read_as_another_reply(up: Network) -> None:
    """After a timeout, and after a task was cancelled, a new connection is made."""

    async def ask() -> bytes:
        async with aio.Connection("msul2", sockets=up.sockets) as connection:
            with pytest.raises(TimedOutError):
                await connection.reply(b"delay:400:late", timeout=0.2)
            task = asyncio.create_task(connection.reply(b"delay:3000:later"))
            await asyncio.sleep(0)  # it begins at once, and has the connection then
            assert await connection.reply(b"echo:other") == b"other"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await connection.reply(b"delay:600:right")

    assert asyncio.run(ask()) == b"right"


def test_an_unsolicited_line_is_not_read_as_a_reply(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], FakeDaemon]
) -> None:
    answered = threading.Event()

    def talk(client: socket.socket) -> None:
        while line := client.recv(1000):
            client.sendall(line)
            if line == b"1\n":
                answered.wait(PATIENCE)
                client.sendall(b"unsolicited\n")

    daemon = fake(talk)

    async def ask() -> list[bytes]:
        async with aio.Connection("fake", timeout=PATIENCE, sockets=short_path) as connection:
            first = await connection.reply(b"1")
            answered.set()
            wait_until(connection.client._kept._open[0].has_input, "the unsolicited line is there")
            return [first, await connection.reply(b"2")]

    assert asyncio.run(ask()) == [b"1", b"2"]
    assert daemon.clients == 2


def test_a_request_that_is_too_long_is_con_lost(up: Network) -> None:
    """The daemon answers before it has read the whole request."""
    with pytest.raises(ConLostError) as caught:
        asyncio.run(aio.reply(b"x" * 40_000_000, "msul2", sockets=up.sockets))

    assert type(caught.value) is ConLostError


def test_a_full_backlog_is_waited_for(short_path: Path) -> None:
    """Until the deadline: the daemon is busy, not absent."""
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(short_path / "deaf"))
        deaf.listen(0)
        first.connect(str(short_path / "deaf"))

        with pytest.raises(TimedOutError):
            asyncio.run(aio.reply(b"ping", "deaf", timeout=0.3, sockets=short_path))
