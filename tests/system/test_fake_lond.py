# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond as a process, with plain sockets as clients."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

import pytest
from click.testing import CliRunner
from harness import readable

from lonc_gevent.fake_lond import FakeLond, Profile, parse_fault
from lonc_gevent.fake_lond.command import lond_command
from lonc_gevent.protocol.cipher import Cipher
from lonc_gevent.protocol.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 10.0


@contextlib.contextmanager
def running(*options: str) -> Iterator[int]:
    """Run the fake lond with these options; yield its port; TERM must end it with exit 0."""
    command = [sys.executable, "-m", "lonc_gevent.fake_lond", "--port", "0", "--id", "msul2"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert readable(process.stdout, DEADLINE), "not ready in time"
            ready = process.stdout.readline()
            assert ready.startswith(b"ready "), process.stderr.read()
            yield int(ready.split()[1])
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=DEADLINE)
        except BaseException:
            process.kill()
            raise
    assert (process.returncode, errors) == (0, b"")


class Client:
    """A connection to the fake lond on a plain, blocking socket with a deadline."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.sock.close()

    def shake(self) -> Cipher:
        """Do the handshake of the daemon."""
        handshake = Handshake(server_id="msul2", client_id="msul1")
        said = handshake.start()
        while said:
            self.sock.sendall(said)
            said = handshake.receive(self.lines.readline())
        return Cipher(handshake.session.key)

    def ask(self, request: bytes) -> bytes:
        r"""Send a request and read a line; with its `\n` if it came whole, b"" at the end."""
        self.sock.sendall(request + b"\n")
        return self.lines.readline()

    def closed(self) -> bool:
        """Return whether the fake lond closes or resets the connection before the deadline."""
        try:
            return self.lines.read(1) == b""
        except ConnectionResetError:
            return True

    def silent(self, seconds: float = 0.2) -> bool:
        """Return whether nothing is received for a while, not even the end."""
        return not readable(self.sock, seconds)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Run a fake lond with no faults of its own."""
    with running() as number:
        yield number


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    """Connect to it, before the handshake."""
    with Client(port) as made:
        yield made


def test_clear_and_sealed_requests_are_answered_on_one_connection(client: Client) -> None:
    cipher = client.shake()

    assert client.ask(b"ping") == b"msul2\n"
    assert client.ask(b"echo:one") == b"one\n"
    assert client.ask(cipher.seal(b"echo:two")) == b"two\n"
    assert cipher.open(client.ask(cipher.seal(b"eget:three"))[:-1]) == b"three"
    assert client.ask(b"nonsense") == b"unknown_cmd\n"


def test_lines_in_pieces_and_together_are_answered_in_order(client: Client) -> None:
    for byte in b"init\n":
        client.sock.sendall(bytes([byte]))
    challenge = client.lines.readline()
    assert challenge[:-1].isdigit()
    client.sock.sendall(challenge + b"ekey\necho:1\necho:2\nec")
    assert client.lines.readline() == b"ok\n"
    assert client.lines.readline()[:-1].isalnum()
    assert client.lines.readline() == b"1\n"
    assert client.lines.readline() == b"2\n"
    assert client.silent(0.05)
    assert client.ask(b"ho:3") == b"3\n"


def test_megabytes_are_sent_and_received(client: Client) -> None:
    """Sealed ones too."""
    cipher = client.shake()
    text = b"x" * 3_000_000

    assert client.ask(b"echo:" + text) == text + b"\n"
    assert client.ask(cipher.seal(b"echo:" + text)) == text + b"\n"
    assert client.ask(b"big:2000000") == b"b" * 2_000_000 + b"\n"


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        (b"fault:drop-before", b""),
        (b"fault:drop-middle::tag", b"fault:drop-"),
        (b"fault:drop-after::tag", b"fault:drop-after::tag\n"),
    ],
)
def test_drop_faults_close_before_in_or_after_the_reply(
    client: Client, fault: bytes, reply: bytes
) -> None:
    client.shake()

    assert client.ask(fault) == reply
    assert client.closed()


