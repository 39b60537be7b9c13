# SPDX-License-Identifier: GPL-2.0-or-later
"""20 restarts in place (HUP) in a minute, or 10 kills, of a daemon that a real supervisord runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from harness import Client, wait_until
from load import Load
from supervision import supervisord
from test_handover import counters, made
from test_restart import frozen
from unixhttp import host_status

if TYPE_CHECKING:
    from harness import Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RESTARTS, PERIOD = 20, 3.0
SLOW = 40
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


def start_of_python() -> float:
    """Return how many seconds a program of this size takes to start on this machine now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import lonc_gevent.cli.run"], check=True)
    return time.monotonic() - began


def test_slow_requests_and_busy_hosts_survive_20_restarts(net: Network) -> None:
    """Beside full load: 40 requests of 20 s at a slow lond, and a host whose lond is frozen."""
    net.pool |= {"reply_timeout": 120.0, "queue_timeout": 120.0, "unacknowledged_timeout": 120.0}
    net.pool |= {"max_connections": SLOW, "idle_timeout": 600.0}
    net.add("msul2")
    slow, frozen_lond = net.add("slow"), net.add("frozen")
    daemon = net.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(net.client("slow", 120.0)) for _ in range(SLOW)]
        for number, client in enumerate(clients):
            client.send(b"delay:20000:%d\n" % number)
        wait_until(lambda: len(slow.received) == SLOW, "all are at lond", 60.0)
        first = len(net.find("ready"))
        stopped = stack.enter_context(net.client("frozen", 120.0))
        assert stopped.ask(b"ping") == b"frozen"
        stack.enter_context(frozen(frozen_lond))
        stopped.send(b"echo:thawed\n")
        load = stack.enter_context(Load(net.sockets / "msul2", keeping=16, connecting=16))
        wait_until(lambda: load.outcomes["ok"] > 1000, "the load runs")
        starts, before = [], counters(net)
        for number in range(RESTARTS):
            due = time.monotonic() + PERIOD
            daemon.send_signal(signal.SIGHUP)
            net.wait_for("ready", first + number + 1)
            after = counters(net)
            assert not {name for name in before if after.get(name, -1.0) < before[name]}
            before = after
            if not number % 5:
                starts.append(start_of_python())
            time.sleep(max(0.0, due - time.monotonic()))
        load.stop()
        assert [client.line() for client in clients] == [b"%d\n" % n for n in range(SLOW)]
        assert set(load.outcomes) == {"ok"}
        # Clients wait while the new program starts; half a second on an idle machine of two cores.
        assert load.longest < max(0.5, 3 * max(starts))
        # Each connection that was ever made is still open.
        assert {host: made(net, host) for host in net.hosts} == {
            host: host_status(net, host)["idle"] + host_status(net, host)["busy"]
            for host in net.hosts
        }
        assert frozen_lond.process
        frozen_lond.process.send_signal(signal.SIGCONT)
        assert stopped.line() == b"thawed\n"
    assert sum(event["con_lost"] for event in net.find("handing_over")) == 0
    assert len(slow.received) == SLOW


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
