# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon as a process: its start, its signals, its end, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, Client, sockets_in, wait_until
from unixhttp import host_status

if TYPE_CHECKING:
    from harness import Network


def test_it_stops_cleanly(net: Network) -> None:
    """TERM: exit 0, the last event is `stopped`, no socket and no pid file is left."""
    net.tables["daemon"] = {"pid_file": "lonc.pid"}
    net.add("msul2")
    daemon = net.start()
    assert (net.directory / "lonc.pid").read_text() == f"{daemon.pid}\n"

    assert daemon.end() == 0

    assert net.events[-1]["event"] == "stopped"
    assert not sockets_in(net.sockets)
    assert not (net.directory / "lonc.pid").exists()


def test_what_is_under_way_finishes_and_what_waits_gets_con_lost(net: Network) -> None:
    """INT: the request on a lond connection gets its reply, the queued one con_lost."""
    net.pool["max_connections"] = 1
    lond = net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as busy, net.client("msul2") as waiting:
        busy.send(b"delay:500:done\n")
        wait_until(lambda: lond.received, "the first one is under way")
        waiting.send(b"echo:queued\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "the second one waits")

        daemon.send_signal(signal.SIGINT)

        assert waiting.line() == b"con_lost\n"
        assert busy.line() == b"done\n"
        assert busy.at_end()
    assert daemon.end() == 0


def test_a_stop_has_an_end(net: Network) -> None:
    """A lond that never answers holds a stop for stop_timeout only."""
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.pool["reply_timeout"] = 1000.0
    lond = net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        client.send(b"fault:mute\n")
        wait_until(lambda: lond.received, "it is under way")

        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)

        assert client.line() == b"con_lost\n"
        assert daemon.end() == 0
        assert time.monotonic() - began < 0.5 + 1.0


def test_a_second_signal_stops_at_once(net: Network) -> None:
    """Who sends TERM twice does not want to wait."""
    net.tables["admin"] = {"stop_timeout": 1000.0}
    net.pool["reply_timeout"] = 1000.0
    lond = net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        client.send(b"fault:mute\n")
        wait_until(lambda: lond.received, "it is under way")
        daemon.send_signal(signal.SIGTERM)
        net.wait_for("stopping")

        daemon.send_signal(signal.SIGTERM)

        assert client.line() == b"con_lost\n"
        assert daemon.end() == 0


def test_a_stop_with_a_full_backlog(net: Network) -> None:
    """Clients that wait to be accepted at TERM are accepted, and get an answer."""
    net.add("msul2")
    daemon = net.start()
    daemon.send_signal(signal.SIGSTOP)
    clients = [net.client("msul2") for _ in range(300)]
    for client in clients:
        client.send(b"ping\n")
    daemon.send_signal(signal.SIGTERM)
    daemon.send_signal(signal.SIGCONT)

    assert daemon.process.wait(PATIENCE) == 0  # `end` would ask twice: at once, then
    for client in clients:
        assert client.line() in (b"msul2\n", b"con_lost\n")
        client.sock.close()


def test_a_stop_while_dialling_a_blackhole(net: Network) -> None:
    """A connection that is being made does not hold a stop."""
    net.pool["handshake_timeout"] = 1000.0
    net.add("msul2", "--fault", "mute-handshake")
    daemon = net.start()
    with net.client("msul2") as client:
        client.send(b"ping\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "it waits for the connection")

        began = time.monotonic()
        daemon.send_signal(signal.SIGTERM)

        assert client.line() == b"con_lost\n"
        assert daemon.end() == 0
        assert time.monotonic() - began < PATIENCE / 3


def test_clients_in_the_backlog_are_disconnected_at_a_stop(net: Network) -> None:
    """Each client that connected before the stop gets an answer."""
    net.add("msul2")
    daemon = net.start()
    daemon.send_signal(signal.SIGSTOP)
    clients = [net.client("msul2") for _ in range(20)]
    for client in clients:
        client.send(b"ping\n")
    daemon.send_signal(signal.SIGTERM)
    daemon.send_signal(signal.SIGCONT)

    for client in clients:
        assert client.line() in (b"con_lost\n", b"msul2\n")
        client.sock.close()
    assert daemon.end() == 0


def test_a_stop_amid_new_clients_has_an_end(net: Network) -> None:
    """Clients that connect in the very moment of the stop do not hold it.

    The signal is read in one turn of the loop and acted on in the next one; who connects between
    the two is accepted by the stop itself.
    """
    net.add("msul2")
    daemon = net.start()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), net.client("msul2") as client:
                client.send(b"ping\n")
                client.line()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: host_status(net, "msul2")["requests"] > 100, "they ask")
    try:
        assert daemon.end() == 0
    finally:
        over.set()
        daemon.kill()
        for thread in threads:
            thread.join()