@pytest.mark.parametrize("fault", [b"fault:extra-line", b"fault:later-line:60:tag"])
def test_an_unsolicited_line_follows_a_reply(client: Client, fault: bytes) -> None:
    """The connection stays open."""
    client.shake()

    assert client.ask(fault) == fault + b"\n"
    assert client.lines.readline() == b"unsolicited\n"
    assert client.ask(b"ping") == b"msul2\n"


def test_an_extra_line_comes_in_the_same_write(client: Client) -> None:
    client.shake()
    client.sock.sendall(b"fault:extra-line\n")

    assert client.sock.recv(65536) == b"fault:extra-line\nunsolicited\n"


def test_drip_sends_the_reply_byte_by_byte(client: Client) -> None:
    client.shake()
    client.sock.sendall(b"fault:drip:2:0123456789\n")
    pieces: list[bytes] = []
    while not (pieces and pieces[-1].endswith(b"\n")):
        pieces.append(client.sock.recv(65536))

    assert b"".join(pieces) == b"fault:drip:2:0123456789\n"
    assert len(pieces) > 5


def test_delay_sends_the_reply_later(client: Client) -> None:
    client.shake()
    start = time.monotonic()

    assert client.ask(b"delay:80:late") == b"late\n"
    assert time.monotonic() - start >= 0.08


def test_mute_never_answers_and_keeps_the_connection(client: Client) -> None:
    client.shake()
    client.sock.sendall(b"fault:mute\nping\n")

    assert client.silent()


def test_half_open_stops_reading(client: Client) -> None:
    client.shake()
    client.sock.sendall(b"fault:half-open\n")
    client.sock.settimeout(0.5)

    with pytest.raises(TimeoutError):
        client.sock.sendall(b"x" * 64_000_000)
    assert client.silent(0)


def test_unended_sends_its_bytes_without_a_newline(client: Client) -> None:
    """The connection stays open."""
    client.shake()
    client.sock.sendall(b"fault:unended:1000\n")

    assert client.lines.read(1000) == b"u" * 1000
    assert client.silent()


def test_endless_sends_until_the_client_disconnects(client: Client) -> None:
    """The fake lond keeps running."""
    client.shake()
    client.sock.sendall(b"fault:endless:1000\n")

    assert client.lines.read(5_000_000) == b"u" * 5_000_000


def test_a_fault_of_one_connection_does_not_delay_another(port: int, client: Client) -> None:
    client.shake()
    client.sock.sendall(b"fault:endless:65536\n")
    with Client(port) as other:
        other.shake()

        assert other.ask(b"ping") == b"msul2\n"


@pytest.mark.parametrize(
    ("fault", "line", "ends"),
    [("refuse", b"refused\n", True), ("close", b"", True), ("mute-handshake", None, False)],
)
def test_refuse_close_and_mute_at_init(fault: str, line: bytes | None, ends: bool) -> None:
    with running("--fault", fault) as port, Client(port) as client:
        client.sock.sendall(b"init\n")
        if line is not None:
            assert client.lines.readline() == line
        assert client.closed() if ends else client.silent()


def test_close_after_counts_requests_without_the_handshake() -> None:
    with running("--fault", "close-after:2") as port:
        for _ in range(2):
            with Client(port) as client:
                client.shake()
                assert client.ask(b"echo:1") == b"1\n"
                assert client.ask(b"echo:2") == b"2\n"
                assert client.closed()


def test_idle_line_sends_a_line_after_the_handshake() -> None:
    with running("--fault", "idle-line:20") as port, Client(port) as client:
        client.shake()

        assert client.lines.readline() == b"unsolicited\n"
        assert client.ask(b"ping") == b"msul2\n"


def test_half_open_as_option_reads_nothing_after_the_handshake() -> None:
    with running("--fault", "half-open") as port, Client(port) as client:
        client.shake()
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sock.sendall(b"x" * 64_000_000)


