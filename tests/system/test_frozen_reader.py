# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that reads the daemon's stdout is stopped (SIGSTOP) under load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from load import Load

if TYPE_CHECKING:
    from harness import Network

SECONDS = 20.0
WARM_UP = 1_000
NOISE = 0.75
"""The rate while the reader is stopped is at least this share of the rates before and after."""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rate_of_requests_stays_the_same_while_the_log_reader_is_stopped(net: Network) -> None:
    """Each transaction is logged; lines that the reader does not take are dropped and counted."""
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
        with Load(path, connecting=16) as load:
            wait_until(lambda: load.outcomes["ok"] >= WARM_UP, "the load has begun")
            before = load.rate(SECONDS / 2)
            reader.send_signal(signal.SIGSTOP)
            during = load.rate(SECONDS)
            reader.send_signal(signal.SIGCONT)
            after = load.rate(SECONDS / 2)
        daemon.terminate()
        assert daemon.wait(30) == 0
        reader.wait(30)
    events = [json.loads(line) for line in log.read_bytes().splitlines()]
    dropped = sum(e["dropped"] for e in events if e["event"] == "log_lines_dropped")
    assert set(load.outcomes) == {"ok"}
    assert dropped > 0
    assert sum(e["event"] == "transaction" for e in events) + dropped >= load.outcomes["ok"]
    assert during >= NOISE * min(before, after)
