# SPDX-License-Identifier: GPL-2.0-or-later
"""`critical`: answered, saved, or an error (protocol.md, section 2)."""

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

    from fakedaemon import FakeDaemon
    from harness import Network


def run_aio(request: bytes, host: str, **options: Any) -> bytes:
    """Call `critical` of the asyncio client."""
    return asyncio.run(aio.critical(request, host, **options))


@pytest.fixture
def delayed(short_path: Path) -> Path:
    """Give the delayed directory that a daemon would have made beside its sockets."""
    path = short_path / "delayed"
    path.mkdir()
    return path


@pytest.fixture(params=["blocking", "asyncio"])
def critical(request: pytest.FixtureRequest) -> Callable[..., bytes]:
    """Give `critical` of the blocking and of the asyncio client."""
    return client.critical if request.param == "blocking" else run_aio


def saved(net: Network) -> list[bytes]:
    """Return the delayed requests, in the order of their names."""
    directory = net.sockets / "delayed"
    return [path.read_bytes() for path in sorted(directory.glob("[!.]*")) if path.is_file()]


def test_a_host_that_is_up_answers_once(net: Network, critical: Callable[..., bytes]) -> None:
    """Nothing is saved."""
    lond = net.add("msul2")
    net.start()

    assert critical(b"eget:x", "msul2", encrypt=True, sockets=net.sockets) == b"x"
    assert lond.received == [b"eget:x"]
    assert saved(net) == []


def test_a_request_to_a_host_that_is_down_is_saved(
    net: Network, critical: Callable[..., bytes]
) -> None:
    """As the daemon is to send it; the perm log gets a D line."""
    net.tables["delayed"] = {"perm_log": "perm.log"}
    net.add("down", start=False)
    net.start()
    sockets = Sockets.read(net.config)

    answer = critical(b"put:msu:smith:secret", "down", encrypt=True, sockets=sockets)

    assert answer == CON_DELAYED
    assert saved(net) == [b"encrypt:put:msu:smith:secret\n"]
    log = (net.directory / "perm.log").read_text()
    assert log.split(":", 1)[1].startswith("D:down:encrypt:put:")


def test_without_a_daemon_the_request_is_saved_after_a_second(
    short_path: Path, critical: Callable[..., bytes]
) -> None:
    (short_path / "d").mkdir()
    began = time.monotonic()

    answer = critical(b"put:x", "msul2", sockets=Sockets(short_path, delayed=short_path / "d"))

    assert answer == CON_DELAYED
    assert 0.9 < time.monotonic() - began < 5
    assert [path.read_bytes() for path in (short_path / "d").iterdir()] == [b"put:x\n"]


def test_after_a_timeout_the_request_is_saved(net: Network, critical: Callable[..., bytes]) -> None:
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.add("msul2")
    net.start()

    answer = critical(b"fault:mute", "msul2", timeout=0.7, sockets=net.sockets)

    assert answer == CON_DELAYED
    assert saved(net) == [b"fault:mute\n"]


def test_the_second_try_has_the_rest_of_the_timeout(
    short_path: Path,
    delayed: Path,
    fake: Callable[[Callable[[socket.socket], None]], FakeDaemon],
    critical: Callable[..., bytes],
) -> None:
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


def test_the_second_try_opens_the_retry_gate(net: Network, critical: Callable[..., bytes]) -> None:
    """A host that is up again is reached without waiting for the next attempt."""
    net.pool.update(retry_backoff_min=30.0, retry_backoff_max=60.0)
    lond = net.add("msul2", start=False)
    net.start()
    assert net.ask("msul2", b"ping") == b"con_lost"
    lond.start()

    assert critical(b"ping", "msul2", sockets=net.sockets) == b"msul2"
    assert saved(net) == []


def test_a_daemon_with_a_pid_file_gets_usr1(net: Network, critical: Callable[..., bytes]) -> None:
    """As from lonnet's reconlonc."""
    net.tables["daemon"] = {"pid_file": "pid"}
    net.add("down", start=False)
    net.start()

    critical(b"ping", "down", sockets=Sockets.read(net.config))

    net.wait_for("status", host="down")


def test_a_stale_pid_file_of_another_program_gets_no_signal(
    short_path: Path, delayed: Path, critical: Callable[..., bytes]
) -> None:
    """USR1 would end it."""
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
def test_an_invalid_pid_file_is_ignored(
    short_path: Path, delayed: Path, critical: Callable[..., bytes], content: str
) -> None:
    """The request is saved, and no process group gets a signal."""
    (short_path / "pid").write_text(content)
    before = signal.signal(signal.SIGUSR1, lambda *_: pytest.fail("we were signalled"))
    try:
        sockets = Sockets(short_path, pid_file=short_path / "pid")
        assert critical(b"x", "msul2", timeout=0.1, sockets=sockets) == CON_DELAYED
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_request_that_cannot_be_saved_is_con_failed(
    short_path: Path, critical: Callable[..., bytes]
) -> None:
    """ConFailed, without the request in its text, or the value CON_FAILED."""
    (short_path / "d").write_text("no directory")
    sockets = Sockets(short_path, delayed=short_path / "d", perm_log=short_path / "log")

    with pytest.raises(ConFailed) as caught:
        critical(b"put:secret", "msul2", timeout=0.2, sockets=sockets)
    value = critical(b"put:secret", "msul2", timeout=0.2, on_con_lost="return", sockets=sockets)

    assert value == CON_FAILED
    assert str(caught.value).startswith(f"msul2: con_failed: cannot save in {short_path}/d: ")
    assert "secret" not in str(caught.value)
    assert ":F:msul2:put:secret:" in (short_path / "log").read_text()
    assert [line.split(":")[1] for line in (short_path / "log").read_text().splitlines()] == [
        "F",
        "F",
    ]


def test_a_missing_delayed_directory_is_not_created(
    short_path: Path, critical: Callable[..., bytes]
) -> None:
    """A daemon of another user could not read one that the web process creates."""
    with pytest.raises(ConFailed, match="delayed: no such directory; lonc creates it"):
        critical(b"x", "msul2", timeout=0.2, sockets=short_path)

    assert not (short_path / "delayed").exists()


def test_a_file_that_reads_back_changed_is_removed(
    short_path: Path,
    delayed: Path,
    critical: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lonc_gevent.client.critical_request.is_saved", lambda *_: False)

    with pytest.raises(ConFailed, match="read back with another content"):
        critical(b"x", "msul2", timeout=0.2, sockets=short_path)
    assert list(delayed.iterdir()) == []


def test_a_request_to_an_unknown_host_is_not_saved(
    net: Network, critical: Callable[..., bytes]
) -> None:
    """It would never be sent."""
    net.add("msul2", start=False)
    net.write()

    with pytest.raises(UnknownHostError, match="does not serve this host"):
        critical(b"x", "msul3", sockets=Sockets.read(net.config))


def test_a_request_is_saved_if_only_the_directory_is_known(
    net: Network, critical: Callable[..., bytes]
) -> None:
    """The process that serves the host may be restarting, beside others that listen."""
    net.add("msul2")
    net.start()

    assert critical(b"x", "msul3", sockets=net.sockets) == CON_DELAYED
    assert saved(net) == [b"x\n"]


def test_a_daemon_that_restarts_within_a_second_answers(
    net: Network, critical: Callable[..., bytes]
) -> None:
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
