# SPDX-License-Identifier: GPL-2.0-or-later
"""200 hosts of which 150 are unreachable: blackholed (75) or refusing (75).

Ready in under 3 s, requests to the good ones unaffected, and little CPU once idle.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Network, free_port, network

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD, BLACKHOLED, REFUSING = 50, 75, 75
LEGACY = {"negotiation": "legacy"}
READY_BOUND = 3.0
CPU_BOUND = 0.02


@contextmanager
def blackhole() -> Iterator[int]:
    """Give a port that answers no SYN: its backlog is full."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]
        for filler in fillers:
            filler.close()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies(net: Network, times: int) -> list[float]:
    """Ask each good host; return how long each answer took, in milliseconds."""
    found = []
    for _ in range(times):
        for i in range(GOOD):
            began = time.perf_counter()
            assert net.ask(f"good{i}", b"echo:x") == b"x"
            found.append((time.perf_counter() - began) * 1000)
    return found


def run(net: Network, idle_seconds: float) -> bool:
    """Start, ask, rest; print the verdict; return whether all is well."""
    net.pool["connect_timeout"] = 5.0
    lond = net.add("good0", negotiation="legacy")
    for i in range(1, GOOD):
        # One lond for all; legacy, as it would not take `sethost` for an id that is not its own.
        net.hosts[f"good{i}"] = {"address": "127.0.0.1", "port": lond.port} | LEGACY
    refusing = free_port()
    for i in range(REFUSING):
        net.hosts[f"refusing{i}"] = {"address": "127.0.0.1", "port": refusing}
    with blackhole() as port:
        for i in range(BLACKHOLED):
            net.hosts[f"hole{i}"] = {"address": "127.0.0.1", "port": port}
        began = time.monotonic()
        daemon = net.start()
        ready = time.monotonic() - began
        early = latencies(net, 10)
        time.sleep(10)  # the first attempts have all failed by then
        late = latencies(net, 10)
        before = cpu_seconds(daemon.pid)
        time.sleep(idle_seconds)
        idle = (cpu_seconds(daemon.pid) - before) / idle_seconds
    down = len(net.find("host_down"))
    print(
        f"ready in {ready:.2f} s (with Python's own start); {down} hosts down;"
        f" CPU when idle {idle * 100:.2f} % of a core"
    )
    for name, found in (("while the others are dialled", early), ("afterwards", late)):
        cuts = statistics.quantiles(found, n=100)
        print(
            f"good hosts, {name}: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f}, max {max(found):.2f}"
        )
    return ready < READY_BOUND and idle < CPU_BOUND and down == REFUSING + BLACKHOLED


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lonc") as directory, network(Path(directory)) as net:
        good = run(net, options.idle_seconds)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
