# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond's TCP server: a greenlet for each connection, as lond has a child process."""

from __future__ import annotations

import os
import random
import re
import stat
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Self

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from .commands import Profile
from .delivery import EXTRA_LINE, deliver, stay_half_open
from .handshake import FakeHandshake
from .tls import send_key

if TYPE_CHECKING:
    from pathlib import Path

    from .tls import TlsProfile

_BACKLOG = 1024
_CHUNK = 65536
_MAX_LINE = 1 << 28
_KEY_DIGITS = 32
_KEY_MODE = 0o600
_KEY = re.compile(rb"[0-9A-Fa-f]{32}\n?")


class FakeLond:
    """A fake lond that listens between `start` and `stop`.

    Port 0 chooses one at the first start; later starts use the same port, like a lond that was
    restarted. `record` is a file to which each request is appended in clear before it is answered,
    without the lines of the handshake. A context manager starts and stops it.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        record: Path | None = None,
    ) -> None:
        self.profile = profile or Profile()
        """May be replaced at any time, for later connections."""
        self.host = host
        self.port = port
        self.accepted = 0
        """Connections accepted so far."""
        self.requests = 0
        """Requests received so far."""
        self._record_path = record
        self._record: BinaryIO | None = None
        self._server: StreamServer | None = None
        self._connections = Pool()
        self._random = random.Random()  # noqa: S311 - not for secrets # nosec B311

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<FakeLond {self.profile.ids[0]} port {self.port}>"

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def start(self) -> None:
        """Listen. Raises OSError if the port is in use or the record cannot be opened."""
        if self._record_path is not None:
            self._record = self._record_path.open("ab", buffering=0)
        server = StreamServer(
            (self.host, self.port), self._serve, backlog=_BACKLOG, spawn=self._connections
        )
        server.start()
        self._server = server
        self.port = int(server.server_port or 0)

    def stop(self) -> None:
        """Close the listening socket and all connections at once. Can be called again."""
        if self._server is not None:
            self._server.stop(timeout=0)
            self._server = None
        self._connections.kill()
        if self._record is not None:
            self._record.close()
            self._record = None

    def _serve(self, sock: socket.socket, _address: object) -> None:
        """Serve one connection; the server closes its socket when this returns."""
        self.accepted += 1
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve_lines(sock)
        except OSError:
            # The client disconnected, which also ends the child of a real lond.
            return

    def _serve_lines(self, sock: socket.socket) -> None:
        profile = self.profile
        handshake = FakeHandshake(
            profile,
            challenge=self._challenge(),
            build_key=self._build_key(),
            read_key=partial(_read_key, sock),
        )
        lines = _Lines(sock)
        close_after = profile.fault("close-after")
        served = 0
        late = b""
        while (text := lines.read()) is not None:
            was_ready = handshake.ready
            answer = handshake.receive(text)
            if answer.request is not None:
                served += 1
                self._record_request(answer.request)
                if profile.delay_ms[1] > 0:
                    gevent.sleep(self._random.uniform(*profile.delay_ms) / 1000)
            if not deliver(sock, replace(answer, line=late + answer.line)):
                return
            late = b""
            if answer.start_tls and profile.tls is not None:
                late = self._do_tls(sock, profile, profile.tls, lines, handshake)
            if close_after is not None and served >= close_after.number:
                return
            if handshake.ready and not was_ready:
                _just_ready(sock, profile)

    def _do_tls(
        self,
        sock: socket.socket,
        profile: Profile,
        tls: TlsProfile,
        lines: _Lines,
        handshake: FakeHandshake,
    ) -> bytes:
        """Send a key inside TLS; return the bytes to send before the next plain line."""
        key = self._random.randbytes(16)
        line = b"none\n" if profile.fault("bad-tls-key") else key.hex().encode() + b"\n"
        plain, late = send_key(sock, tls, line, lines.rest())
        lines.add(plain)
        handshake.complete_tls(key)
        return late

    def _record_request(self, request: bytes) -> None:
        self.requests += 1
        if self._record is not None:
            self._record.write(request + b"\n")

    def _challenge(self) -> bytes:
        return b"%d%d" % (os.getpid(), time.time())

    def _build_key(self) -> bytes:
        """Return a build key in lond's format (protocol.md, section 4)."""
        ends = [b"%d" % self._random.randrange(100_000) for _ in range(3)]
        middle = b"%d%d%s" % (time.time(), os.getpid(), ends[2])
        return ends[0] + middle.translate(bytes.maketrans(b"123456", b"ABCDEF")) + ends[1]


def _read_key(sock: socket.socket, path: bytes) -> bytes | None:
    """Read and remove the key file of a client of this machine; return None if it is not one.

    lond checks the peer's address only (protocol.md, 3c). Since the file is removed, the fake lond
    also checks that it is a key file.
    """
    if sock.getpeername()[0] != "127.0.0.1":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            digits = stream.read(_KEY_DIGITS + 2) if stat.S_ISREG(mode) else b""
        if stat.S_IMODE(mode) != _KEY_MODE or not _KEY.fullmatch(digits):
            return None
        os.unlink(path)  # noqa: PTH108 - the path is bytes
    except OSError:
        return None
    return bytes.fromhex(digits[:_KEY_DIGITS].decode())


def _just_ready(sock: socket.socket, profile: Profile) -> None:
    """Play the faults between the handshake and the first request."""
    idle_line = profile.fault("idle-line")
    if idle_line is not None:
        gevent.sleep(idle_line.number / 1000)
        sock.sendall(EXTRA_LINE)
    if profile.fault("half-open") is not None:
        stay_half_open()


class _Lines:
    r"""Lines of a socket, without their `\n`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append bytes that were read elsewhere."""
        self._data += data

    def rest(self) -> bytes:
        """Remove and return the buffered bytes."""
        data = bytes(self._data)
        self._data.clear()
        return data

    def read(self) -> bytes | None:
        """Return the next line; None at the end, or if a line is longer than _MAX_LINE."""
        searched = 0
        while (end := self._data.find(b"\n", searched)) < 0:
            searched = len(self._data)
            chunk = self._sock.recv(_CHUNK) if searched <= _MAX_LINE else b""
            if not chunk:
                return None
            self._data += chunk
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line
