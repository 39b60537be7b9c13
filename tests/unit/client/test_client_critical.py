# SPDX-License-Identifier: GPL-2.0-or-later
"""`critical`: answered, or on disk, or a failure that says so (protocol.md, section 2)."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE

from lonc_gevent import client
from lonc_gevent.client import CON_DELAYED, CON_FAILED, ConFailed, Sockets, UnknownHostError, aio

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from fakedaemon import Fake
    from harness import Network


def run_aio(request: bytes, host: str, **options: Any) -> bytes:
    """Call the asyncio twin."""
    return asyncio.run(aio.critical(request, host, **options))


@pytest.fixture
def delayed(short_path: Path) -> Path:
    """Give the delayed directory that a daemon has made once, beside its sockets."""
    path = short_path / "delayed"
    path.mkdir()
    return path


@pytest.fixture(params=["blocking", "asyncio"])
def critical(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Give `critical` and its asyncio twin."""
    return client.critical if request.param == "blocking" else run_aio


def saved(net: Network) -> list[bytes]:
    """Return what is in the delayed directory, in the order of the names."""
    directory = net.sockets / "delayed"
    return [path.read_bytes() for path in sorted(directory.glob("[!.]*")) if path.is_file()]


def test_answered(net: Network, critical: Callable[..., bytes]) -> None:
    """A host that is up answers, once, and nothing is written."""
    lond = net.add("msul2")
    net.start()

    assert critical(b"eget:x", "msul2", encrypt=True, sockets=net.sockets) == b"x"
    assert lond.received == [b"eget:x"]
    assert saved(net) == []


def test_delayed(net: Network, critical: Callable[..., bytes]) -> None:
    """A host that is down: the request is on disk as it is to be sent, and D is recorded."""
    net.tables["delayed"] = {"perm_log": "perm.log"}
    net.add("down", start=False)
    net.start()
    sockets = Sockets.read(net.config)

    answer = critical(b"put:msu:smith:secret", "down", encrypt=True, sockets=sockets)

    assert answer == CON_DELAYED
    assert saved(net) == [b"encrypt:put:msu:smith:secret\n"]
    log = (net.directory / "perm.log").read_text()
    assert log.split(":", 1)[1] == "D:down:encrypt\n"


def test_delayed_without_a_daemon(short_path: Path, critical: Callable[..., bytes]) -> None:
    """A daemon that is not there is waited for, for a second; then the request is delayed."""
    (short_path / "d").mkdir()
    began = time.monotonic()

    answer = critical(b"put:x", "msul2", sockets=Sockets(short_path, delayed=short_path / "d"))

    assert answer == CON_DELAYED
    assert 0.9 < time.monotonic() - began < 5
    assert [path.read_bytes() for path in (short_path / "d").iterdir()] == [b"put:x\n"]


def test_delayed_after_a_timeout(net: Network, critical: Callable[..., bytes]) -> None:
    """A reply that does not come in time counts as lost; the timeout is for all tries together."""
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.add("msul2")
    net.start()
    began = time.monotonic()

    answer = critical(b"fault:mute", "msul2", timeout=0.7, sockets=net.sockets)

    assert answer == CON_DELAYED
    assert time.monotonic() - began < 2
    assert saved(net) == [b"fault:mute\n"]


def test_one_timeout_for_all_tries(
    short_path: Path,
    delayed: Path,
    fake: Callable[[Callable[[socket.socket], None]], Fake],
    critical: Callable[..., bytes],
) -> None:
    """What the first try has used up, the second does not get once more."""
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        line = client.recv(1000)
        if line == b"reset_retries\n":
            client.sendall(b"ok\n")
        elif daemon.clients == 1:
            ended.wait(1.0)
            client.sendall(b"con_lost\n")
        else:
            ended.wait(PATIENCE)

    daemon = fake(talk)
    began = time.monotonic()

    assert critical(b"x", "fake", timeout=1.5, sockets=short_path) == CON_DELAYED
    took = time.monotonic() - began
    ended.set()

    assert daemon.clients == 3
    assert took < 2.2


def test_the_second_try(net: Network, critical: Callable[..., bytes]) -> None:
    """A host that came back behind a shut gate is reached at once: the gate is opened."""
    net.pool.update(retry_backoff_min=30.0, retry_backoff_max=60.0)
    lond = net.add("msul2", start=False)
    net.start()
    assert net.ask("msul2", b"ping") == b"con_lost"
    lond.start()

    assert critical(b"ping", "msul2", sockets=net.sockets) == b"msul2"
    assert saved(net) == []