def test_options_apply_to_every_request(tmp_path: Path) -> None:
    """Drip also to the handshake, the delay to every reply; the record has each request."""
    record = tmp_path / "record"
    options = ["--fault", "drip", "--delay-ms", "30-40.5", "--record", str(record)]
    with running(*options, "--client-id", "msul1") as port, Client(port) as client:
        cipher = client.shake()
        start = time.monotonic()

        assert client.ask(b"echo:\xff plain") == b"\xff plain\n"
        assert time.monotonic() - start >= 0.03
        assert client.ask(cipher.seal(b"echo:sealed")) == b"sealed\n"
        assert client.ask(b"sethost:msul2:ping") == b"msul2\n"
        # Written at once: it is all there while the fake lond still runs.
        assert record.read_bytes() == b"echo:\xff plain\necho:sealed\nsethost:msul2:ping\n"


def test_the_habit_legacy_does_not_know_version_and_sethost() -> None:
    with running("--habit", "legacy", "--id", "msul3") as port, Client(port) as client:
        client.shake()

        assert client.ask(b"version") == b"unknown_cmd\n"
        assert client.ask(b"sethost:msul3") == b"unknown_cmd\n"


def test_term_ends_it_with_open_connections() -> None:
    with contextlib.ExitStack() as stack:
        with running() as port:
            for fault in (b"mute", b"half-open", b"endless", b"delay:9999", b"later-line:9999"):
                client = stack.enter_context(Client(port))
                client.shake()
                client.sock.sendall(b"fault:" + fault + b"\n")
            stack.enter_context(Client(port))
            start = time.monotonic()
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--id", "a"], "Missing option '--port'"),
        (["--port", "0"], "Missing option '--id'"),
        (["--port", "0", "--id", "a", "--fault", "mut"], "did you mean mute?"),
        (["--port", "0", "--id", "a", "--delay-ms", "9-1"], "expected A-B"),
        (["--port", "0", "--id", "a", "--delay-ms", "nan-nan"], "expected A-B"),
        (["--port", "0", "--id", "a", "--habit", "x"], "'x' is not one of"),
    ],
)
def test_bad_usage_is_exit_2_with_a_message(options: list[str], message: str) -> None:
    result = CliRunner().invoke(lond_command, options)

    assert result.exit_code == 2
    assert message in result.output


def test_a_port_in_use_is_exit_1_with_a_message(port: int, tmp_path: Path) -> None:
    """And so is a record that cannot be opened; no traceback."""
    command = [sys.executable, "-m", "lonc_gevent.fake_lond", "--id", "a", "--port"]
    for options in ([str(port)], ["0", "--record", str(tmp_path / "no" / "where")]):
        done = subprocess.run(
            [*command, *options], capture_output=True, timeout=DEADLINE, check=False
        )

        assert done.returncode == 1
        assert done.stderr.startswith(b"Error: cannot start: ")
        assert done.stderr.count(b"\n") == 1


def test_the_help_lists_requests_and_faults() -> None:
    result = CliRunner().invoke(lond_command, ["--help"])

    assert result.exit_code == 0
    assert "drop-handshake[:STEP]" in result.output
    assert "fault:NAME[:NUMBER][:ANYTHING]" in result.output


def test_start_after_stop_uses_the_same_port() -> None:
    """Connections are closed, counters continue."""
    from gevent import socket as gsocket  # noqa: PLC0415 - the one test inside a hub

    def ask(sock: gsocket.socket, line: bytes) -> bytes:
        sock.sendall(line)
        return bytes(sock.recv(65536))

    lond = FakeLond(Profile(faults=(parse_fault("refuse"),)))
    with lond:
        port = lond.port
        assert repr(lond) == f"<FakeLond msul1 port {port}>"
        with gsocket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(sock, b"init\n") == b"refused\n"
        lond.profile = Profile()
        with gsocket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(sock, b"init\n").strip().isdigit()
            assert lond.connections >= 1
            lond.stop()
            assert lond.connections == 0
            assert sock.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            gsocket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        lond.start()
        assert lond.port == port
        with gsocket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(sock, ask(sock, b"init\n")) == b"ok\n"
            assert ask(sock, b"ekey\n").strip().isalnum()
            assert ask(sock, b"echo:x\n") == b"x\n"
    assert (lond.accepted, lond.requests) == (3, 1)
