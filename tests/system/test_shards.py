# SPDX-License-Identifier: GPL-2.0-or-later
"""Several processes that share one directory of sockets (`run --shard I/N`)."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING

import pytest
from harness import Process, sockets_in, wait_until

from lonc_gevent.configuration.shard import owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

HOSTS = ["msul1", "msul2", "nscll1", "s10"]
OF = 2


def logged(process: Process, event: str) -> list[dict[str, object]]:
    """Return the process's events of this name."""
    events = [json.loads(line) for line in tuple(process.lines)]
    return [e for e in events if e["event"] == event]


def await_events(process: Process, event: str, times: int = 1) -> None:
    """Wait until the process has logged the event so many times."""
    wait_until(lambda: len(logged(process, event)) >= times or not process.running, event)
    assert len(logged(process, event)) >= times, process.stderr


def run(net: Network, shard: str) -> Process:
    """Start one of several daemons."""
    return Process("lonc_gevent", "run", "--config", str(net.config), "--shard", shard)


@contextlib.contextmanager
def shards(net: Network) -> Iterator[list[Process]]:
    """Run all of them at once, until they are ready."""
    net.write()
    processes = [run(net, f"{number}/{OF}") for number in range(OF)]
    try:
        for process in processes:
            await_events(process, "ready")
        yield processes
    finally:
        for process in processes:
            process.close()


def test_each_host_is_served_by_one(net: Network) -> None:
    """All hosts answer, each by its own process; pid files have numbers; all stop cleanly."""
    net.tables["daemon"] = {"pid_file": "lonc.pid"}
    for host in HOSTS:
        net.add(host)
    assert {owner(host, OF) for host in HOSTS} == {0, 1}, "these ids should be spread"
    with shards(net) as processes:
        for host in HOSTS:
            assert net.ask(host, b"ping") == host.encode()
        for number, process in enumerate(processes):
            own = {host for host in HOSTS if owner(host, OF) == number}
            process.send_signal(signal.SIGUSR1)
            await_events(process, "status", len(own))
            assert {e["host"] for e in logged(process, "status")} == own
            assert {e["shard"] for e in logged(process, "status")} == {f"{number}/{OF}"}
            pid_file = net.directory / f"lonc.pid.{number}"
            assert pid_file.read_text() == f"{process.pid}\n"

        (net.sockets / f"{HOSTS[0]}.lock").touch()
        first, second = processes
        assert first.end() == 0
        left = sorted([*(h for h in HOSTS if owner(h, OF) == 1), "lonc-admin.1"])
        assert sockets_in(net.sockets) == left
        assert second.end() == 0


def test_a_restart_and_another_list_of_hosts(net: Network) -> None:
    """HUP and USR2 keep to the process's own hosts."""
    for host in HOSTS[:2]:
        net.add(host)
    with shards(net) as processes:
        for host in HOSTS[2:]:
            net.add(host)
        net.write()
        for process in processes:
            process.send_signal(signal.SIGUSR2)
            await_events(process, "hosts_reloaded")
        for host in HOSTS:
            assert net.ask(host, b"ping") == host.encode()
        for process in processes:
            process.send_signal(signal.SIGHUP)
            await_events(process, "ready", 2)
        for host in HOSTS:
            assert net.ask(host, b"ping") == host.encode()
        assert sum(int(str(logged(p, "ready")[-1]["hosts"])) for p in processes) == len(HOSTS)


@pytest.mark.parametrize("shard", [None, "0/2", "2/3"])
def test_shard_that_would_serve_a_host_twice_is_refused(net: Network, shard: str | None) -> None:
    """Exit 3: a daemon for all hosts, the same shard again, and a shard of another number."""
    net.add("msul2")
    with shards(net):
        arguments = ("--shard", shard) if shard else ()
        refused = net.command("run", *arguments)

        assert refused.returncode == 3
        (line,) = refused.stderr.decode().splitlines()
        assert str(net.sockets) in line


def test_a_shard_beside_a_daemon_for_all(net: Network) -> None:
    """Exit 3 as well, and the one that runs is not disturbed."""
    net.add("msul2")
    net.start()

    assert net.command("run", "--shard", "1/2").returncode == 3
    assert net.ask("msul2", b"ping") == b"msul2"


def test_another_number_after_all_have_stopped(net: Network) -> None:
    """What an earlier number of processes left does not stop the next ones."""
    net.add("msul2")
    with shards(net) as processes:
        for process in processes:
            process.kill()
    later = run(net, "0/1")
    try:
        await_events(later, "ready")
        assert net.ask("msul2", b"ping") == b"msul2"
        assert later.end() == 0
    finally:
        later.close()


@pytest.mark.parametrize("shard", ["2/2", "x", "0/0"])
def test_bad_usage(net: Network, shard: str) -> None:
    """Exit 2 with a line that says what was expected."""
    net.add("msul2", start=False)
    net.write()

    refused = net.command("run", "--shard", shard)

    assert refused.returncode == 2
    assert "shard" in refused.stderr.decode()
    assert "Traceback" not in refused.stderr.decode()
