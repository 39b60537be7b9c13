# SPDX-License-Identifier: GPL-2.0-or-later
"""HUP: the restart in place, as clients and a supervisor see it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, Client, sockets_in, wait_until
from unixhttp import host_status, http

import lonc_gevent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Lond, Network


@contextlib.contextmanager
def frozen(lond: Lond) -> Iterator[None]:
    """Stop a lond's process for as long as this lasts."""
    assert lond.process
    lond.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        lond.process.send_signal(signal.SIGCONT)


def under_way(net: Network, client: Client, request: bytes) -> None:
    """Send a request to a frozen lond, and wait until the daemon has put it on a connection."""
    client.send(request)
    wait_until(lambda: host_status(net, "msul2")["busy"] == 1, "it is under way")


def hup(net: Network, times: int = 1) -> None:
    """Restart the daemon in place, and wait until it is ready again."""
    for _ in range(times):
        ready = len(net.find("ready")) + 1
        assert net.daemon
        net.daemon.send_signal(signal.SIGHUP)
        net.wait_for("ready", ready)


def descriptors(pid: int) -> list[str]:
    """Return what the process's descriptors are, for comparison."""
    kinds = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kinds.append(str(path.readlink()).partition(":")[0])
        except FileNotFoundError:
            continue
    return sorted(kinds)


def at_rest(pid: int, seconds: float = 0.3) -> Counter[str]:
    """Return what the process's descriptors are, once they have stayed the same for so long."""
    last = descriptors(pid)
    since = time.monotonic()

    def stays() -> bool:
        nonlocal last, since
        now = descriptors(pid)
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= seconds

    wait_until(stays, "descriptors that stay the same")
    return Counter(last)


def test_the_same_process_goes_on(net: Network) -> None:
    """Same pid, same sockets, same pid file; a new start in the log; requests are answered."""
    net.tables["daemon"] = {"pid_file": "lonc.pid"}
    net.add("msul2")
    daemon = net.start()
    inode = (net.sockets / "msul2").stat().st_ino

    hup(net)

    assert net.ask("msul2", b"ping") == b"msul2"
    assert [e["pid"] for e in net.find("ready")] == [daemon.pid] * 2
    assert (net.sockets / "msul2").stat().st_ino == inode
    assert (net.directory / "lonc.pid").read_text() == f"{daemon.pid}\n"
    assert daemon.end() == 0
    assert not sockets_in(net.sockets)


def test_no_descriptor_is_left_over(net: Network) -> None:
    """After many restarts the process holds what it held after the first."""
    net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        client.ask(b"ping")
        hup(net)
        client.ask(b"ping")
        before = at_rest(daemon.pid)

        hup(net, 4)
        client.ask(b"ping")

        assert at_rest(daemon.pid) - before == Counter()


def test_the_new_configuration_holds(net: Network) -> None:
    """After the restart there are other hosts; a gone one has no socket, its client an end."""
    net.add("msul2")
    net.add("nscll1")
    net.start()
    with net.client("nscll1") as gone, net.client("msul2") as kept:
        assert gone.ask(b"ping") == b"nscll1"
        gone.send(b"half a req")
        assert kept.ask(b"ping") == b"msul2"
        del net.hosts["nscll1"]
        net.add("s10")
        net.write()

        hup(net)

        assert gone.line() == b"con_lost\n"
        assert gone.at_end()
        assert kept.ask(b"ping") == b"msul2"
    assert net.ask("s10", b"ping") == b"s10"
    assert not (net.sockets / "nscll1").exists()


def test_another_socket_directory(net: Network) -> None:
    """The sockets move with the configuration, and nothing is left in the old place."""
    net.add("msul2")
    net.start()
    old = net.sockets
    net.tables["sockets"] = {"directory": "t"}
    net.write()

    hup(net)

    assert not sockets_in(old)
    with Client(net.directory / "t" / "msul2") as client:
        assert client.ask(b"ping") == b"msul2"


def test_removed_socket_is_made_again_at_a_restart(net: Network) -> None:
    """A restart puts it there again, as the old one is nowhere to be found."""
    net.add("msul2")
    net.start()
    (net.sockets / "msul2").unlink()

    hup(net)

    assert net.ask("msul2", b"ping") == b"msul2"


