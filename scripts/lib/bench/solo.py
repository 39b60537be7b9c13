# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks without another target: rest, silent clients, start, and requests beside large ones."""

from __future__ import annotations

import resource
import socket
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cryptography.hazmat.decrepit.ciphers.algorithms import IDEA
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

from bench.processes import OURS, BenchError, Load, cpu_seconds, resident_bytes, stop
from bench.rounds import progress
from bench.scenarios import ENCRYPTED, MEGA

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.processes import Target, Workshop
    from bench.quiet import Quiet
    from bench.scenarios import Plan

IDLE_HOSTS, START_HOSTS, SILENT_CLIENTS = 1000, 2000, 5000
STARTS = 3
LARGE_CLIENTS = 4
SMALL_RATE = 200.0
"""Requests a second, at fixed times, that watch how long the large ones hold others."""

Result = dict[str, float]


def held(workshop: Workshop, plan: Plan, quiet: Quiet) -> Result:
    """Watch small requests to one host, while another host's clients send 1 MB, encrypted."""
    target = workshop.target(OURS, hosts=10)
    small = Load(64, "keep", rate=SMALL_RATE, seconds=plan.seconds + 1)
    large = Load(LARGE_CLIENTS, "keep", MEGA, ENCRYPTED, seconds=plan.seconds + 2)

    def both() -> tuple[dict[str, float], dict[str, float]]:
        by_itself = workshop.load(target.sockets[1:2], small)
        busy = workshop.begin_load(target.sockets[:1], large)
        beside = workshop.load(target.sockets[1:2], small)
        workshop.end_load(busy)
        return by_itself, beside

    pairs = [quiet.measure(both)[0] for _ in range(plan.rounds)]
    alone, found = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "alone_max_ms": median(each["max_us"] for each in alone) / 1000,
        "p50_ms": median(each["p50_us"] for each in found) / 1000,
        "p99_ms": median(each["p99_us"] for each in found) / 1000,
        "max_ms": median(each["max_us"] for each in found) / 1000,
        "worst_max_ms": max(each["max_us"] for each in found) / 1000,
    }


def cipher(workshop: Workshop, plan: Plan, quiet: Quiet) -> Result:
    """Compare 1 MB requests, sealed and opened, with the cipher by itself."""
    target = workshop.target(OURS)
    load = Load(LARGE_CLIENTS, "keep", MEGA, ENCRYPTED, seconds=plan.seconds, warm=LARGE_CLIENTS)

    def both() -> tuple[dict[str, float], float]:
        return workshop.measure(target, load), _cipher_seconds()

    pairs = [quiet.measure(both)[0] for _ in range(plan.rounds)]
    return {
        "cipher_mb_s": median(MEGA / seconds / 1e6 for _, seconds in pairs),
        "ours_mb_s": median(each["rate"] * MEGA / 1e6 for each, _ in pairs),
        "cpu_over_cipher": median(each["cpu_us"] / 1e6 / seconds for each, seconds in pairs),
    }


def _cipher_seconds() -> float:
    """Return the CPU seconds to encrypt and decrypt 1 MB, nothing else."""
    pair = Cipher(IDEA(b"0123456789abcdef"), ECB())  # noqa: S305 - the only mode that lond speaks
    data = b"x" * MEGA
    began = time.process_time()
    for _ in range(4):
        pair.decryptor().update(pair.encryptor().update(data))
    return (time.process_time() - began) / 4


def idle(workshop: Workshop, plan: Plan, _quiet: Quiet) -> Result:
    """Measure 1,000 hosts at rest, after a request to each."""
    target = _started(workshop, IDLE_HOSTS)
    try:
        fresh = resident_bytes(target.pid)
        ask_all = Load(64, "conn", requests=IDLE_HOSTS, seconds=30.0)
        workshop.load(target.sockets, ask_all)
        _let_settle(target)
        before, began = cpu_seconds(target.pid), time.monotonic()
        time.sleep(plan.idle_seconds)
        used = cpu_seconds(target.pid) - before
        return {
            "fresh_mb": fresh / 1e6,
            "resident_mb": resident_bytes(target.pid) / 1e6,
            "cpu_percent": 100 * used / (time.monotonic() - began),
            "seconds": plan.idle_seconds,
        }
    finally:
        stop(target.process)


def silent(workshop: Workshop, _plan: Plan, _quiet: Quiet) -> Result:
    """Connect 5,000 clients that send nothing; return what each costs."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target = _started(workshop, 1)
    clients: list[socket.socket] = []
    try:
        idle_descriptors = descriptors_of(target)
        workshop.load(target.sockets, Load(16, "keep", requests=1000))
        before = resident_bytes(target.pid)
        cpu = cpu_seconds(target.pid)
        for _ in range(SILENT_CLIENTS):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(target.sockets[0])
            clients.append(client)
        _wait(lambda: descriptors_of(target) >= idle_descriptors + SILENT_CLIENTS)
        cpu = cpu_seconds(target.pid) - cpu
        grown = resident_bytes(target.pid) - before
    finally:
        for client in clients:
            client.close()
        stop(target.process)
    return {"bytes_a_client": grown / SILENT_CLIENTS, "cpu_us_a_client": cpu * 1e6 / SILENT_CLIENTS}


def start(workshop: Workshop, _plan: Plan, _quiet: Quiet) -> Result:
    """Start the daemon with 2,000 hosts, some times; from the exec to `ready`."""
    found = []
    for _ in range(STARTS):
        began = time.monotonic()
        target = _started(workshop, START_HOSTS)
        found.append(time.monotonic() - began)
        resident = resident_bytes(target.pid)
        stop(target.process)
    return {"seconds": median(found), "most_seconds": max(found), "resident_mb": resident / 1e6}


def descriptors_of(target: Target) -> int:
    """Return how many descriptors a target has open."""
    return len(list(Path(f"/proc/{target.pid}/fd").iterdir()))


def _started(workshop: Workshop, hosts: int) -> Target:
    return workshop.start_ours(workshop.new_folder(), hosts, workshop.lond())


def _let_settle(target: Target) -> None:
    """Wait until the daemon rests: connections to all hosts are made after the start."""
    last = -1.0
    for _ in range(60):
        now = cpu_seconds(target.pid)
        if now == last:
            return
        last = now
        time.sleep(1)


def _wait(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        if time.monotonic() > deadline:
            raise BenchError("not all clients were accepted within 30 s")
        time.sleep(0.05)


RUNS: dict[str, Callable[[Workshop, Plan, Quiet], Result]] = {
    "held": held,
    "cipher": cipher,
    "idle": idle,
    "silent": silent,
    "start": start,
}


def run(name: str, workshop: Workshop, plan: Plan, quiet: Quiet) -> Result:
    """Run the check of this name."""
    progress(f"check: {name}")
    result = RUNS[name](workshop, plan, quiet)
    progress("")
    return result
