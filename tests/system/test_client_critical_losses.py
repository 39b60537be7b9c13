# SPDX-License-Identifier: GPL-2.0-or-later
"""`critical` loses no request while daemon and lond are killed at random."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until

from lonc_gevent.client import CON_DELAYED, Client, Sockets

if TYPE_CHECKING:
    from harness import Network

CALLS = 5000
THREADS = 8
SECONDS_BETWEEN_KILLS = (0.05, 0.4)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_no_critical_request_is_lost(net: Network) -> None:
    """Each of them is in lond's record at the end, some more than once.

    A lond that is killed has answered or not: its record is written before the reply.
    """
    seed = int(os.environ.get("LONC_TEST_SEED", random.randrange(2**31)))
    chance = random.Random(seed)
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.tables["delayed"] = {"settle": 0.2, "scan_interval": 0.5, "max_attempts": 1000}
    net.pool |= {"retry_backoff_min": 0.05, "retry_backoff_max": 0.2, "reply_timeout": 3.0}
    lond = net.add("msul2", "--delay-ms", "0-10")
    net.start()
    done = threading.Event()
    answers: Counter[str] = Counter()
    kills: Counter[str] = Counter()

    def call(number: int) -> bytes:
        return client.critical(b"echo:%d" % number, "msul2", timeout=2)

    def kill() -> None:
        while not done.wait(chance.uniform(*SECONDS_BETWEEN_KILLS)):
            victim = chance.choice(("lond", "daemon KILL", "daemon TERM"))
            kills[victim] += 1
            if victim == "lond":
                lond.kill()
                done.wait(chance.uniform(0, 0.3))
                lond.start()
                continue
            assert net.daemon
            net.daemon.end(signal.SIGTERM if victim == "daemon TERM" else signal.SIGKILL)
            net.daemon.close()
            net.start()

    with Client(sockets=Sockets.read(net.config)) as client, ThreadPoolExecutor(THREADS) as threads:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for number, answer in enumerate(threads.map(call, range(CALLS))):
                answers["delayed" if answer == CON_DELAYED else "replied"] += 1
                assert answer in (CON_DELAYED, b"%d" % number), seed
        finally:
            done.set()
            killer.join(PATIENCE * 2)
    directory = net.sockets / "delayed"
    wait_until(lambda: not list(directory.glob("[!.]*.msul2")), "all is replayed", 120)

    received = Counter(line for line in lond.received if line.startswith(b"echo:"))
    missing = [n for n in range(CALLS) if not received[b"echo:%d" % n]]
    assert missing == [], seed
    assert sum(kills.values()) >= 5
    assert answers["delayed"] > 0
    twice = sum(count > 1 for count in received.values())
    print(  # noqa: T201 - figures, shown with -s
        f"seed {seed}: {dict(answers)}, killed {dict(kills)}, ran more than once: {twice}"
    )
