# SPDX-License-Identifier: GPL-2.0-or-later
"""What the Python client costs beside a socket call written by hand.

    cd scripts/lib && PYTHONPATH=../.. ../../.venv/bin/python -m bench.client_cost

Prints the time of a call, through the real daemon, of code written by hand with a connection for
each call, of `Client.reply` with a connection for each call, and with connections kept open; then
`AsyncClient` with 1,000 requests at once. Exits 1 if a ratio is over its bound.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.processes import OURS, Workshop
from lonc_gevent.client import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, CALLS, AT_ONCE = 400, 25, 1000
REQUEST: Final = b"echo:" + b"x" * 100
BOUNDS: Final = {"Client, a connection each": 1.15, "Client, kept open": 0.9}
"""Highest ratios to the time of the call written by hand."""


def by_hand(path: str) -> bytes:
    """Send the request as one would without a library: connect, send, read one line, close."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(REQUEST + b"\n")
        reply = b""
        while not reply.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("con_lost")
            reply += data
    return reply[:-1]


def microseconds(call: Callable[[], object]) -> float:
    """Return the time of one of CALLS calls."""
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1e6


async def at_once(directory: str, host: str) -> float:
    """Return the seconds for AT_ONCE requests at once."""
    async with AsyncClient(sockets=directory, timeout=60) as client:
        began = time.perf_counter()
        replies = await asyncio.gather(*(client.reply(REQUEST, host) for _ in range(AT_ONCE)))
        took = time.perf_counter() - began
    if len(set(replies)) != 1:
        raise ValueError("replies differ")
    return took


def main() -> int:
    """Measure, print and return the exit code."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with Workshop() as workshop:
        path = str(workshop.target(OURS).sockets[0])
        directory, _, host = path.rpartition("/")
        each = Client(sockets=directory, max_kept=0)
        kept = Client(sockets=directory)
        calls: dict[str, Callable[[], object]] = {
            "by hand, a connection each": lambda: by_hand(path),
            "Client, a connection each": lambda: each.reply(REQUEST, host),
            "Client, kept open": lambda: kept.reply(REQUEST, host),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(ROUNDS):
            names = list(calls) if number % 2 else list(calls)[::-1]
            for name in names:
                times[name].append(microseconds(calls[name]))
        bursts = [asyncio.run(at_once(directory, host)) for _ in range(5)]
    base = times["by hand, a connection each"]
    failed = 0
    for name, found in times.items():
        ratio = median(ours / theirs for ours, theirs in zip(found, base, strict=True))
        bound = BOUNDS.get(name, 1.0)
        failed |= ratio > bound
        print(f"{name:<28} {median(found):7.1f} us  ratio {ratio:.3f}  bound {bound:.2f}")
    print(f"AsyncClient, {AT_ONCE} at once     {median(bursts):7.3f} s  worst {max(bursts):.3f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
