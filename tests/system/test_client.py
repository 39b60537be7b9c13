# SPDX-License-Identifier: GPL-2.0-or-later
"""The blocking client: `reply`, `many` and `Connection`."""

from __future__ import annotations

import inspect
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, wait_until

from lonc_gevent.client import (
    CON_LOST,
    ClientError,
    ConLostError,
    Connection,
    DisconnectedError,
    NoDaemonError,
    TimedOutError,
    UnknownHostError,
    critical,
    many,
    reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fakedaemon import FakeDaemon
    from harness import Network


def test_imports_only_the_standard_library(up: Network) -> None:
    """With the socket directory given."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from lonc_gevent import client; import lonc_gevent.client.aio\n"
        f"assert client.reply(b'ping', 'msul2', sockets={str(up.sockets)!r}) == b'msul2'\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(tops - sys.stdlib_module_names))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['lonc_gevent']"


def test_requests_and_replies_may_have_any_byte_but_newline(up: Network) -> None:
    payload = bytes(byte for byte in range(256) if byte != 10) * 5000

    assert reply(b"echo:" + payload, "msul2", sockets=up.sockets) == payload


def test_a_request_with_a_newline_or_of_text_is_refused(short_path: Path) -> None:
    """The error does not show it."""
    with pytest.raises(ValueError, match="one line") as caught:
        reply(b"secret\nping", "msul2", sockets=short_path)
    with pytest.raises(TypeError, match="bytes"):
        reply("ping", "msul2", sockets=short_path)  # type: ignore[arg-type]

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_not_above_zero_is_refused(short_path: Path, timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        reply(b"ping", "msul2", timeout=timeout, sockets=short_path)


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (b"eget:x", b"encrypt:eget:x"),
        (b"encrypt:eget:x", b"encrypt:eget:x"),
        (b"sethost:msul2:eget:x", b"sethost:msul2:encrypt:eget:x"),
        (b"sethost:msul2:encrypt:eget:x", b"sethost:msul2:encrypt:eget:x"),
    ],
)
def test_encrypt_adds_the_prefix_once_after_sethost(
    short_path: Path,
    fake: Callable[[Callable[[socket.socket], None]], FakeDaemon],
    request_: bytes,
    sent: bytes,
) -> None:
    fake(lambda client: client.sendall(client.recv(1000)))

    assert reply(request_, "fake", encrypt=True, sockets=short_path) == sent


def test_the_reply_to_an_encrypted_request_is_clear(up: Network) -> None:
    assert reply(b"eget:secret", "msul2", encrypt=True, sockets=up.sockets) == b"secret"


def test_con_lost_is_an_exception_or_a_value(up: Network) -> None:
    """The exception has the host and the socket, not the request."""
    with pytest.raises(ConLostError) as caught:
        reply(b"secret:x", "down", sockets=up.sockets)

    assert str(caught.value) == f"down: con_lost (socket {up.sockets}/down)"
    assert (caught.value.host, caught.value.socket) == ("down", f"{up.sockets}/down")
    assert reply(b"ping", "down", on_con_lost="return", sockets=up.sockets) == CON_LOST


def test_without_a_daemon_reply_raises_no_daemon_error(short_path: Path) -> None:
    """Without a socket, and with one of a daemon that has ended. It is a ConLostError."""
    gone = socket.socket(socket.AF_UNIX)
    gone.bind(str(short_path / "gone"))
    gone.close()

    for host in ("nobody", "gone"):
        with pytest.raises(NoDaemonError, match=f"^{host}: cannot connect to the daemon: "):
            reply(b"ping", host, sockets=short_path)
        assert reply(b"ping", host, on_con_lost="return", sockets=short_path) == CON_LOST
    assert issubclass(NoDaemonError, ConLostError)


@pytest.mark.parametrize("host", ["../x", "", ".", "..", "a/b", "a:b", "a\nb"])
def test_an_invalid_host_id_is_unknown(short_path: Path, host: str) -> None:
    """It cannot lead out of the directory."""
    with pytest.raises(UnknownHostError):
        reply(b"ping", host, sockets=short_path)


@pytest.mark.parametrize("part", [b"", b"half"])
def test_a_disconnect_before_the_newline_is_disconnected_error(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], FakeDaemon], part: bytes
) -> None:
    """Never a part of a reply."""

    def talk(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(part)

    fake(talk)

    with pytest.raises(DisconnectedError, match="before its whole reply"):
        reply(b"ping", "fake", sockets=short_path)


def test_two_lines_for_one_request_are_disconnected_error(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], FakeDaemon]
) -> None:
    """Neither is known to be the reply."""

    def talk(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(b"one\ntwo\n")

    fake(talk)

    with pytest.raises(DisconnectedError, match="more than one line"):
        reply(b"ping", "fake", sockets=short_path)


def test_the_timeout_limits_a_reply_that_arrives_slowly(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], FakeDaemon]
) -> None:
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        while not ended.wait(0.05):
            client.sendall(b"x")

    fake(talk)
    began = time.monotonic()

    with pytest.raises(TimedOutError):
        reply(b"ping", "fake", timeout=0.5, sockets=short_path)
    took = time.monotonic() - began
    ended.set()

    assert 0.4 < took < 3


def test_a_full_backlog_is_waited_for(short_path: Path) -> None:
    """Until the deadline: the daemon is busy, not absent."""
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(short_path / "deaf"))
        deaf.listen(0)
        first.connect(str(short_path / "deaf"))

        with pytest.raises(TimedOutError):
            reply(b"ping", "deaf", timeout=0.3, sockets=short_path)

        def accept_two() -> None:
            for _ in range(2):
                deaf.accept()[0].close()

        accept = threading.Timer(0.2, accept_two)
        accept.start()
        with pytest.raises(DisconnectedError) as caught:
            reply(b"ping", "deaf", timeout=PATIENCE, retry="never", sockets=short_path)
        accept.join()
        assert caught.value.may_have_run is False


def test_a_request_that_is_too_long_is_con_lost(up: Network) -> None:
    """The daemon answers before it has read the whole request."""
    with pytest.raises(ConLostError) as caught:
        reply(b"x" * 40_000_000, "msul2", sockets=up.sockets)

    assert type(caught.value) is ConLostError


@pytest.mark.parametrize("function", [reply, many, critical])
def test_functions_can_be_pickled_and_inspected(function: Callable[..., object]) -> None:
    """For pools of processes, and for frameworks that await coroutine functions."""
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
    assert not inspect.iscoroutinefunction(function)
    assert "on_con_lost" in inspect.signature(function).parameters
    assert function.__doc__


def test_errors_can_be_pickled() -> None:
    """With their host and socket."""
    error = pickle.loads(pickle.dumps(NoDaemonError("msul2", "/s/msul2", "nobody")))  # noqa: S301

    assert str(error) == "msul2: nobody (socket /s/msul2)"
    assert (error.host, error.socket) == ("msul2", "/s/msul2")


def test_many_returns_the_outcome_of_each_host(up: Network) -> None:
    """In the order of the requests; a host that is down does not hide the others."""
    requests = {"nobody": b"ping", "msul2": b"ping", "down": b"ping"}

    outcomes = many(requests, timeout=2.0, sockets=up.sockets)
    values = many(requests, timeout=2.0, on_con_lost="return", sockets=up.sockets)

    assert list(outcomes) == list(requests)
    assert outcomes["msul2"] == b"msul2"
    assert type(outcomes["down"]) is ConLostError
    assert type(outcomes["nobody"]) is UnknownHostError
    assert values["down"] == CON_LOST
    assert type(values["nobody"]) is UnknownHostError


def test_the_timeout_of_many_is_for_all_hosts(up: Network) -> None:
    """Two hosts that never answer take as long as one."""
    began = time.monotonic()

    outcomes = many({"msul2": b"fault:mute", "down": b"ping"}, timeout=0.6, sockets=up.sockets)

    assert isinstance(outcomes["msul2"], TimedOutError)
    assert isinstance(outcomes["down"], ClientError)
    assert time.monotonic() - began < 3


def test_a_connection_is_kept_for_all_requests(up: Network) -> None:
    """Including those that are answered con_lost."""
    with Connection("msul2", sockets=up.sockets) as connection:
        texts = [connection.reply(b"echo:%d" % number) for number in range(200)]
        with pytest.raises(ConLostError):
            connection.reply(b"fault:drop-before")
        assert connection.reply(b"ping") == b"msul2"
        assert repr(connection.client) == "<Client 1 open>"

    assert texts == [b"%d" % number for number in range(200)]
    assert repr(connection.client) == "<Client 0 open>"


def test_a_late_reply_is_not_read_as_another_reply(up: Network) -> None:
    """After a timeout a new connection is made."""
    with Connection("msul2", sockets=up.sockets) as connection:
        with pytest.raises(TimedOutError):
            connection.reply(b"delay:400:late", timeout=0.2)
        assert connection.reply(b"delay:600:right") == b"right"


def test_an_unsolicited_line_is_not_read_as_a_reply(
    short_path: Path, fake: Callable[[Callable[[socket.socket], None]], FakeDaemon]
) -> None:
    answered = threading.Event()

    def talk(client: socket.socket) -> None:
        while line := client.recv(1000):
            client.sendall(line)
            if line == b"1\n":
                answered.wait(PATIENCE)
                client.sendall(b"unsolicited\n")

    daemon = fake(talk)
    with Connection("fake", timeout=PATIENCE, sockets=short_path) as connection:
        assert connection.reply(b"1") == b"1"
        answered.set()
        wait_until(connection.client._kept._open[0].has_input, "the unsolicited line is there")
        assert connection.reply(b"2") == b"2"
    assert daemon.clients == 2


def test_a_connection_reconnects_after_a_restart_of_the_daemon(up: Network) -> None:
    """No request is lost if it was idle meanwhile."""
    with Connection("msul2", sockets=up.sockets) as connection:
        assert connection.reply(b"ping") == b"msul2"
        assert up.daemon
        up.daemon.end()
        up.daemon.close()
        with pytest.raises(NoDaemonError):
            connection.reply(b"ping")
        up.start()
        assert connection.reply(b"ping") == b"msul2"


def test_a_forked_child_makes_its_own_connection(up: Network) -> None:
    """On a shared socket their replies could be swapped."""
    with Connection("msul2", sockets=up.sockets) as connection:
        connection.reply(b"ping")
        child = os.fork()
        if child == 0:
            ok = False
            try:
                ok = all(
                    connection.reply(b"echo:child%d" % n) == b"child%d" % n for n in range(300)
                )
            finally:
                os._exit(0 if ok else 1)
        answers = [connection.reply(b"echo:parent%d" % n) for n in range(300)]
        _, status = os.waitpid(child, 0)

    assert answers == [b"parent%d" % n for n in range(300)]
    assert status == 0