def test_a_socket_that_is_not_to_be_had(net: Network) -> None:
    """It costs its own host only: the others are served on, and the event says why."""
    net.add("msul2")
    net.add("nscll1")
    daemon = net.start()
    (net.sockets / "nscll1").unlink()
    (net.sockets / "nscll1").write_text("mine")

    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        hup(net)
        assert client.ask(b"ping") == b"msul2"

    assert "nscll1" in net.wait_for("socket_failed", host="nscll1")["error"]
    assert (net.sockets / "nscll1").read_text() == "mine"
    assert daemon.end() == 0


def test_a_kept_open_client_sees_nothing(net: Network) -> None:
    """An idle client, one with half a request and one with several go on as if nothing were."""
    net.add("msul2")
    net.start()
    with net.client("msul2") as idle, net.client("msul2") as half, net.client("msul2") as many:
        assert idle.ask(b"ping") == b"msul2"
        assert half.ask(b"echo:" + b"y" * 100_000) == b"y" * 100_000
        half.send(b"echo:hal" + b"x" * 300_000)
        assert many.ask(b"echo:0") == b"0"
        many.send(b"delay:300:1\necho:2\necho:3\necho:")

        hup(net)

        assert idle.ask(b"ping") == b"msul2"
        half.send(b"f\n")
        assert half.line() == b"hal" + b"x" * 300_000 + b"f\n"
        many.send(b"4\n")
        assert [many.line() for _ in range(4)] == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_client_that_connects_during_a_restart_is_served_after_it(net: Network) -> None:
    """While the new program starts, new clients wait in the backlog."""
    net.add("msul2")
    daemon = net.start()
    daemon.send_signal(signal.SIGHUP)
    net.wait_for("handing_over")
    clients = [net.client("msul2") for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(b"echo:%d\n" % number)
    assert [client.line() for client in clients] == [b"%d\n" % n for n in range(100)]
    for client in clients:
        client.sock.close()


def test_a_configuration_that_does_not_pass(net: Network) -> None:
    """Nothing changes, and `reload_refused` says what is wrong, line by line."""
    net.add("msul2")
    net.start()
    text = net.config.read_text()
    net.config.write_text(text + "\n[pool2]\n[sockets2]\n")
    assert net.daemon

    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        net.daemon.send_signal(signal.SIGHUP)
        refused = net.wait_for("reload_refused")
        assert client.ask(b"ping") == b"msul2"

    assert refused["reload"] == "restart"
    assert any("pool2" in line for line in refused["problems"])
    assert any("sockets2" in line for line in refused["problems"])
    assert len(net.find("starting")) == 1
    net.config.write_text(text)
    hup(net)


def test_code_that_does_not_start(net: Network) -> None:
    """A program that is broken on disk does not replace the one that runs."""
    net.add("msul2")
    code = net.directory / "code"
    shutil.copytree(Path(lonc_gevent.__file__).parent, code / "lonc_gevent")
    net.start(env={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"})
    with (code / "lonc_gevent" / "daemon" / "life_cycle.py").open("a") as file:
        file.write("raise RuntimeError('half an update')\n")

    assert net.daemon
    net.daemon.send_signal(signal.SIGHUP)

    refused = net.wait_for("reload_refused")
    assert refused["error"] == "RuntimeError: half an update"
    assert net.ask("msul2", b"ping") == b"msul2"


def test_an_exec_that_fails(net: Network) -> None:
    """The old program goes on, with its clients and with the request that is at lond."""
    net.pool["reply_timeout"] = 60.0
    lond = net.add("msul2")
    daemon = net.start()
    net.wait_for("connection_made")
    endless = resource.RLIM_INFINITY
    with net.client("msul2") as idle, net.client("msul2") as busy, net.client("msul2") as half:
        assert idle.ask(b"ping") == b"msul2"
        half.send(b"echo:" + b"x" * 600_000)
        with frozen(lond):
            under_way(net, busy, b"echo:done\n")
            # Enough for the rehearsal's files in memory, and not for the handover.
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (500_000, endless))
            daemon.send_signal(signal.SIGHUP)
            failed = net.wait_for("restart_failed")
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (endless, endless))

        assert failed["error"] == "File too large"
        assert busy.line() == b"done\n"
        assert busy.ask(b"ping") == b"msul2"
        assert idle.ask(b"ping") == b"msul2"
        half.send(b"\n")
        assert half.line() == b"x" * 600_000 + b"\n"
    assert net.ask("msul2", b"ping") == b"msul2"
    hup(net)
    assert net.ask("msul2", b"ping") == b"msul2"


def test_signals_in_quick_succession(net: Network) -> None:
    """HUPs at any moment, the exec's own included, neither end the process nor are refused."""
    net.add("msul2")
    daemon = net.start()
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        daemon.send_signal(signal.SIGHUP)
        daemon.send_signal(signal.SIGUSR1)
        time.sleep(0.002)
    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "it answers")
    assert len(net.find("ready")) > 1

    assert daemon.end() == 0
    assert not net.find("reload_refused")


