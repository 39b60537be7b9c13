# SPDX-License-Identifier: GPL-2.0-or-later
"""The real daemon on bad days of names, threads and networks."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness import Lond

if TYPE_CHECKING:
    from harness import Network

ADDRESS = "127.0.0.1"
DEAD = 60
"""Hosts whose look-ups never end; gevent's own pool has ten threads."""


def run(net: Network, names: str, *dead: str) -> None:
    """Start the daemon; its hosts have names of their own, and `names` are those that resolve."""
    net.write()
    tab = "".join(f"{host}:dom:library:{host}.test\n" for host in net.hosts)
    tab += "".join(f"{host}:dom:library:{host}.dead\n" for host in dead)
    (net.directory / "hosts.tab").write_text(tab)
    table = net.directory / "names"
    table.write_text(names)
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    net.run(env=env, program=("names_daemon", str(table)))


def test_dead_name_server_delays_neither_other_hosts_nor_signals(net: Network) -> None:
    """A host whose name is known gets each of its connections, and the daemon obeys, at once."""
    net.add("msul2", idle_timeout=0.1)
    del net.hosts["msul2"]["address"]
    dead = [f"h{number}" for number in range(DEAD)]
    run(net, f"msul2.test {ADDRESS}\n", *dead)
    clients = [net.client(host) for host in dead]
    for client in clients:
        client.send(b"ping\n")

    for times in range(1, 4):
        began = time.monotonic()
        assert net.ask("msul2", b"ping") == b"msul2"
        assert time.monotonic() - began < 2.0
        net.wait_for("connection_closed", times, host="msul2")
    assert net.daemon
    for number, event in ((signal.SIGUSR2, "hosts_reloaded"), (signal.SIGUSR1, "status")):
        began = time.monotonic()
        net.daemon.send_signal(number)
        net.wait_for(event)
        assert time.monotonic() - began < 3.0
    assert net.daemon.end(timeout=5.0) == 0
    for client in clients:
        client.sock.close()


def test_host_without_a_thread_to_look_it_up_is_down(net: Network) -> None:
    """It is answered con_lost and tried again with growing delays."""
    net.add("msul2")
    del net.hosts["msul2"]["address"]
    run(net, "")

    assert net.ask("msul2", b"ping") == b"con_lost"
    failed = net.wait_for("connection_failed", host="msul2")
    assert failed["error"] == "unresolvable"
    assert "thread" in failed["detail"]
    assert len(net.events) < 50


def test_reply_timeout_beyond_what_the_kernel_takes_works(net: Network) -> None:
    """It is no number of the kernel's; what is one has limits of its own."""
    net.add("msul2", reply_timeout=1e7)
    net.start()

    assert net.ask("msul2", b"ping") == b"msul2"
    assert not net.find("connection_failed")


ANSWERS = {b"init\n": b"1234\n", b"1234\n": b"ok\n", b"ekey\n": b"5A0\n"}


@pytest.mark.parametrize("reload", [True, False])
def test_connections_follow_a_name_that_has_moved(net: Network, reload: bool) -> None:
    """Idle ones are closed at once after USR2, or within resolve_interval, and requests move."""
    old = net.add("msul2", "--host", "127.0.0.2", "--id", "old")
    new = Lond("msul2", net.directory, "--host", "127.0.0.3", "--id", "new", port=old.port).start()
    del net.hosts["msul2"]["address"]
    net.hosts["msul2"]["negotiation"] = "legacy"
    net.tables["network"] = {"resolve_interval": 60.0 if reload else 0.5}
    run(net, "msul2.test 127.0.0.2\n")
    assert net.ask("msul2", b"echo:x") == b"x"
    assert old.received.count(b"echo:x") == 1
    (net.directory / "names").write_text("msul2.test 127.0.0.3\n")

    assert net.daemon
    if reload:
        net.daemon.send_signal(signal.SIGUSR2)
    net.wait_for("host_moved", host="msul2", connections=1)
    net.wait_for("connection_closed", host="msul2")
    net.londs["new"] = new
    old.kill()
    assert net.ask("msul2", b"echo:y") == b"y"


class SilentLond:
    """A lond whose machine vanishes on demand: no packet reaches it any more."""

    def __init__(self) -> None:
        self._listener = socket.create_server((ADDRESS, 0))
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(ANSWERS.get(line, line))

    def vanish(self) -> None:
        """Drop all that arrives, acknowledgements of the kernel included."""
        instruction = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # ret 0
        program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(instruction))
        for connection in self._connections:
            connection.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER

    def close(self) -> None:
        """Close all sockets."""
        for sock in (self._listener, *self._connections):
            with sock:
                pass


def test_lond_that_vanished_is_noticed_long_before_reply_timeout(net: Network) -> None:
    """A request that is not even acknowledged is lost after unacknowledged_timeout."""
    lond = SilentLond()
    net.hosts["msul2"] = {"address": ADDRESS, "port": lond.port, "negotiation": "legacy"}
    net.pool |= {"unacknowledged_timeout": 1.0, "reply_timeout": 60.0}
    net.start()

    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"ping"
        lond.vanish()
        began = time.monotonic()
        assert client.ask(b"ping") == b"con_lost"
        assert time.monotonic() - began < 10.0
    net.wait_for("reply_lost", host="msul2")
    lond.close()