def test_the_daemon_is_signalled(net: Network, critical: Callable[..., bytes]) -> None:
    """With a pid file the daemon gets USR1, as from lonnet's reconlonc."""
    net.tables["daemon"] = {"pid_file": "pid"}
    net.add("down", start=False)
    net.start()

    critical(b"ping", "down", sockets=Sockets.read(net.config))

    net.wait_for("status", host="down")


def test_a_stale_pid_file_harms_nobody(
    short_path: Path, delayed: Path, critical: Callable[..., bytes]
) -> None:
    """A pid that another program has by now gets no signal: USR1 would end it."""
    code = "import time; time.sleep(60)"
    elsewhere = short_path / "lonc" / "python"
    elsewhere.parent.mkdir()
    elsewhere.symlink_to(sys.executable)
    with subprocess.Popen([elsewhere, "-c", code], cwd="/") as other:
        try:
            (short_path / "pid").write_text(f"{other.pid}\n")
            sockets = Sockets(short_path, pid_file=short_path / "pid")
            assert critical(b"x", "msul2", timeout=0.2, sockets=sockets) == CON_DELAYED
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "1", "999999999"])
def test_a_pid_file_with_nonsense(
    short_path: Path, delayed: Path, critical: Callable[..., bytes], content: str
) -> None:
    """Whatever stands in the pid file, the request is delayed and no group is signalled."""
    (short_path / "pid").write_text(content)
    before = signal.signal(signal.SIGUSR1, lambda *_: pytest.fail("we were signalled"))
    try:
        sockets = Sockets(short_path, pid_file=short_path / "pid")
        assert critical(b"x", "msul2", timeout=0.1, sockets=sockets) == CON_DELAYED
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_failed(short_path: Path, critical: Callable[..., bytes]) -> None:
    """Neither sent nor saved: ConFailed says where and why, never what; or it is a value."""
    (short_path / "d").write_text("no directory")
    sockets = Sockets(short_path, delayed=short_path / "d", perm_log=short_path / "log")

    with pytest.raises(ConFailed) as caught:
        critical(b"put:secret", "msul2", timeout=0.2, sockets=sockets)
    value = critical(b"put:secret", "msul2", timeout=0.2, on_con_lost="return", sockets=sockets)

    assert value == CON_FAILED
    assert str(caught.value).startswith(f"msul2: con_failed: cannot save in {short_path}/d: ")
    assert "secret" not in str(caught.value) + (short_path / "log").read_text()
    assert [line.split(":")[1] for line in (short_path / "log").read_text().split()] == ["F", "F"]


def test_failed_for_want_of_a_directory(short_path: Path, critical: Callable[..., bytes]) -> None:
    """It is the daemon's to make: one of another user could do nothing with ours."""
    with pytest.raises(ConFailed, match="delayed: no such directory; lonc creates it"):
        critical(b"x", "msul2", timeout=0.2, sockets=short_path)

    assert not (short_path / "delayed").exists()


def test_read_back_changed(
    short_path: Path,
    delayed: Path,
    critical: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that does not read back as written is no promise: it fails, and is removed."""
    monkeypatch.setattr("lonc_gevent.client.critical_request.is_saved", lambda *_: False)

    with pytest.raises(ConFailed, match="read back with another content"):
        critical(b"x", "msul2", timeout=0.2, sockets=short_path)
    assert list(delayed.iterdir()) == []


def test_an_unknown_host_is_not_delayed(net: Network, critical: Callable[..., bytes]) -> None:
    """A file for a host that is not served would wait for ever."""
    net.add("msul2", start=False)
    net.write()

    with pytest.raises(UnknownHostError, match="does not serve this host"):
        critical(b"x", "msul3", sockets=Sockets.read(net.config))


def test_while_the_daemon_restarts(net: Network, critical: Callable[..., bytes]) -> None:
    """A daemon that comes back within the second answers, and nothing is written."""
    net.add("msul2")
    net.start()
    assert net.daemon
    net.daemon.kill()
    net.daemon.close()
    later = threading.Timer(0.3, net.start)
    later.start()

    answer = critical(b"ping", "msul2", timeout=PATIENCE, sockets=net.sockets)
    later.join()

    # A machine that is too busy to start a daemon within a second is no mistake of ours.
    assert (answer, saved(net)) in ((b"msul2", []), (CON_DELAYED, [b"ping\n"]))
