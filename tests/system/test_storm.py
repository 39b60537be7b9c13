# SPDX-License-Identifier: GPL-2.0-or-later
"""100,000 requests from 64 clients: no reply to another request, and no request sent twice."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from load import Load

if TYPE_CHECKING:
    from harness import Lond, Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REQUESTS = 100_000
KILL_EVERY = 2.0


def check_received(load: Load, lond: Lond) -> None:
    """Compare what clients got with what lond received."""
    received = Counter(line[5:] for line in lond.received if line.startswith(b"echo:"))
    assert not [text for text, times in received.items() if times > 1]
    assert load.answered <= received.keys()


def test_every_request_gets_its_own_reply(net: Network) -> None:
    """With a lond that answers after random delays, every request is answered."""
    lond = net.add("msul2", "--delay-ms", "0-2")
    net.start()

    load = Load(net.sockets / "msul2", connecting=64, requests=REQUESTS, size=2000).run()

    assert load.outcomes == {"ok": REQUESTS}
    check_received(load, lond)


def test_no_wrong_reply_while_lond_is_killed(net: Network) -> None:
    """Each request gets its own reply or con_lost; lond's last start is noticed in time."""
    lond = net.add("msul2", "--delay-ms", "0-2")
    net.start()
    load = Load(net.sockets / "msul2", connecting=64, requests=REQUESTS, size=2000)
    kills = 0
    with load:
        while sum(load.outcomes.values()) < REQUESTS * 0.9:
            time.sleep(KILL_EVERY)
            lond.kill()
            lond.start()
            kills += 1
        back = time.monotonic()
        while net.ask("msul2", b"ping") != b"msul2":
            time.sleep(0.01)
        recovery = time.monotonic() - back
        load.wait()

    assert kills
    assert set(load.outcomes) <= {"ok", "con_lost"}
    assert load.outcomes["ok"]
    assert recovery <= net.pool["retry_backoff_max"] + 1.0
    check_received(load, lond)
