# SPDX-License-Identifier: GPL-2.0-or-later
"""Hundreds of hosts, most of them down, and a hundred thousand delayed files."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOOD, BLACKHOLED, REFUSING = 50, 75, 75
CONNECT_TIMEOUT, READY = 10.0, 5.0
"""Seconds for an attempt to connect, and for a start, which waits for no attempt."""

IDLE = 20.0
IDLE_CPU = 0.02
"""Seconds of rest, and the share of a core that the daemon may use in them."""

FILES = 100_000
HELD_MS = 100.0
MEMORY = 40 * 1024
"""Milliseconds that the daemon's own work may block the event loop; KB that the files may cost."""


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """Give a port that answers no SYN: its backlog is full."""
    with socket.socket() as deaf, contextlib.ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def most_memory(pid: int) -> int:
    """Return the largest resident set of a process so far, in KB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "VmHWM" in line)


def assert_not_held(net: Network) -> None:
    """Assert that the daemon's own work never blocked its event loop for long."""
    assert not [e for e in net.find("hub_held") if e["cpu_ms"] >= HELD_MS]


def test_hosts_that_are_down_cost_the_others_nothing(net: Network) -> None:
    """The start is quick, 50 good hosts of 200 are served, and the daemon rests once idle."""
    net.pool["connect_timeout"] = CONNECT_TIMEOUT
    lond = net.add("good0", negotiation="legacy")
    for i in range(1, GOOD):
        # One lond for all; legacy, since it refuses `sethost` for an id that is not its own.
        net.hosts[f"good{i}"] = net.hosts["good0"] | {"port": lond.port}
    refusing = free_port()
    with blackhole() as hole:
        for i in range(REFUSING):
            net.hosts[f"refusing{i}"] = {"address": "127.0.0.1", "port": refusing}
        for i in range(BLACKHOLED):
            net.hosts[f"hole{i}"] = {"address": "127.0.0.1", "port": hole}
        began = time.monotonic()
        daemon = net.start()
        assert time.monotonic() - began < READY
        while len(net.find("host_down")) < REFUSING + BLACKHOLED:
            for i in range(GOOD):
                assert net.ask(f"good{i}", b"echo:x") == b"x"
        used = cpu_seconds(daemon.pid)
        time.sleep(IDLE)
        assert (cpu_seconds(daemon.pid) - used) / IDLE < IDLE_CPU
    assert_not_held(net)


def test_files_for_a_host_that_is_down_hold_up_no_client(net: Network) -> None:
    """100,000 delayed files block the event loop for no client, and cost little memory."""
    net.tables["delayed"] = {"directory": "d"}
    net.add("msul1")
    net.add("msul2", start=False)
    daemon = net.start()
    directory = net.directory / "d"
    assert net.ask("msul1", b"ping") == b"msul1"
    before = most_memory(daemon.pid)
    for i in range(FILES):
        (directory / f"1000000000.{i:06d}.77.echo.msul2").write_bytes(b"echo:%d\n" % i)
    daemon.end()
    daemon.close()

    daemon = net.start()
    with net.client("msul1") as client:
        end = time.monotonic() + IDLE
        while time.monotonic() < end:
            assert client.ask(b"echo:x") == b"x"
            time.sleep(0.002)
    assert_not_held(net)
    assert most_memory(daemon.pid) - before <= MEMORY
    files = [path for path in directory.iterdir() if path.name.startswith("1")]
    assert len(files) == FILES
    net.londs["msul2"].start()
    wait_until(lambda: net.londs["msul2"].received, "they are sent once the host is back", 60)
