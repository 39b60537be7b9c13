# SPDX-License-Identifier: GPL-2.0-or-later
"""Scrapes `/metrics` of a daemon with 1,000 hosts while requests run, and measures both.

Must hold: no request is delayed by more than 20 ms by it. What a scrape does to requests it does
each time; so the longest request during each scrape is compared with the longest in just as long
a time without one, right after it. Judged is the difference of the medians: what else the
machine does is in both. Run it on a machine at rest to see the times as they are.

    scripts/drill metrics_1000 [--hosts N] [--scrapes N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from harness import Lond, Network, network, wait_until
from unixhttp import UnixConnection, exchange

LIMIT_MS = 20.0

PRIORITY = -15
"""The niceness of all processes of the drill, if it may."""

LONDS = 2
"""Stand-ins that all hosts share."""


class Load(threading.Thread):
    """Asks one host after the other, on kept-open connections, and times each request."""

    def __init__(self, net: Network, hosts: list[str]) -> None:
        super().__init__()
        self.clients = [net.client(host) for host in hosts]
        self.times: list[float] = []
        self.wrong = 0
        self.done = False

    def run(self) -> None:
        """Ask until told to stop."""
        for client in cycle(self.clients):
            began = time.perf_counter()
            self.wrong += client.ask(b"echo:x") == b"con_lost"
            self.times.append((time.perf_counter() - began) * 1000)
            if self.done:
                return

    def stop(self) -> str:
        """End it; return what it saw."""
        self.done = True
        self.join()
        for client in self.clients:
            client.sock.close()
        cuts = statistics.quantiles(self.times, n=1000)
        return (
            f"{len(self.times)} requests: p50 {cuts[499]:.2f}, p99 {cuts[989]:.2f},"
            f" p99.9 {cuts[998]:.2f}, longest {max(self.times):.2f} ms"
        )


def scrape(net: Network, load: Load, path: str, times: int, **headers: str) -> float:
    """Ask so often; print the times and the size; return what was added to the longest request."""
    spent = []
    longest = []
    without = []
    size = 0
    connection = UnixConnection(net.sockets / "lonc-admin")
    for _ in range(times):
        first = len(load.times)
        began = time.perf_counter()
        size = len(exchange(connection, "GET", path, **headers).body)
        spent.append((time.perf_counter() - began) * 1000)
        longest.append(max(load.times[first:], default=0.0))
        first = len(load.times)
        time.sleep(spent[-1] / 1000)
        without.append(max(load.times[first:], default=0.0))
    connection.close()
    during, alone = statistics.median(longest), statistics.median(without)
    over = sum(one > LIMIT_MS for one in longest)
    calm = sum(one > LIMIT_MS for one in without)
    print(
        f"  {times} times: median {statistics.median(spent):.0f} ms, longest {max(spent):.0f} ms,"
        f" {size / 1e6:.2f} MB\n"
        f"  longest request: median {during:.2f} ms during a scrape, {alone:.2f} ms without;"
        f" {over} of {times} over {LIMIT_MS:g} ms, {calm} without"
    )
    return during - alone


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
    if os.geteuid() == 0:  # what else the machine does must not count
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory)) as net,
    ):
        londs = [Lond(f"lond{n}", Path(directory)).start() for n in range(LONDS)]
        try:
            return measure(net, londs, options.hosts, options.scrapes)
        finally:
            for lond in londs:
                lond.kill()


def measure(net: Network, londs: list[Lond], count: int, scrapes: int) -> int:
    """Start the daemon, and measure; return the exit code."""
    for number in range(count):
        lond = londs[number % len(londs)]
        net.hosts[f"host{number}"] = {
            "address": "127.0.0.1",
            "port": lond.port,
            "negotiation": "legacy",  # a stand-in has one id, and is not asked for it
        }
    net.tables["log"] = {"level": "warning"}
    net.start(ready=False)
    wait_until((net.sockets / "lonc-admin").exists, "the daemon listens", 60)
    for host in net.hosts:
        if net.ask(host, b"ping") == b"con_lost":
            print(f"{host}: con_lost")
            return 1
    busy = list(net.hosts)[:: max(count // 50, 1)]
    load = Load(net, busy)
    load.start()
    time.sleep(5)
    print(f"{count} hosts, {len(busy)} of them busy")
    print(f"alone\n  {load.stop()}")
    judged = 0.0
    wrong = 0
    for name, path, headers in (
        ("/metrics", "/metrics", {}),
        ("/metrics in gzip", "/metrics", {"Accept_Encoding": "gzip"}),
        ("/status", "/status", {}),
    ):
        load = Load(net, busy)
        load.start()
        print(name)
        judged = max(judged, scrape(net, load, path, scrapes, **headers))
        print(f"  {load.stop()}")
        wrong += load.wrong
    good = judged <= LIMIT_MS and not wrong
    print(f"{'good' if good else 'NOT GOOD'}: {judged:.2f} ms added, {wrong} con_lost")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