def test_a_second_instance_is_refused(net: Network) -> None:
    """Exit 3 with one clear line, and the first instance is not disturbed."""
    net.add("msul2")
    first = net.start()

    second = net.command("run")

    assert second.returncode == 3
    (line,) = second.stderr.decode().splitlines()
    assert str(net.sockets) in line
    assert str(first.pid) in line
    assert net.ask("msul2", b"ping") == b"msul2"


def test_sockets_of_a_killed_daemon_are_replaced(net: Network) -> None:
    """What a killed daemon left does not stop the next one."""
    net.add("msul2")
    net.start().close()
    assert stat.S_ISSOCK((net.sockets / "msul2").stat().st_mode)
    (net.sockets / "msul2.lock").touch()

    net.start()

    assert net.ask("msul2", b"ping") == b"msul2"
    assert not (net.sockets / "msul2.lock").exists()


def test_socket_of_another_listening_process_is_not_replaced(net: Network) -> None:
    """Exit 3: another program's socket is not taken away from it."""
    net.add("msul2")
    net.sockets.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(net.sockets / "msul2"))
        other.listen()
        net.write()

        run = net.command("run")

        assert run.returncode == 3
        assert "msul2" in run.stderr.decode()
        assert (net.sockets / "msul2").exists()


def test_a_file_in_the_way_is_not_removed(net: Network) -> None:
    """Exit 2: what is no socket was put there by a person."""
    net.add("msul2")
    net.sockets.mkdir()
    (net.sockets / "msul2").write_text("mine")
    net.write()

    run = net.command("run")

    assert run.returncode == 2
    assert "msul2" in run.stderr.decode()
    assert (net.sockets / "msul2").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[network\n", "[network]\nhost_id = 5\n"])
def test_a_bad_configuration(net: Network, text: str) -> None:
    """Exit 2, each problem one line on stderr, nothing on stdout."""
    net.config.write_text(text)

    run = net.command("run")

    assert run.returncode == 2
    assert run.stdout == b""
    assert "Traceback" not in run.stderr.decode()
    assert all(line.startswith(str(net.config)) for line in run.stderr.decode().splitlines())
    assert run.stderr


def test_sockets_by_dns_name(net: Network) -> None:
    """With `name = "both"` a host can be reached by its id and by its dns name."""
    net.tables["sockets"] = {"name": "both"}
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"ping") == b"msul2"
    assert net.ask("localhost", b"ping") == b"msul2"


def test_a_status_event_for_each_host(net: Network) -> None:
    """USR1: one `status` event a host, with its state and its counts."""
    net.add("msul2")
    net.add("nscll1", start=False)
    daemon = net.start()
    net.ask("msul2", b"ping")
    net.ask("nscll1", b"ping")

    daemon.send_signal(signal.SIGUSR1)

    up = net.wait_for("status", host="msul2")
    down = net.wait_for("status", host="nscll1")
    assert (up["state"], up["requests"], up["con_lost"]) == ("up", 1, 0)
    assert (down["state"], down["requests"], down["con_lost"]) == ("down", 1, 1)


