# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be measured, by name. BENCH.md explains what each group is for."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.processes import BARE, HAPROXY, HAPROXY_LINGER, OURS, Load

OURS_ONLY = (OURS,)
ALL = (OURS, HAPROXY, BARE)
WITH_LINGER = (OURS, HAPROXY, HAPROXY_LINGER, BARE)

KILO, MEGA = 4096, 1_000_000
LOND_US = 1000
"""Microseconds that a lond takes where it is given time of its own."""

PACED_CLIENTS = 256
"""Enough that a request at a fixed rate never waits for a free client."""

ENCRYPTED = "encrypt:eget:"
"""Sent by the daemon sealed, answered by lond sealed, opened by the daemon."""


@dataclass(frozen=True)
class Scenario:
    """A load, on targets with so many hosts, whose lond takes `delay` microseconds."""

    name: str
    load: Load
    targets: tuple[str, ...] = ALL
    hosts: int = 1
    delay: int = 0
    beside: str = ""
    """Another scenario, of the same round, that this one is to be compared with."""
    pace: str = ""
    """`own`: at half of the rate that each target reaches; `same`: at half of the lowest."""


@dataclass(frozen=True)
class Check:
    """Something measured by itself, not in rounds: see solo.py."""

    name: str
    meaning: str


@dataclass
class Plan:
    """What is to be done, and how long."""

    scenarios: list[Scenario]
    checks: list[Check] = field(default_factory=list)
    rounds: int = 5
    seconds: float = 1.0
    idle_seconds: float = 60.0
    patience: float = 600.0


def _all() -> list[Scenario]:
    found = [
        Scenario(f"{mode}-{clients}", Load(clients, mode), targets)
        for mode, targets in (("conn", WITH_LINGER), ("keep", ALL))
        for clients in (1, 16, 64, 1000)
    ]
    for mode in ("conn", "keep"):
        found += [
            Scenario(f"{mode}-16-4k", Load(16, mode, KILO)),
            Scenario(f"{mode}-16-1m", Load(16, mode, MEGA)),
        ]
    for mode in ("conn", "keep"):
        for suffix, size in (("", 64), ("-4k", KILO), ("-1m", MEGA)):
            plain = f"{mode}-16{suffix}"
            load = Load(16, mode, size, ENCRYPTED)
            found.append(Scenario(f"{plain}-encrypted", load, OURS_ONLY, beside=plain))
    for hosts in (10, 200):
        found += [
            Scenario(f"{mode}-64-{hosts}hosts", Load(64, mode), hosts=hosts)
            for mode in ("conn", "keep")
        ]
    found += [
        Scenario(f"{mode}-64-1ms", Load(64, mode), delay=LOND_US) for mode in ("conn", "keep")
    ]
    for mode in ("conn", "keep"):
        found += [
            Scenario(f"half-{mode}-{pace}", Load(PACED_CLIENTS, mode), pace=pace)
            for pace in ("own", "same")
        ]
    for length in (100, 1000, 10000):
        load = Load(length + 5, "keep", requests=5000, seconds=20.0)
        beside = "" if length == 100 else "queue-100"  # noqa: PLR2004 - the shortest one
        found.append(Scenario(f"queue-{length}", load, OURS_ONLY, delay=LOND_US, beside=beside))
    return found


SCENARIOS = {scenario.name: scenario for scenario in _all()}

CHECKS = {
    check.name: check
    for check in (
        Check("held", "how long 1 MB encrypted requests hold a client of another host"),
        Check("cipher", "1 MB encrypted beside what `cryptography` does with the same bytes"),
        Check("idle", "1,000 hosts at rest: memory, CPU"),
        Check("silent", "5,000 clients connected and silent: bytes a client"),
        Check("start", "2,000 hosts: start to `ready`"),
    )
}

QUICK = ("conn-16", "keep-16", "conn-1000", "conn-16-encrypted", "half-conn-own", "queue-1000")
QUICK_CHECKS = ("held", "silent", "start")


def describe(scenario: Scenario) -> str:
    """Return a scenario's meaning in a line."""
    load = scenario.load
    words = ["a connection a request" if load.mode == "conn" else "kept open"]
    words += [f"{load.clients:,} clients" if load.clients > 1 else "1 client"]
    words += [f"{load.bytes:,} bytes"] * (load.bytes != 64)  # noqa: PLR2004 - the usual size
    words += ["encrypted"] * (load.prefix == ENCRYPTED)
    words += [f"{scenario.hosts} hosts"] * (scenario.hosts > 1)
    words += ["lond takes 1 ms"] * (scenario.delay > 0)
    words += {
        "": [],
        "own": ["at half of each one's highest rate"],
        "same": ["at half of the lowest one's highest rate"],
    }[scenario.pace]
    if scenario.name.startswith("queue-"):
        words.append("all but 5 of them in the queue")
    return ", ".join(words)
