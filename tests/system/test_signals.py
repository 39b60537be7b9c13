# SPDX-License-Identifier: GPL-2.0-or-later
"""USR1, USR2 and QUIT, as clients and administrators see them."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certificates import Authority
from harness import Lond, free_port, sockets_in, wait_until
from unixhttp import host_status

if TYPE_CHECKING:
    from harness import Network


def usr2(net: Network) -> dict[str, Any]:
    """Write the configuration, have the daemon read it, and return what it says of it."""
    net.write()
    times = len(net.find("hosts_reloaded")) + 1
    assert net.daemon
    net.daemon.send_signal(signal.SIGUSR2)
    return net.wait_for("hosts_reloaded", times)


def another(net: Network, host: str) -> Lond:
    """Start another lond for a host, in another place."""
    folder = net.directory / "elsewhere"
    folder.mkdir(exist_ok=True)
    net.londs[f"other {host}"] = lond = Lond(host, folder).start()
    return lond


def counts(event: dict[str, Any]) -> tuple[int, int, int]:
    """Return how many hosts came, went, and are different."""
    return event["added"], event["removed"], event["changed"]


def test_nothing_new(net: Network) -> None:
    """The same hosts.tab: no connection, no client and no socket is touched."""
    net.add("msul2")
    net.start()
    net.wait_for("connection_made")
    inode = (net.sockets / "msul2").stat().st_ino
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"

        assert counts(usr2(net)) == (0, 0, 0)

        assert client.ask(b"ping") == b"msul2"
    assert (net.sockets / "msul2").stat().st_ino == inode
    assert not net.find("connection_closed")


def test_a_new_host(net: Network) -> None:
    """It gets a socket and connections; the others are left alone."""
    net.add("msul2")
    net.start()
    net.add("s10")

    assert counts(usr2(net)) == (1, 0, 0)

    net.wait_for("connection_made", host="s10")
    assert net.ask("s10", b"ping") == b"s10"
    assert net.ask("msul2", b"ping") == b"msul2"
    assert net.find("status", host="s10") == []
    assert host_status(net, "s10")["state"] == "up"
    assert not net.find("connection_closed")


def test_a_gone_host(net: Network) -> None:
    """Its socket goes; what is under way finishes, what waits gets con_lost, clients an end."""
    net.pool["max_connections"] = 1
    net.add("msul2")
    lond = net.add("nscll1")
    daemon = net.start()
    with (
        net.client("nscll1") as busy,
        net.client("nscll1") as waiting,
        net.client("nscll1") as idle,
    ):
        assert idle.ask(b"ping") == b"nscll1"
        busy.send(b"delay:700:done\n")
        wait_until(lambda: len(lond.received) > 1, "it is under way")
        waiting.send(b"echo:queued\n")
        wait_until(lambda: host_status(net, "nscll1")["queue"] == 1, "the second one waits")
        del net.hosts["nscll1"]

        assert counts(usr2(net)) == (0, 1, 0)

        assert waiting.line() == b"con_lost\n"
        assert not (net.sockets / "nscll1").exists()
        assert busy.line() == b"done\n"
        assert busy.at_end()
        idle.send(b"ping\n")
        assert idle.line() == b"con_lost\n"
        assert idle.at_end()
    net.wait_for("connection_closed", host="nscll1")
    assert net.ask("msul2", b"ping") == b"msul2"
    assert daemon.end() == 0


def test_a_gone_host_and_a_stop(net: Network) -> None:
    """What is under way for a host that is gone has its end, too, when the daemon stops."""
    net.tables["admin"]["stop_timeout"] = 0.5
    net.add("msul2")
    lond = net.add("nscll1")
    daemon = net.start()
    with net.client("nscll1") as busy:
        busy.send(b"fault:mute\n")
        wait_until(lambda: lond.received, "it is under way")
        del net.hosts["nscll1"]
        usr2(net)
        daemon.send_signal(signal.SIGTERM)
        assert busy.line() == b"con_lost\n"
    assert daemon.end() == 0
    assert net.find("stopped")[0]["con_lost"] == 1


def test_new_sockets_without_descriptors_are_opened_later(net: Network) -> None:
    net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        now = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (now + 3, limits[1]))
        names = [f"new{number}" for number in range(6)]
        for name in names:
            net.add(name, start=False)

        assert counts(usr2(net)) == (6, 0, 0)

        failed = {event["host"] for event in net.find("socket_failed")}
        assert failed
        assert client.ask(b"ping") == b"msul2"
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        for name in failed:
            net.wait_for("part_available", part=f"socket {name}")
        assert sockets_in(net.sockets) == ["lonc-admin", "msul2", *names]


def test_a_host_that_comes_back(net: Network) -> None:
    """Gone with one reload, there again with the next: it is served as any new one."""
    net.add("msul2")
    lond = net.add("nscll1")
    net.start()
    kept = net.hosts.pop("nscll1")
    usr2(net)
    net.hosts["nscll1"] = kept

    assert counts(usr2(net)) == (1, 0, 0)

    assert net.ask("nscll1", b"echo:again") == b"again"
    assert lond.received[-1] == b"echo:again"


def test_another_address_with_requests_waiting(net: Network) -> None:
    """The host's queue is kept and goes to the new place; what is under way ends in the old."""
    net.pool["max_connections"] = 1
    old = net.add("msul2")
    net.start()
    new = another(net, "msul2")
    with net.client("msul2") as busy, net.client("msul2") as waiting:
        busy.send(b"delay:700:from the old\n")
        wait_until(lambda: old.received, "it is under way")
        waiting.send(b"echo:from the new\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "the second one waits")
        net.hosts["msul2"]["port"] = new.port

        assert counts(usr2(net)) == (0, 0, 1)

        assert busy.line() == b"from the old\n"
        assert waiting.line() == b"from the new\n"
    assert new.received == [b"echo:from the new"]


def test_another_address_in_place_of_a_dead_one(net: Network) -> None:
    """The gate of the old place does not hold the new one up, nor does an attempt there."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    net.add("msul2", "--fault", "mute-handshake", handshake_timeout=1000.0)
    net.add("nscll1", start=False)
    net.start()
    assert net.ask("nscll1", b"ping") == b"con_lost"
    with net.client("msul2") as client:
        client.send(b"ping\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "it waits for the mute one")
        for host in ("msul2", "nscll1"):
            net.hosts[host]["port"] = another(net, host).port

        assert counts(usr2(net)) == (0, 0, 2)

        assert client.line() == b"msul2\n"
    wait_until(lambda: net.ask("nscll1", b"ping") == b"nscll1", "the other one, too")


def test_configuration_that_is_refused_changes_nothing(net: Network) -> None:
    net.add("msul2")
    net.start()
    net.hosts["new"] = {"address": "127.0.0.1", "port": free_port()}
    assert net.daemon
    net.write()
    good = net.config.read_text()
    net.config.write_text(good + "[pol]\n")
    net.daemon.send_signal(signal.SIGUSR2)
    refused = net.wait_for("reload_refused")
    assert refused["reload"] == "hosts"
    assert "[pool]" in refused["error"]

    assert not (net.sockets / "new").exists()
    assert net.ask("msul2", b"ping") == b"msul2"
    net.status("msul2")
    assert {e["host"] for e in net.find("status")} == {"msul2"}
    assert not net.find("hosts_reloaded")


def test_new_socket_that_cannot_be_opened_disables_its_own_host_only(net: Network) -> None:
    net.add("msul2")
    net.start()
    net.add("new")
    net.add("other")
    path = net.sockets / "other"
    path.write_text("mine")

    assert counts(usr2(net)) == (2, 0, 0)

    event = net.wait_for("socket_failed")
    assert (event["host"], str(path) in event["error"]) == ("other", True)
    assert path.read_text() == "mine"
    assert net.ask("new", b"ping") == b"new"
    assert net.ask("msul2", b"ping") == b"msul2"
    path.unlink()
    net.wait_for("part_available", part="socket other")
    assert net.ask("other", b"ping") == b"other"
    assert not net.find("reload_refused")


def test_a_dns_name_that_moves_to_another_host(net: Network) -> None:
    """With sockets named by dns name, a socket stays and serves whom it belongs to now."""
    net.tables["sockets"] = {"name": "dns"}
    net.add("msul2")
    net.start()
    assert net.ask("localhost", b"ping") == b"msul2"
    inode = (net.sockets / "localhost").stat().st_ino
    net.add("nscll1")
    del net.hosts["msul2"]

    assert counts(usr2(net)) == (1, 1, 0)

    assert net.ask("localhost", b"ping") == b"nscll1"
    assert (net.sockets / "localhost").stat().st_ino == inode


def test_the_text_report(net: Network) -> None:
    """USR1 writes a line a host: pid, host, status and last log, with tabs between them."""
    net.tables["daemon"] = {"report_file": "loncstatus.txt"}
    net.add("msul2")
    net.add("nscll1", start=False)
    net.pool |= {"retry_backoff_min": 60.0, "retry_backoff_max": 60.0}
    daemon = net.start()
    net.ask("msul2", b"ping")
    net.ask("nscll1", b"ping")
    report = net.directory / "loncstatus.txt"

    daemon.send_signal(signal.SIGUSR1)

    wait_until(report.exists, "the report is there")
    up, down = [line.split("\t") for line in report.read_text().splitlines()]
    assert up == [str(daemon.pid), "msul2", "Connection count: 1", "-"]
    assert down[:2] == [str(daemon.pid), "nscll1"]
    assert down[2] == "Connection count: 0 >>> DEAD !!!! <<< failed attempts: 1"
    assert down[3].startswith("unreachable: ")
    assert sorted(p.name for p in net.directory.glob("loncstatus*")) == ["loncstatus.txt"]


def test_many_usr1_are_merged_into_one_report_per_second(net: Network) -> None:
    """The last of them gets a report, too: it shows what happened before it."""
    net.add("msul2")
    daemon = net.start()
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        daemon.send_signal(signal.SIGUSR1)
    assert net.ask("msul2", b"ping") == b"msul2"
    assert host_status(net, "msul2")["requests"] == 1
    assert len(net.find("status")) <= 2 + (time.monotonic() - began)


def test_a_report_that_cannot_be_written(net: Network) -> None:
    """It is reported, and nothing else happens."""
    net.tables["daemon"] = {"report_file": "r/loncstatus.txt"}
    net.add("msul2")
    (net.directory / "r").mkdir()
    daemon = net.start()
    (net.directory / "r").rmdir()

    daemon.send_signal(signal.SIGUSR1)

    assert net.wait_for("report_failed")["error"] == os.strerror(2)
    assert net.ask("msul2", b"ping") == b"msul2"


def test_quit_shows_what_every_greenlet_does(net: Network) -> None:
    """QUIT: the stacks go to stderr, no request is in them, and the daemon goes on."""
    lond = net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        client.send(b"delay:500:secret\n")
        wait_until(lambda: lond.received, "it is under way")
        daemon.send_signal(signal.SIGQUIT)
        assert client.line() == b"secret\n"
        assert client.ask(b"ping") == b"msul2"
    assert daemon.end() == 0

    net.daemon = None
    text = daemon.stderr
    daemon.close()
    assert "lond_connection.py" in text
    assert "client_connection.py" in text
    assert "janitor.py" in text
    assert "secret" not in text


def test_other_certificates(net: Network) -> None:
    """Hosts that go over to ssl have its certificates; with other ones they get new sessions."""
    authority = Authority(net.directory)
    net.add("msul2", *authority.lond_options(authority.sign("lond")))
    net.start()
    net.wait_for("connection_made", security="insecure")

    net.hosts["msul2"]["security"] = "ssl-or-insecure"
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    assert counts(usr2(net)) == (0, 0, 1)
    assert net.ask("msul2", b"ping") == b"msul2"
    net.wait_for("connection_made", security="ssl")
    assert not net.find("session_not_encrypted")

    net.tables["network"] = authority.settings(authority.sign("renewed"))
    assert counts(usr2(net)) == (0, 0, 0)
    assert net.ask("msul2", b"ping") == b"msul2"
    net.wait_for("connection_made", 2, security="ssl")

    made = len(net.find("connection_made"))
    assert counts(usr2(net)) == (0, 0, 0)
    assert net.ask("msul2", b"ping") == b"msul2"
    assert len(net.find("connection_made")) == made
