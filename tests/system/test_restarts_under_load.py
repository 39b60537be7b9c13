# SPDX-License-Identifier: GPL-2.0-or-later
"""20 restarts in place (HUP) in a minute, or 10 kills, of a daemon that a real supervisord runs."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from harness import Client, wait_until
from load import Load
from supervision import supervisord

if TYPE_CHECKING:
    from harness import Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RESTARTS, PERIOD = 20, 3.0
KILLS = 10
RECOVERY = 5.0
"""Seconds from a kill to the next reply; supervisord looks for ended programs once a second."""


def test_no_request_fails_while_the_daemon_restarts_in_place(net: Network) -> None:
    """No connection is refused or closed, the pid stays, and supervisord notices nothing."""
    net.add("msul2", "--delay-ms", "0-2")
    with supervisord(net) as running:
        running.wait_for("ready")
        wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")
        pid, lines = running.pid(), running.own_log
        with Load(net.sockets / "msul2", connecting=64, keeping=16) as load:
            for number in range(RESTARTS):
                due = time.monotonic() + PERIOD
                running.ctl("signal", "HUP", "lonc-gevent")
                running.wait_for("ready", number + 2)
                time.sleep(max(0.0, due - time.monotonic()))

        assert set(load.outcomes) == {"ok"}
        assert running.pid() == pid
        assert running.own_log == lines


def replies(net: Network) -> bool:
    """Say whether a request gets its reply."""
    try:
        with Client(net.sockets / "msul2", timeout=2.0) as client:
            client.send(b"ping\n")
            return client.line() == b"msul2\n"
    except OSError:
        return False


def test_clients_get_replies_soon_after_each_kill(net: Network) -> None:
    """The sockets that a killed daemon leaves do not stop the next one."""
    net.add("msul2")
    with supervisord(net) as running:
        running.wait_for("ready")
        for _ in range(KILLS):
            wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")
            pid = running.pid()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: replies(net), "a reply", RECOVERY)
            assert running.pid() not in (0, pid)
