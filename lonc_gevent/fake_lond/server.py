# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond's TCP side: a greenlet a connection, as lond has a child a connection."""

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

from .commands import Manner
from .delivery import EXTRA_LINE, deliver, stay_half_open
from .handshake import Dialogue
from .tls import hand_over_key

if TYPE_CHECKING:
    from pathlib import Path

    from .tls import TlsManner

_BACKLOG = 1024
_CHUNK = 65536
_LONGEST = 1 << 28
_KEY_DIGITS = 32
_KEY_MODE = 0o600
_KEY = re.compile(rb"[0-9A-Fa-f]{32}\n?")


class FakeLond:
    """A fake lond that listens between `start` and `stop`.

    Port 0 picks one at the first start; later starts take the same one again, so that stopping
    and starting is a lond that was restarted. `record` is a file to which the text of each
    request is appended, in clear, before it is answered; lines before the key belong to the
    handshake and are no requests. As a context manager: started, stopped.
    """

    def __init__(
        self,
        manner: Manner | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        record: Path | None = None,
    ) -> None:
        self.manner = manner or Manner()
        """May be replaced at any time; connections made after that have the new one."""
        self.host = host
        self.port = port
        self.accepted = 0
        """Connections so far."""
        self.requests = 0
        """Requests so far."""
        self._record_path = record
        self._record: BinaryIO | None = None
        self._server: StreamServer | None = None
        self._connections = Pool()
        self._random = random.Random()  # noqa: S311 - it keeps no secrets # nosec B311

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<FakeLond {self.manner.ids[0]} port {self.port}>"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def start(self) -> None:
        """Listen. Raises OSError if the port cannot be had or the record cannot be written."""
        if self._record_path is not None:
            self._record = self._record_path.open("ab", buffering=0)
        server = StreamServer(
            (self.host, self.port), self._serve, backlog=_BACKLOG, spawn=self._connections
        )
        server.start()
        self._server = server
        self.port = int(server.server_port or 0)

    def stop(self) -> None:
        """Close the listening socket and every connection, at once. May be called twice."""
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
            self._converse(sock)
        except OSError:
            # The client went away, or reset us: a real lond's child ends here as well.
            return

    def _converse(self, sock: socket.socket) -> None:
        manner = self.manner
        dialogue = Dialogue(
            manner,
            challenge=self._challenge(),
            build_key=self._build_key(),
            read_key=partial(_read_key, sock),
        )
        lines = _Lines(sock)
        close_after = manner.fault("close-after")
        mine = 0
        late = b""
        while (text := lines.read()) is not None:
            was_ready = dialogue.ready
            answer = dialogue.receive(text)
            if answer.request is not None:
                mine += 1
                self._note(answer.request)
                if manner.delay_ms[1] > 0:
                    gevent.sleep(self._random.uniform(*manner.delay_ms) / 1000)
            if not deliver(sock, replace(answer, line=late + answer.line)):
                return
            late = b""
            if answer.start_tls and manner.tls is not None:
                late = self._do_tls(sock, manner, manner.tls, lines, dialogue)
            if close_after is not None and mine >= close_after.number:
                return
            if dialogue.ready and not was_ready:
                _just_ready(sock, manner)

    def _do_tls(
        self, sock: socket.socket, manner: Manner, tls: TlsManner, lines: _Lines, dialogue: Dialogue
    ) -> bytes:
        """Hand over a key inside TLS; return what is to go before the next plain line."""
        key = self._random.randbytes(16)
        line = b"none\n" if manner.fault("bad-tls-key") else key.hex().encode() + b"\n"
        plain, late = hand_over_key(sock, tls, line, lines.rest())
        lines.add(plain)
        dialogue.key_handed_over(key)
        return late

    def _note(self, request: bytes) -> None:
        self.requests += 1
        if self._record is not None:
            self._record.write(request + b"\n")

    def _challenge(self) -> bytes:
        return b"%d%d" % (os.getpid(), time.time())

    def _build_key(self) -> bytes:
        """Make one of the shape that lond makes (protocol.md, section 4)."""
        ends = [b"%d" % self._random.randrange(100_000) for _ in range(3)]
        middle = b"%d%d%s" % (time.time(), os.getpid(), ends[2])
        return ends[0] + middle.translate(bytes.maketrans(b"123456", b"ABCDEF")) + ends[1]


def _read_key(sock: socket.socket, path: bytes) -> bytes | None:
    """Read and remove the key file of a client of this machine; None if it is none.

    lond goes by the peer's address (protocol.md, 3c). This one wants, besides, a file that can
    only be a key file, as it removes it.
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
        os.unlink(path)  # noqa: PTH108 - the path is bytes, as it came
    except OSError:
        return None
    return bytes.fromhex(digits[:_KEY_DIGITS].decode())


def _just_ready(sock: socket.socket, manner: Manner) -> None:
    """Do what the faults want to happen between the handshake and the first request."""
    idle_line = manner.fault("idle-line")
    if idle_line is not None:
        gevent.sleep(idle_line.number / 1000)
        sock.sendall(EXTRA_LINE)
    if manner.fault("half-open") is not None:
        stay_half_open()


class _Lines:
    r"""Lines of a socket, without their `\n`; None at its end, or when one is absurdly long."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Take bytes that were read elsewhere."""
        self._data += data

    def rest(self) -> bytes:
        """Hand over what was read and not yet used."""
        data = bytes(self._data)
        self._data.clear()
        return data

    def read(self) -> bytes | None:
        searched = 0
        while (end := self._data.find(b"\n", searched)) < 0:
            searched = len(self._data)
            chunk = self._sock.recv(_CHUNK) if searched <= _LONGEST else b""
            if not chunk:
                return None
            self._data += chunk
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        return line
