# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond as a process of its own, spoken to over plain sockets."""

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

from lonc_gevent.fake_lond import FakeLond, Manner, parse_fault
from lonc_gevent.fake_lond.command import lond_command
from lonc_gevent.protocol.cipher import Cipher
from lonc_gevent.protocol.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 10.0


@contextlib.contextmanager
def running(*options: str) -> Iterator[int]:
    """Run the fake lond with these options; gives its port; TERM must end it with exit 0."""
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
        """Go through the handshake with our own rules."""
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
        """Tell whether the fake lond has closed (or reset) the connection by now, or soon."""
        try:
            return self.lines.read(1) == b""
        except ConnectionResetError:
            return True

    def silent(self, seconds: float = 0.2) -> bool:
        """Tell whether nothing comes, not even the end, for a while."""
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


def test_requests_and_replies(client: Client) -> None:
    """After the handshake, plain and encrypted requests are answered on one connection."""
    cipher = client.shake()

    assert client.ask(b"ping") == b"msul2\n"
    assert client.ask(b"echo:one") == b"one\n"
    assert client.ask(cipher.seal(b"echo:two")) == b"two\n"
    assert cipher.open(client.ask(cipher.seal(b"eget:three"))[:-1]) == b"three"
    assert client.ask(b"nonsense") == b"unknown_cmd\n"


def test_a_dialogue_in_pieces(client: Client) -> None:
    """Lines may arrive byte by byte, or several in one write: each is answered in order."""
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


def test_big_requests_and_replies(client: Client) -> None:
    """Megabytes go through in both directions, sealed ones too."""
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
def test_drops(client: Client, fault: bytes, reply: bytes) -> None:
    """The connection is closed before, in the middle of, or after a reply."""
    client.shake()

    assert client.ask(fault) == reply
    assert client.closed()


@pytest.mark.parametrize("fault", [b"fault:extra-line", b"fault:later-line:60:tag"])
def test_unsolicited_lines(client: Client, fault: bytes) -> None:
    """A second line follows a reply, and the connection goes on."""
    client.shake()

    assert client.ask(fault) == fault + b"\n"
    assert client.lines.readline() == b"unsolicited\n"
    assert client.ask(b"ping") == b"msul2\n"


def test_an_extra_line_comes_in_the_same_write(client: Client) -> None:
    """The extra line is there as soon as the reply is."""
    client.shake()
    client.sock.sendall(b"fault:extra-line\n")

    assert client.sock.recv(65536) == b"fault:extra-line\nunsolicited\n"


def test_a_reply_byte_by_byte(client: Client) -> None:
    """A dripping reply comes in many pieces, and whole in the end."""
    client.shake()
    client.sock.sendall(b"fault:drip:2:0123456789\n")
    pieces: list[bytes] = []
    while not (pieces and pieces[-1].endswith(b"\n")):
        pieces.append(client.sock.recv(65536))

    assert b"".join(pieces) == b"fault:drip:2:0123456789\n"
    assert len(pieces) > 5


def test_a_delayed_reply(client: Client) -> None:
    """A delayed reply is not early."""
    client.shake()
    start = time.monotonic()

    assert client.ask(b"delay:80:late") == b"late\n"
    assert time.monotonic() - start >= 0.08


def test_mute(client: Client) -> None:
    """A mute lond never answers, whatever else it is sent, and keeps the connection."""
    client.shake()
    client.sock.sendall(b"fault:mute\nping\n")

    assert client.silent()


def test_half_open(client: Client) -> None:
    """A half-open lond stops reading: what we send piles up until nothing more goes out."""
    client.shake()
    client.sock.sendall(b"fault:half-open\n")
    client.sock.settimeout(0.5)

    with pytest.raises(TimeoutError):
        client.sock.sendall(b"x" * 64_000_000)
    assert client.silent(0)


def test_unended(client: Client) -> None:
    """A reply without a newline stops after its bytes, and the connection stays."""
    client.shake()
    client.sock.sendall(b"fault:unended:1000\n")

    assert client.lines.read(1000) == b"u" * 1000
    assert client.silent()


def test_endless(client: Client) -> None:
    """A reply without end goes on until the client goes, and the fake lond lives on."""
    client.shake()
    client.sock.sendall(b"fault:endless:1000\n")

    assert client.lines.read(5_000_000) == b"u" * 5_000_000


