# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon under a real supervisord, with the files that are in config/."""

from __future__ import annotations

import configparser
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bad_starts import CODE, CONFIGURATIONS, copy_code, spoilt
from harness import sockets_in, wait_until
from supervision import supervisord

from lonc_gevent.cli.run import LAST_LINES
from lonc_gevent.configuration.settings import Admin
from lonc_gevent.configuration.shard import owner
from lonc_gevent.daemon.drain import LAST_WORDS

if TYPE_CHECKING:
    from harness import Network

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_a_restart_in_place(net: Network) -> None:
    """HUP through supervisorctl: the same pid, and supervisord has seen nothing."""
    net.add("msul2")
    with supervisord(net) as running:
        running.wait_for("ready")
        pid = running.pid()
        assert net.ask("msul2", b"ping") == b"msul2"
        wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")
        said = len(running.own_log)

        running.ctl("signal", "HUP", "lonc-gevent")
        running.wait_for("ready", 2)

        assert running.pid() == pid
        assert running.own_log[said:] == []
        assert net.ask("msul2", b"ping") == b"msul2"
        assert "stopped" in running.ctl("stop", "lonc-gevent")
        running.wait_for("stopped")
    assert not sockets_in(net.sockets)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_daemon_serves_through_every_start_that_would_fail(net: Network) -> None:
    """Each way of bad_starts.py, one after another, under one daemon."""
    net.add("msul2")
    with supervisord(net, "supervisord.conf", {}, **copy_code(net)) as running:
        running.wait_for("ready")
        pid = running.pid()
        wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")
        log = len(running.own_log)
        with net.client("msul2") as client:
            for number, way in enumerate([*CONFIGURATIONS, *CODE], 1):
                with spoilt(net, way) as reason:
                    running.ctl("signal", "HUP", "lonc-gevent")
                    problems = running.wait_for("reload_refused", number)["problems"]
                assert any(reason in problem for problem in problems), (way.__name__, problems)
                assert client.ask(b"ping") == b"msul2"
                assert net.ask("msul2", b"ping") == b"msul2"
            assert running.pid() == pid
            assert running.own_log[log:] == []

            running.ctl("signal", "HUP", "lonc-gevent")
            running.wait_for("ready", 2)
            assert client.ask(b"ping") == b"msul2"
        assert running.pid() == pid


def test_a_killed_daemon_comes_back(net: Network) -> None:
    """After SIGKILL it is started again; what was left of the sockets does not stop it."""
    net.add("msul2")
    with supervisord(net) as running:
        running.wait_for("ready")
        pid = running.pid()
        wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")

        os.kill(pid, signal.SIGKILL)

        running.wait_for("ready", 2)
        assert running.pid() not in (0, pid)
        assert net.ask("msul2", b"ping") == b"msul2"


def test_the_hosts_spread_over_processes(net: Network) -> None:
    """With supervisord-shards.conf all hosts answer, from as many processes as are asked for."""
    hosts = ["msul1", "msul2", "nscll1", "s10"]
    for host in hosts:
        net.add(host)
    with supervisord(net, "supervisord-shards.conf", LONC_SHARDS="2") as running:
        for number in range(2):
            ready = running.wait_for("ready", name=f"lonc-{number}.log")
            assert ready["shard"] == f"{number}/2"
            assert ready["hosts"] == sum(owner(host, 2) == number for host in hosts)
        for host in hosts:
            assert net.ask(host, b"ping") == host.encode()
        running.ctl("signal", "HUP", "lonc-gevent:*")
        for number in range(2):
            running.wait_for("ready", 2, name=f"lonc-{number}.log")
        for host in hosts:
            assert net.ask(host, b"ping") == host.encode()


@pytest.mark.parametrize(
    "name", ["supervisord.conf", "supervisord-shards.conf", "supervisor-program.conf"]
)
def test_the_values_fit_together(name: str) -> None:
    """KILL comes well after the longest stop, children included; only a wanted end is one."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(CONFIG / name, encoding="utf-8")
    program = parser["program:lonc-gevent"]

    longest = Admin().stop_timeout + LAST_WORDS + LAST_LINES
    assert int(program["stopwaitsecs"]) >= longest * 1.5
    assert program["stopasgroup"] == "true"
    assert (program["autorestart"], program["exitcodes"]) == ("unexpected", "0")
