# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that reads the daemon's stdout is stopped (SIGSTOP) under load.

The rate of requests in that time must stay within the noise of the rate before, although each
transaction is logged.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import gevent
from harness import Network, network, wait_until
from storm import ask

CLIENTS = 16
NOISE = 0.75
"""The rate while the reader is stopped must be at least this share of the one before."""


def rates(path: str, seconds: int) -> list[int]:
    """Load the daemon; return how many requests were answered in each second."""
    done = 0

    def client() -> None:
        nonlocal done
        while True:
            assert ask(path, b"echo:x\n") == b"x\n"
            done += 1

    clients = [gevent.spawn(client) for _ in range(CLIENTS)]
    counts = []
    for _ in range(seconds):
        before = done
        gevent.sleep(1)
        counts.append(done - before)
    gevent.killall(clients)
    return counts


def run(net: Network, seconds: int) -> bool:
    """Measure before, during and after; return whether all is well."""
    net.tables["log"] = {"sample": 1}
    net.add("msul2")
    net.write()
    log = net.directory / "log"
    path = net.sockets / "msul2"
    command = [sys.executable, "-m", "lonc_gevent", "run", "--config", str(net.config)]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE) as daemon,
        subprocess.Popen(["cat"], stdin=daemon.stdout, stdout=file) as reader,
    ):
        wait_until(path.exists, "the daemon listens")
        before = rates(str(path), seconds // 2)
        reader.send_signal(signal.SIGSTOP)
        during = rates(str(path), seconds)
        reader.send_signal(signal.SIGCONT)
        after = rates(str(path), seconds // 2)
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(30)
        reader.wait(30)
    events = [json.loads(line) for line in log.read_bytes().splitlines()]
    dropped = sum(e["dropped"] for e in events if e["event"] == "log_lines_dropped")
    logged = sum(e["event"] == "transaction" for e in events)
    asked = sum(before) + sum(during) + sum(after)
    share = statistics.median(during) / statistics.median(before)
    print(
        f"requests a second, medians: {statistics.median(before):.0f} before,"
        f" {statistics.median(during):.0f} while stopped for {seconds} s (least {min(during)}),"
        f" {statistics.median(after):.0f} after; {share:.2f} of before\n"
        f"log: {logged} transactions + {dropped} counted as dropped, of {asked}; exit {code}"
    )
    return share >= NOISE and dropped > 0 and logged + dropped >= asked and code == 0


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lonc") as directory, network(Path(directory)) as net:
        good = run(net, options.seconds)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
