# SPDX-License-Identifier: GPL-2.0-or-later
"""100,000 requests from 64 clients, a connection each; optionally while lond is killed.

Each request is unique, and its reply must be its own. What the clients got is compared with what
lond received: nothing answered that lond never saw, nothing received twice.

    storm                 a lond with small random delays: every request must be answered
    storm --kill-every S  lond is killed and started again every S seconds: each request gets its
                          own reply or con_lost; after the last start, requests succeed within one
                          backoff step plus one second
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
from gevent import socket
from gevent.threadpool import ThreadPool
from harness import Lond, Network, network

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL = {
    "connect_timeout": 2.0,
    "handshake_timeout": 2.0,
    "retry_backoff_min": 0.2,
    "retry_backoff_max": 1.0,
}

CON_LOST_PAUSE = 0.01
"""Seconds before a client that got con_lost asks the next thing; down is answered at once."""


def ask(path: str, request: bytes) -> bytes:
    """Send one request on a connection of its own; return all that came back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        sock.sendall(request)
        reply = b""
        while not reply.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:
                break
            reply += data
        return reply


def texts(count: int) -> Iterator[bytes]:
    """Give unique texts of 20 to 2,000 bytes."""
    for i in range(count):
        yield b"%08d:" % i + b"x" * (11 + i * 7919 % 1981)


def storm(path: str, clients: int, requests: int) -> tuple[Counter[str], set[bytes]]:
    """Send them all; return the outcomes, and the texts that were answered."""
    todo = texts(requests)
    outcomes: Counter[str] = Counter()
    answered: set[bytes] = set()

    def client() -> None:
        for text in todo:
            reply = ask(path, b"echo:" + text + b"\n")
            if reply == text + b"\n":
                outcomes["ok"] += 1
                answered.add(text)
            elif reply == b"con_lost\n":
                outcomes["con_lost"] += 1
                gevent.sleep(CON_LOST_PAUSE)
            else:
                outcomes["wrong"] += 1
                print(f"wrong: {text[:20]!r} got {reply[:40]!r}", file=sys.stderr)

    gevent.joinall([gevent.spawn(client) for _ in range(clients)], raise_error=True)
    return outcomes, answered


def kill_again_and_again(lond: Lond, period: float, stop: gevent.event.Event) -> int:
    """Kill lond and start it again, each period; return how often."""
    threads = ThreadPool(1)  # starting a process blocks
    kills = 0
    while not stop.wait(period):
        threads.apply(lond.kill)
        kills += 1
        threads.apply(lond.start)
    return kills


def run(net: Network, options: argparse.Namespace) -> bool:
    """Run the storm and print the verdict; return whether all is well."""
    lond = net.add("msul2", "--delay-ms", options.delay_ms)
    net.start()
    path = str(net.sockets / "msul2")
    stop = gevent.event.Event()
    killer = None
    if options.kill_every:
        killer = gevent.spawn(kill_again_and_again, lond, options.kill_every, stop)
    began = time.monotonic()
    outcomes, answered = storm(path, options.clients, options.requests)
    took = time.monotonic() - began
    stop.set()
    good = True
    if killer is not None:
        kills = killer.get()
        back = time.monotonic()
        while ask(path, b"ping\n") != b"msul2\n":
            gevent.sleep(0.01)
        recovery = time.monotonic() - back
        bound = POOL["retry_backoff_max"] + 1.0
        print(f"lond killed {kills} times; after the last start good again in {recovery:.2f} s")
        good &= recovery <= bound
    received = Counter(line[5:] for line in lond.received if line.startswith(b"echo:"))
    twice = sum(count > 1 for count in received.values())
    unseen = len(answered - received.keys())
    print(
        f"{sum(outcomes.values())} requests from {options.clients} clients in {took:.1f} s:"
        f" {outcomes['ok']} right, {outcomes['con_lost']} con_lost, {outcomes['wrong']} wrong;"
        f" received twice {twice}, answered but never received {unseen}"
    )
    good &= not outcomes["wrong"] and not twice and not unseen
    good &= bool(options.kill_every) or not outcomes["con_lost"]
    return good


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--delay-ms", default="0-2")
    parser.add_argument("--kill-every", type=float, default=0.0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory), pool=POOL) as net,
    ):
        good = run(net, options)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
