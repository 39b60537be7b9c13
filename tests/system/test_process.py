# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon in the surroundings that other programs may give it: descriptors, umask, limits."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, Client, readable, wait_until
from unixhttp import http
from users import only_root

from lonc_gevent.configuration.files import load
from lonc_gevent.daemon.process_limits import max_clients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

USER = 65533
"""A user id that owns no process here, as a limit of processes counts all that a user has."""


THREADS = 4
"""Threads that this user may have: main, log writer, watchdog, and one more."""


class Daemons:
    """Starts daemons through a shell, and leaves none behind."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self, net: Network, script: str, *, umask: int = -1, config: str = ""
    ) -> subprocess.Popen[bytes]:
        """Run a shell script in which "$@" is the command line; stdout goes to the file `log`."""
        net.write()
        command = [sys.executable, "-m", "lonc_gevent", "run", "--config", config or net.config]
        with (
            (net.directory / "log").open("ab") as log,
            (net.directory / "errors").open("ab") as err,
        ):
            process = subprocess.Popen(
                ["/bin/sh", "-c", script, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=err,
                umask=umask,
            )
        self.started.append(process)
        return process

    def close(self) -> None:
        """Kill those that still run."""
        for process in self.started:
            process.kill()
            process.wait(PATIENCE)


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    """Start daemons through a shell."""
    made = Daemons()
    yield made
    made.close()


def count(net: Network, event: str) -> int:
    """Return how often the daemon has logged an event to the file `log`."""
    lines = (net.directory / "log").read_text().splitlines()
    return sum(json.loads(line)["event"] == event for line in lines)


def answers(net: Network) -> bool:
    """Return whether the daemon answers."""
    try:
        return net.ask("msul2", b"ping") == b"msul2"
    except OSError:
        return False


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_those_of_dev_null(
    net: Network, daemons: Daemons, closed: str
) -> None:
    net.add("msul2")
    daemon = daemons.start(net, f'exec "$@" {closed}')
    wait_until(lambda: answers(net), "the daemon serves")
    names = [Path(f"/proc/{daemon.pid}/fd/{number}").readlink() for number in range(3)]

    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        assert http(net, "/reload", "POST").status == 200
        assert client.ask(b"ping") == b"msul2"

    assert [Path(f"/proc/{daemon.pid}/fd/{number}").readlink() for number in range(3)] == names
    for text, name in zip(("<", " >", "2>"), names, strict=True):
        assert (name == Path(os.devnull)) == (text in f" {closed}" or text == "<"), names
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE) == 0


@pytest.mark.parametrize("umask", [0, 0o777])
def test_umask_neither_opens_nor_closes_files(net: Network, daemons: Daemons, umask: int) -> None:
    net.tables["daemon"] = {"pid_file": "pid", "report_file": "report"}
    net.add("msul2")
    daemon = daemons.start(net, 'exec "$@"', umask=umask)
    wait_until(lambda: answers(net), "the daemon serves")
    daemon.send_signal(signal.SIGUSR1)
    wait_until((net.directory / "report").exists, "the report is written")

    made = [net.sockets, *net.sockets.iterdir(), net.directory / "pid", net.directory / "report"]
    for path in made:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert mode & stat.S_IRWXU == stat.S_IRWXU, path
        assert mode & stat.S_IRUSR, path
        assert not mode & stat.S_IWOTH, path
    assert {path.name for path in made} >= {"msul2", "lonc-admin", "delayed", ".lonc.lock", "pid"}


def test_fifo_as_lock_file_is_an_error_of_the_configuration(net: Network) -> None:
    net.add("msul2", start=False)
    net.sockets.mkdir()
    os.mkfifo(net.sockets / ".lonc.lock")

    daemon = net.start(ready=False)

    assert daemon.process.wait(PATIENCE) == 2
    assert daemon.stderr == f"{net.sockets}/.lonc.lock: not a regular file; remove it\n"
    daemon.close()
    net.daemon = None


def test_working_directory_that_is_gone_does_no_harm(net: Network, daemons: Daemons) -> None:
    net.add("msul2")
    gone = net.directory / "gone"
    gone.mkdir()

    daemon = daemons.start(net, f'cd {gone}; rmdir {gone}; exec "$@"')

    wait_until(lambda: answers(net), "the daemon serves")
    assert http(net, "/reload", "POST").status == 200
    assert answers(net)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE) == 0


def test_relative_configuration_in_a_working_directory_that_is_gone_is_refused(
    net: Network, daemons: Daemons
) -> None:
    net.add("msul2", start=False)
    gone = net.directory / "gone"
    gone.mkdir()

    daemon = daemons.start(net, f'cd {gone}; rmdir {gone}; exec "$@"', config="lonc.toml")

    assert daemon.wait(PATIENCE) == 2
    errors = (net.directory / "errors").read_text().splitlines()
    assert "lonc.toml: does not exist" in errors[-1]
    assert not [line for line in errors if "Traceback" in line]


def test_idle_clients_leave_descriptors_for_everything_else(net: Network, daemons: Daemons) -> None:
    """`max_clients` is computed from the limit of descriptors, here 400."""
    net.add("msul2")
    net.add("msul3")
    daemon = daemons.start(net, 'ulimit -n 400; exec "$@"')
    wait_until(lambda: answers(net), "the daemon serves")
    net.londs["msul2"].kill()  # the connection to it must be made again
    net.londs["msul2"].start()
    clients: list[Client] = []
    most = 400 - 2 - 2 * 5 - 128
    while len(clients) < most:
        clients.append(net.client("msul3"))
    wait_until(lambda: http(net, "/status").json["clients"] == most, "all are accepted")

    for _ in range(3):
        with net.client("msul2") as client:
            assert client.line() == b"con_lost\n"

    assert clients[0].ask(b"ping") == b"msul3"
    assert http(net, "/reload", "POST").status == 200
    assert len(net.command("status", "--json").stdout) > 0
    for client in clients[:-1]:
        client.sock.close()
    wait_until(lambda: answers(net), "there is room again")
    assert clients[-1].ask(b"ping") == b"msul3"
    clients[-1].sock.close()
    assert (count(net, "client_denied"), count(net, "accept_paused")) == (1, 0)
    assert daemon.poll() is None


@pytest.mark.parametrize("limit", [0, 100, 1024, 1 << 20])
def test_half_of_the_descriptors_at_least_are_for_clients(net: Network, limit: int) -> None:
    net.add("msul2", start=False)
    net.write()
    assert max_clients(load(net.config), limit) >= limit // 2


@only_root
def test_daemon_that_can_start_no_thread_serves_and_shows_its_stacks(
    net: Network, daemons: Daemons
) -> None:
    """HUP is refused, as it needs a process; nothing loops."""
    net.tables["network"] = {"watch_files": False}
    net.add("msul2")
    net.directory.chmod(0o777)
    user = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
    script = f'exec prlimit --nproc={THREADS}:{THREADS} {user} "$@"'
    daemon = daemons.start(net, script)
    wait_until(lambda: answers(net) or daemon.poll() is not None, "the daemon serves")
    if daemon.poll() is not None:
        pytest.skip("another user cannot run this Python")

    daemon.send_signal(signal.SIGQUIT)
    wait_until(lambda: "janitor.py" in (net.directory / "errors").read_text(), "stacks")
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: count(net, "reload_refused") == 1, "HUP is refused")
    daemon.send_signal(signal.SIGUSR2)
    wait_until(lambda: count(net, "reload_refused") + count(net, "hosts_reloaded") == 2, "USR2")

    assert answers(net)
    assert len((net.directory / "log").read_text().splitlines()) < 30


def test_stacks_wait_for_a_slow_reader_of_stderr_and_nothing_else_does(net: Network) -> None:
    net.add("msul2")
    net.write()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    full = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            full += os.write(writer, bytes(select.PIPE_BUF))
    os.set_blocking(writer, True)  # as the daemon finds it
    command = [sys.executable, "-m", "lonc_gevent", "run", "--config", str(net.config)]
    daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    try:
        wait_until(lambda: answers(net), "the daemon serves")
        daemon.send_signal(signal.SIGQUIT)
        daemon.send_signal(signal.SIGUSR2)  # it is run after QUIT
        assert [net.ask("msul2", b"ping") for _ in range(10)] == [b"msul2"] * 10

        stacks = b""
        while b"janitor.py" not in stacks:
            assert readable(reader, PATIENCE), stacks[full:]
            stacks += os.read(reader, 1 << 16)
        assert answers(net)
    finally:
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0
        os.close(reader)
