# SPDX-License-Identifier: GPL-2.0-or-later
"""What the client library's `reply` costs beside a socket call written by hand.

Both ask the real daemon and a fake lond for an echo, by turns, so that a busy machine is as
busy for both. The ratio is that of the medians; CPU is this process's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from harness import network

from lonc_gevent.client import Connection, Sockets, reply

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "msul2"
REQUEST = b"echo:" + b"x" * 59
BATCH = 100
WALL_BOUND = 1.5
"""Times the wall time of the call by hand."""


def by_hand(path: str) -> bytes:
    """Do what a web developer writes who has no library."""
    with socket(AF_UNIX, SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(REQUEST + b"\n")
        received = b""
        while not received.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:
                raise ConnectionError(path)
            received += data
    return received[:-1]


def measure(calls: dict[str, Callable[[], bytes]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median wall and CPU time of each call, in microseconds."""
    walls: dict[str, list[float]] = {name: [] for name in calls}
    cpus: dict[str, list[float]] = {name: [] for name in calls}
    turns = list(calls.items())
    for _ in range(rounds):
        turns.append(turns.pop(0))  # nobody is always the first
        for name, call in turns:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(BATCH):
                assert len(call()) == 59
            cpus[name].append((time.process_time() - cpu) / BATCH * 1e6)
            walls[name].append((time.perf_counter() - wall) / BATCH * 1e6)
    return {name: (statistics.median(walls[name]), statistics.median(cpus[name])) for name in calls}


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help=f"of {BATCH} calls each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lonc") as directory, network(Path(directory)) as net:
        net.add(HOST)
        net.start()
        sockets = Sockets.read(net.config)
        path = sockets.path_of(HOST)
        with Connection(HOST, sockets=sockets) as connection:
            calls = {
                "by hand": lambda: by_hand(path),
                "reply": lambda: reply(REQUEST, HOST, timeout=10, sockets=sockets),
                "Connection.reply": lambda: connection.reply(REQUEST),
            }
            measure(calls, 3)
            found = measure(calls, arguments.rounds)
    hand_wall, hand_cpu = found["by hand"]
    for name, (wall, cpu) in found.items():
        print(
            f"{name:<17} {wall:6.0f} us ({wall / hand_wall:.2f} x),"
            f" CPU of this process {cpu:4.0f} us ({cpu / hand_cpu:.2f} x)"
        )
    good = found["reply"][0] / hand_wall < WALL_BOUND
    print("good" if good else f"NOT good: over {WALL_BOUND} times")
    sys.exit(not good)


if __name__ == "__main__":
    main()
