# SPDX-License-Identifier: GPL-2.0-or-later
"""Access to the Unix sockets: permitted users, limits, and events about refused clients."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness import Client, wait_until
from users import WEB

from lonc_gevent.configuration.settings import Sockets
from lonc_gevent.frontend import access_control
from lonc_gevent.frontend.access_control import AccessControl, Peer, peer_of

if TYPE_CHECKING:
    from harness import Network

OTHER = 4321
"""An unused uid and gid."""


class Events:
    """Notes what is logged."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Note a warning."""
        self.seen.append({"event": event, **fields})


def admitted(events: Events | None = None, times: int = 1, **settings: Any) -> list[int | None]:
    """Request admission so many times under these settings; return the results."""
    access = AccessControl(Sockets(**settings), events or Events())  # type: ignore[arg-type]
    one, two = socket.socketpair()
    with one, two:
        return [access.admit(one.fileno(), "msul2") for _ in range(times)]


def test_peer_is_the_process_that_connected() -> None:
    """The descriptor is still usable afterwards."""
    one, two = socket.socketpair()
    with one, two:
        assert peer_of(one.fileno()) == (os.getpid(), os.geteuid(), os.getegid())
        one.send(b"still there")
        assert two.recv(20) == b"still there"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"allow_uids": (WEB,)}, True),
        ({"allow_uids": ("nobody", WEB)}, True),
        ({"allow_gids": (WEB,)}, True),
        ({"allow_uids": (OTHER,), "allow_gids": (WEB,)}, True),
        ({"allow_uids": (WEB,), "allow_gids": (OTHER,)}, True),
        ({"allow_uids": ("no-such-user",)}, False),
        ({"allow_uids": ("root",)}, False),
        ({"allow_uids": (OTHER,)}, False),
        ({"allow_gids": (OTHER,)}, False),
        ({"allow_uids": (OTHER,), "allow_gids": (OTHER,)}, False),
    ],
)
def test_the_lists(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: bool
) -> None:
    """A client is admitted if its uid or its gid is in a list."""
    monkeypatch.setattr(access_control, "peer_of", lambda _fd: Peer(7, WEB, WEB))
    assert (admitted(**settings) != [None]) is expected


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_the_user_of_the_daemon_are_always_admitted(
    monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """An administrator can send requests, whatever the lists are."""
    monkeypatch.setattr(access_control, "peer_of", lambda _fd: Peer(7, uid, WEB))
    assert admitted(allow_uids=(OTHER,)) == [uid]


def test_access_is_open_without_limits_and_lists() -> None:
    """One limit or list is enough to require `admit`."""
    assert AccessControl(Sockets(), Events()).is_open  # type: ignore[arg-type]
    for settings in ({"max_clients": 1}, {"allow_gids": (1,)}, {"max_clients_per_uid": 1}):
        assert not AccessControl(Sockets(**settings), Events()).is_open  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["max_clients", "max_clients_per_uid"])
def test_one_too_many(key: str) -> None:
    """A limit counts the clients connected now: after `release` another one is admitted."""
    events = Events()
    access = AccessControl(Sockets(**{key: 2}), events)  # type: ignore[arg-type]
    one, two = socket.socketpair()
    with one, two:
        uid = access.admit(one.fileno(), "msul2")
        assert uid == os.geteuid()
        assert access.admit(one.fileno(), "msul2") == uid
        assert repr(access) == "<AccessControl 2 clients>"
        assert access.admit(one.fileno(), "msul2") is None
        assert two.recv(20) == b"con_lost\n"
        access.release(uid)
        assert access.admit(one.fileno(), "msul2") == uid
    assert access.denied == 1
    assert [event["error"] for event in events.seen] == [key]


def test_the_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that are denied one is logged, with the pid and uid; all are counted."""
    monkeypatch.setattr(access_control, "peer_of", lambda _fd: Peer(7, WEB, WEB))
    events = Events()
    admitted(events, times=1000, allow_uids=(OTHER,))

    assert len(events.seen) == 1
    assert events.seen[0]["client_pid"] == 7
    assert events.seen[0]["client_uid"] == WEB


def test_one_runaway_process(net: Network) -> None:
    """Clients over the limit get con_lost; those inside go on; who leaves makes room."""
    net.add("msul2")
    net.tables["sockets"] = {"max_clients_per_uid": 3}
    net.start()
    inside = [net.client("msul2") for _ in range(3)]
    for client in inside:
        assert client.ask(b"echo:in") == b"in"

    for _ in range(20):
        with net.client("msul2") as client:
            assert client.line() == b"con_lost\n"
            assert client.at_end()
    denied = net.wait_for("client_denied", error="max_clients_per_uid")
    assert denied["client_pid"] == os.getpid()
    assert len(net.find("client_denied")) == 1

    for client in inside:
        assert client.ask(b"echo:still") == b"still"
    inside.pop().sock.close()
    # The daemon hears of the end a moment later.
    wait_until(lambda: answers(net), "there is room for another")
    for client in inside:
        client.sock.close()


def answers(net: Network) -> bool:
    """Tell whether a new client is let in."""
    client = Client(net.sockets / "msul2")
    with client:
        try:
            client.send(b"echo:in\n")
        except BrokenPipeError:
            return False
        return client.line() == b"in\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_client_of_another_user_is_served_at_the_limit_of_one(net: Network) -> None:
    """What one user id holds is not taken from another."""
    net.add("msul2")
    net.tables["sockets"] = {"max_clients_per_uid": 1, "mode": "0666"}
    net.directory.chmod(0o755)
    net.start()
    ask = (
        "import os, socket, sys\n"
        f"os.setgid({OTHER}); os.setuid({OTHER})\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'ping\\n'); print(s.recv(100).decode(), end='')\n"
    )
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        path = str(net.sockets / "msul2")
        done = subprocess.run(
            [sys.executable, "-c", ask, path], capture_output=True, text=True, check=True
        )
    assert done.stdout == "msul2\n"


@pytest.mark.parametrize("allowed", [False, True])
def test_core_files(net: Network, allowed: bool) -> None:
    """The kernel may write no core file of the daemon, unless that was asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    net.add("msul2", start=False)
    net.tables["daemon"] = {"core_dumps": allowed}
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        daemon = net.start()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))

    limits = Path(f"/proc/{daemon.pid}/limits").read_text().splitlines()
    core = next(line.split() for line in limits if line.startswith("Max core file size"))
    if hard != 0:
        assert (core[4] == "0") is not allowed
