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
import statistics
import sys
import tempfile
import time
from itertools import cycle
from multiprocessing import Pipe, Process
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from harness import Lond, Network, network, wait_until
from unixhttp import UnixConnection, exchange

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LIMIT_MS = 20.0

REST = 0.0005
"""Seconds between two requests."""

LONDS = 2
"""Fake londs that all hosts share."""


class Load:
    """Asks one host after the other, on kept-open connections, in a process of its own.

    A process, since in a thread it would wait for the one that reads the scrape; and with a
    pause after each request, so that it does not eat the processor that the daemon needs.
    """

    def __init__(self, net: Network, hosts: list[str]) -> None:
        self._ours, theirs = Pipe()
        self._process = Process(target=self._run, args=(net, hosts, theirs), daemon=True)
        self._process.start()
        self.began: list[float] = []
        self.times: list[float] = []
        self.wrong = 0

    @staticmethod
    def _run(net: Network, hosts: list[str], pipe: Connection[object, object]) -> None:
        began: list[float] = []
        times: list[float] = []
        wrong = 0
        clients = cycle([net.client(host) for host in hosts])
        while not pipe.poll(REST):
            at = time.perf_counter()
            wrong += next(clients).ask(b"echo:x") == b"con_lost"
            began.append(at)
            times.append((time.perf_counter() - at) * 1000)
        pipe.send((began, times, wrong))

    def stop(self) -> str:
        """End it; return what it saw."""
        self._ours.send(None)
        self.began, self.times, self.wrong = self._ours.recv()
        self._process.join()
        cuts = statistics.quantiles(self.times, n=1000)
        return (
            f"{len(self.times)} requests: p50 {cuts[499]:.2f}, p99 {cuts[989]:.2f},"
            f" p99.9 {cuts[998]:.2f}, longest {max(self.times):.2f} ms"
        )

    def longest(self, since: float, until: float) -> float:
        """Return the longest request that was under way in this time."""
        return max(
            (
                spent
                for at, spent in zip(self.began, self.times, strict=True)
                if at < until and at + spent / 1000 > since
            ),
            default=0.0,
        )


def scrape(net: Network, load: Load, path: str, times: int, **headers: str) -> float:
    """Ask so often; print the times and the size; return what was added to the longest request."""
    marks = []
    size = 0
    connection = UnixConnection(net.sockets / "lonc-admin")
    for _ in range(times):
        began = time.perf_counter()
        size = len(exchange(connection, "GET", path, **headers).body)
        ended = time.perf_counter()
        time.sleep(ended - began)
        marks.append((began, ended))
    connection.close()
    said = load.stop()
    spent = [(ended - began) * 1000 for began, ended in marks]
    during = [load.longest(began, ended) for began, ended in marks]
    without = [load.longest(ended, 2 * ended - began) for began, ended in marks]
    print(
        f"{path} {headers or ''}\n"
        f"  {times} times: median {statistics.median(spent):.0f} ms, longest {max(spent):.0f} ms,"
        f" {size / 1e6:.2f} MB"
    )
    for name, found in (("during a scrape", during), ("without", without)):
        over = sum(one > LIMIT_MS for one in found)
        print(
            f"  longest request {name}: median {statistics.median(found):.2f} ms,"
            f" longest {max(found):.2f} ms, {over} of {times} over {LIMIT_MS:g} ms"
        )
    print(f"  {said}")
    return statistics.median(during) - statistics.median(without)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
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
            "negotiation": "legacy",  # a fake lond has one id, and is not asked for it
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
    time.sleep(5)
    print(f"{count} hosts, {len(busy)} of them busy; alone\n  {load.stop()}")
    judged = 0.0
    wrong = 0
    for path, headers in (
        ("/metrics", {}),
        ("/metrics", {"Accept_Encoding": "gzip"}),
        ("/status", {}),
    ):
        load = Load(net, busy)
        judged = max(judged, scrape(net, load, path, scrapes, **headers))
        wrong += load.wrong
    good = judged <= LIMIT_MS and not wrong
    print(f"{'good' if good else 'NOT GOOD'}: {judged:.2f} ms added, {wrong} con_lost")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