def test_usr1_opens_the_gates(net: Network) -> None:
    """Reconlonc of lonnet sends USR1 and expects that the host is tried again."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    lond = net.add("msul2", start=False)
    daemon = net.start()
    assert net.ask("msul2", b"ping") == b"con_lost"
    lond.start()
    assert net.ask("msul2", b"ping") == b"con_lost"

    daemon.send_signal(signal.SIGUSR1)

    net.wait_for("status", host="msul2")
    assert net.ask("msul2", b"ping") == b"msul2"


def test_the_process_title(net: Network) -> None:
    """The title tells how many hosts and connections there are, in the original's style."""
    net.add("msul2")
    daemon = net.start()

    def title() -> str:
        with open(f"/proc/{daemon.pid}/cmdline", "rb") as file:  # noqa: PTH123 - as ps reads it
            return file.read().decode()

    wait_until(lambda: title().startswith("lonc: 1 hosts, 1 connections"), "the title is set")


def test_every_line_on_stdout_is_an_event(net: Network) -> None:
    """One JSON object a line, keys in the order of the contract, nothing else on stdout."""
    net.add("msul2")
    net.add("nscll1", start=False)
    daemon = net.start()
    net.ask("msul2", b"ping")
    net.ask("nscll1", b"ping")
    daemon.end()

    for line in daemon.lines:
        event = json.loads(line)
        assert list(event)[:3] == ["timestamp", "level", "event"]
        assert len(line) <= 4096


def test_no_descriptors_left(net: Network) -> None:
    """With no descriptor left, accepting pauses and goes on; nothing spins and nothing ends."""
    net.pool["max_connections"] = 1
    net.add("msul2")
    daemon = net.start()
    assert net.ask("msul2", b"ping") == b"msul2"
    used = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))

    clients = [net.client("msul2") for _ in range(30)]
    net.wait_for("accept_paused")
    assert clients[0].ask(b"ping") == b"msul2"
    before = cpu_seconds(daemon.pid)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1.0, "a second has passed")
    assert cpu_seconds(daemon.pid) - before < 0.5, "it must not spin"

    for client in clients[:25]:
        client.sock.close()
    for client in clients[25:]:
        assert client.ask(b"ping") == b"msul2"
        client.sock.close()
    net.wait_for("accept_resumed")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - it is no file of ours
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_requests_are_answered_while_the_log_reader_is_frozen(net: Network) -> None:
    """A reader that stops reading stdout does not hold a single request; lines are counted."""
    net.tables["log"] = {"sample": 1}
    net.add("msul2")
    net.write()
    command = [sys.executable, "-m", "lonc_gevent", "run", "--config", str(net.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        assert daemon.stdout
        wait_until((net.sockets / "msul2").exists, "the socket is there")
        done = 0

        def ask_many() -> None:
            nonlocal done
            with Client(net.sockets / "msul2") as client:
                while done < 15_000:
                    assert client.ask(b"echo:x") == b"x"
                    done += 1

        thread = threading.Thread(target=ask_many)
        thread.start()
        thread.join(PATIENCE * 3)
        assert done == 15_000, "no line has been read meanwhile"

        daemon.send_signal(signal.SIGTERM)
        lines = daemon.stdout.read().splitlines()
        events = [json.loads(line) for line in lines]
        dropped = sum(e["dropped"] for e in events if e["event"] == "log_lines_dropped")
        assert dropped > 0
        assert sum(e["event"] == "transaction" for e in events) + dropped >= 15_000
        assert daemon.wait(PATIENCE) == 0


@pytest.mark.parametrize("replaced", [False, True])
def test_a_socket_file_that_is_gone_is_made_anew(net: Network, replaced: bool) -> None:
    """Within seconds, with an event; a client that was connected does not notice."""
    net.add("msul2")
    net.start()
    path = net.sockets / "msul2"
    with net.client("msul2") as client:
        path.unlink()
        if replaced:
            path.write_text("in the way")
        assert net.wait_for("socket_lost")["host"] == "msul2"
        if replaced:
            assert "msul2" in net.wait_for("socket_failed")["error"]
            path.unlink()
            net.wait_for("part_available")
        wait_until(path.is_socket, "it is there again")
        assert net.ask("msul2", b"ping") == b"msul2"
        assert client.ask(b"ping") == b"msul2"