def test_no_second_instance_gets_in(net: Network) -> None:
    """The lock is held over the restart: there is no moment in which it could be taken."""
    net.add("msul2")
    net.start()
    done = threading.Event()
    tries: list[bool] = []

    def try_on(path: Path) -> None:
        with path.open() as file:
            while not done.wait(0.001):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    tries.append(True)
                    return
                tries.append(False)

    thread = threading.Thread(target=try_on, args=(net.sockets / ".lonc.lock",))
    thread.start()
    hup(net, 2)
    done.set()
    thread.join(PATIENCE)
    assert len(tries) > 10
    assert not any(tries)


def test_no_descriptor_is_left_to_child_processes(net: Network) -> None:
    """What was handed over is closed in whatever the new program starts."""
    net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        hup(net)
        assert client.ask(b"ping") == b"msul2"

        for path in Path(f"/proc/{daemon.pid}/fdinfo").iterdir():
            flags = int(path.read_text().split("flags:")[1].split()[0], 8)
            assert int(path.name) <= 2 or flags & os.O_CLOEXEC, path.name


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified(net: Network, *, abstract: bool) -> None:
    """READY at the start, RELOADING and READY at a restart, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"\0lonc-{os.getpid()}" if abstract else str(net.directory / "notify")
        manager.bind(name)
        manager.settimeout(PATIENCE)
        net.add("msul2")
        daemon = net.start(env={"NOTIFY_SOCKET": name.replace("\0", "@")})
        assert manager.recv(1000).startswith(b"READY=1\n")

        hup(net)

        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000).startswith(b"READY=1\n")
        daemon.end()
        assert manager.recv(1000) == b"STOPPING=1"


def test_a_paused_host_stays_paused(net: Network) -> None:
    """A request that waits for its resume waits on after the restart, and is sent then."""
    net.pool["queue_timeout"] = 60.0
    lond = net.add("msul2")
    net.start()
    assert net.ask("msul2", b"ping") == b"msul2"
    assert http(net, "/hosts/msul2/pause", "POST").status == 200
    with net.client("msul2") as waiting:
        waiting.send(b"echo:held back\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "it waits")
        hup(net)
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "it waits again")
        assert host_status(net, "msul2")["state"] == "paused"
        assert lond.received == [b"ping"]
        assert http(net, "/hosts/msul2/resume", "POST").status == 200
        assert waiting.line() == b"held back\n"


def test_queued_requests_do_not_hold_a_restart_up(net: Network) -> None:
    """The next program sends them; only what lond has got already is waited for."""
    net.pool |= {"max_connections": 1}
    net.tables["admin"] = {"stop_timeout": 10.0}
    lond = net.add("msul2")
    net.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(net.client("msul2")) for _ in range(6)]
        clients[0].send(b"delay:1000:first\n")
        wait_until(lambda: lond.received, "lond has the first one")
        for number, client in enumerate(clients[1:]):
            client.send(b"echo:%d\n" % number)
        wait_until(lambda: host_status(net, "msul2")["queue"] == 5, "the others wait")
        hup(net)
        assert clients[0].line() == b"first\n"
        assert sorted(client.line() for client in clients[1:]) == [b"%d\n" % n for n in range(5)]
    assert net.find("handing_over")[0]["con_lost"] == 0
    assert sorted(lond.received[1:]) == [b"echo:%d" % number for number in range(5)]
