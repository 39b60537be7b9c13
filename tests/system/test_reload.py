# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload and its result: `lonc-gevent reload`, `POST /reload`, metrics and status."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from unixhttp import UnixConnection, http

from lonc_gevent.daemon.reloads import Reloads

if TYPE_CHECKING:
    from harness import Network

SUCCESSFUL = "lonc_config_last_reload_successful"
TIMESTAMP = "lonc_config_last_reload_timestamp_seconds"


def metric(net: Network, name: str) -> float:
    """Return the value of a metric without labels."""
    lines = http(net, "/metrics").body.decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def test_reload_command_waits_until_the_new_program_is_ready(net: Network) -> None:
    net.add("msul2")
    net.start()
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        started = metric(net, TIMESTAMP)

        result = net.command("reload")

        assert (result.returncode, result.stdout) == (0, b"reloaded\n"), result.stderr
        assert len(net.find("ready")) == 2
        assert client.ask(b"ping") == b"msul2"
    assert metric(net, SUCCESSFUL) == 1
    assert metric(net, TIMESTAMP) > started
    assert abs(metric(net, TIMESTAMP) - time.time()) < 60


NO_TOML = ["this is no TOML =", '[delayed]\nperm_log = "half', "[network]\nhost_id = 1\n"]


@pytest.mark.parametrize("fault", NO_TOML)
def test_reload_with_a_file_that_is_no_toml_is_refused_by_the_daemon(
    net: Network, fault: str
) -> None:
    net.add("msul2")
    net.start()
    net.config.write_text(net.config.read_text() + fault)

    result = net.command("reload")

    assert (result.returncode, result.stderr.count(b"not TOML")) == (2, 1)
    assert len(net.find("reload_refused")) == 1
    assert metric(net, SUCCESSFUL) == 0
    assert len(net.find("ready")) == 1


def test_reload_without_a_daemon_names_the_line_that_is_no_toml(net: Network) -> None:
    net.add("msul2", start=False)
    net.write()
    net.config.write_text(net.config.read_text() + NO_TOML[0])

    result = net.command("reload")

    assert (result.returncode, b"not TOML" in result.stderr) == (2, True)


@pytest.mark.parametrize("fault", ["[pol]\n", "this is no TOML ="])
def test_refused_reload_is_known_everywhere(net: Network, fault: str) -> None:
    net.add("msul2")
    net.start()
    loaded = metric(net, TIMESTAMP)
    good = net.config.read_text()
    net.config.write_text(good + fault)

    result = net.command("reload")
    response = http(net, "/reload", "POST")

    assert result.returncode == 2
    assert b"lonc.toml" in result.stderr
    assert response.status == 409
    problems = response.body.decode().splitlines()
    assert "lonc.toml" in problems[0]
    assert metric(net, SUCCESSFUL) == 0
    assert metric(net, TIMESTAMP) == loaded
    assert http(net, "/status").json["reload_problems"] == problems
    net.config.write_text(good)
    assert b"Last reload refused" in net.command("status").stdout
    assert net.ask("msul2", b"ping") == b"msul2"
    assert len(net.find("starting")) == 1

    assert net.command("reload").returncode == 0
    assert metric(net, SUCCESSFUL) == 1
    assert http(net, "/status").json["reload_problems"] == []


def test_refused_usr2_is_in_the_metrics_until_one_succeeds(net: Network) -> None:
    net.add("msul2")
    daemon = net.start()
    good = net.config.read_text()
    net.config.write_text(good + "[pol]\n")
    daemon.send_signal(signal.SIGUSR2)
    net.wait_for("reload_refused")
    assert metric(net, SUCCESSFUL) == 0

    net.config.write_text(good)
    daemon.send_signal(signal.SIGUSR2)
    net.wait_for("hosts_reloaded")

    assert metric(net, SUCCESSFUL) == 1


def test_reload_without_a_daemon_fails_with_a_reason(net: Network) -> None:
    net.add("msul2", start=False)
    net.write()

    result = net.command("reload")

    assert result.returncode == 5
    assert b"no daemon answers" in result.stderr


def test_stop_during_a_reload_answers_the_client(net: Network) -> None:
    net.add("msul2")
    daemon = net.start()
    connection = UnixConnection(net.sockets / "lonc-admin")
    connection.request("POST", "/reload")
    net.wait_for("admin_command", command="reload")

    daemon.send_signal(signal.SIGTERM)

    response = connection.getresponse()
    assert (response.status, response.read()) == (409, b"the daemon stops\n")
    connection.close()
    assert daemon.end() == 0


def test_second_reload_at_a_time_is_refused(net: Network) -> None:
    net.add("msul2")
    net.start()
    connection = UnixConnection(net.sockets / "lonc-admin")
    connection.request("POST", "/reload")
    net.wait_for("admin_command", command="reload")

    second = http(net, "/reload", "POST")

    assert (second.status, b"in progress" in second.body) == (409, True)
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"reloaded\n")
    connection.close()


def test_start_counts_as_a_reload() -> None:
    last = Reloads().last

    assert last.successful
    assert abs(last.at - time.time()) < 10