def test_other_clients_do_not_wait(port: int, client: Client) -> None:
    """One connection in trouble is no trouble for another."""
    client.shake()
    client.sock.sendall(b"fault:endless:65536\n")
    with Client(port) as other:
        other.shake()

        assert other.ask(b"ping") == b"msul2\n"


@pytest.mark.parametrize(
    ("fault", "line", "ends"),
    [("refuse", b"refused\n", True), ("close", b"", True), ("mute-handshake", None, False)],
)
def test_no_handshake(fault: str, line: bytes | None, ends: bool) -> None:
    """Refusing, closing and silence at init, by option."""
    with running("--fault", fault) as port, Client(port) as client:
        client.sock.sendall(b"init\n")
        if line is not None:
            assert client.lines.readline() == line
        assert client.closed() if ends else client.silent()


def test_close_after_by_option() -> None:
    """After so many requests of a connection it is closed; handshakes do not count."""
    with running("--fault", "close-after:2") as port:
        for _ in range(2):
            with Client(port) as client:
                client.shake()
                assert client.ask(b"echo:1") == b"1\n"
                assert client.ask(b"echo:2") == b"2\n"
                assert client.closed()


def test_a_line_while_idle_by_option() -> None:
    """A line that nobody asked for comes after the handshake."""
    with running("--fault", "idle-line:20") as port, Client(port) as client:
        client.shake()

        assert client.lines.readline() == b"unsolicited\n"
        assert client.ask(b"ping") == b"msul2\n"


def test_half_open_by_option() -> None:
    """By option, a half-open lond reads nothing after the handshake."""
    with running("--fault", "half-open") as port, Client(port) as client:
        client.shake()
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sock.sendall(b"x" * 64_000_000)


def test_faults_and_delays_for_every_request(tmp_path: Path) -> None:
    """Drips go for the handshake too, delays for every reply; the record has each request."""
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


def test_legacy_by_option() -> None:
    """A legacy lond answers version and sethost with unknown_cmd."""
    with running("--habit", "legacy", "--id", "msul3") as port, Client(port) as client:
        client.shake()

        assert client.ask(b"version") == b"unknown_cmd\n"
        assert client.ask(b"sethost:msul3") == b"unknown_cmd\n"


def test_term_with_connections_open() -> None:
    """TERM ends it at once, whatever its connections are doing."""
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
        (["--port", "0", "--id", "a", "--delay-ms", "9-1"], "is not A-B"),
        (["--port", "0", "--id", "a", "--delay-ms", "nan-nan"], "is not A-B"),
        (["--port", "0", "--id", "a", "--habit", "x"], "'x' is not one of"),
    ],
)
def test_bad_usage(options: list[str], message: str) -> None:
    """Bad usage is exit 2 and a line that says what was wrong."""
    result = CliRunner().invoke(lond_command, options)

    assert result.exit_code == 2
    assert message in result.output


def test_a_port_that_is_taken(port: int, tmp_path: Path) -> None:
    """A port or a record that cannot be had is exit 1 and one line, no traceback."""
    command = [sys.executable, "-m", "lonc_gevent.fake_lond", "--id", "a", "--port"]
    for options in ([str(port)], ["0", "--record", str(tmp_path / "no" / "where")]):
        done = subprocess.run(
            [*command, *options], capture_output=True, timeout=DEADLINE, check=False
        )

        assert done.returncode == 1
        assert done.stderr.startswith(b"Error: cannot start: ")
        assert done.stderr.count(b"\n") == 1


def test_help_lists_the_faults() -> None:
    """The help documents requests and faults."""
    result = CliRunner().invoke(lond_command, ["--help"])

    assert result.exit_code == 0
    assert "drop-handshake[:STEP]" in result.output
    assert "fault:NAME[:NUMBER][:ANYTHING]" in result.output


def test_stop_and_start_in_process() -> None:
    """In process: the port is kept over a restart, connections are cut, counters go on."""
    from gevent import socket as gsocket  # noqa: PLC0415 - the one test inside a hub

    def ask(sock: gsocket.socket, line: bytes) -> bytes:
        sock.sendall(line)
        return bytes(sock.recv(65536))

    lond = FakeLond(Manner(faults=(parse_fault("refuse"),)))
    with lond:
        port = lond.port
        assert repr(lond) == f"<FakeLond msul1 port {port}>"
        with gsocket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
            assert ask(sock, b"init\n") == b"refused\n"
        lond.manner = Manner()
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
