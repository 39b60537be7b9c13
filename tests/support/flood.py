# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that never pauses: `python flood.py DIRECTORY KIND PID`, until it is killed.

DIRECTORY is that of the daemon's sockets, PID the daemon. Prints a line once the attack has begun.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_POST = b"POST /hosts/msul2/nothing HTTP/1.1\r\nHost: localhost\r\n"
_CHUNK = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"

HTTP = {
    "pipelined": (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000),
    "pipelined_status": (b"", b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500),
    "pipelined_metrics": (b"", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500),
    "chunked_body": (_POST + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK * 32),
    "small_chunks": (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10000),
    "body": (_POST + b"Content-Length: 999999999999\r\n\r\n", b"x" * (1 << 18)),
    "headers": (b"GET /healthz HTTP/1.1\r\n", b"X-Filler: x\r\n" * 10000),
    "long_header": (b"GET /healthz HTTP/1.1\r\nX-Filler: ", b"x" * (1 << 18)),
    "request_line": (b"GET /", b"x" * (1 << 18)),
}
"""Of HTTP clients: what is sent once on each connection, and after it what is sent without end."""

LINES = {
    "requests": b"ping\n" * 10000,
    "control_lines": b"reset_retries\n" * 10000,
    "close_lines": b"close_connection_exit\n" * 10000,
    "empty_lines": b"\n" * 100_000,
    "line_without_end": b"x" * (1 << 18),
    "encrypted_lines": (b"encrypt:echo:" + b"x" * 100_000 + b"\n") * 3,
    "blanks": b" " * (1 << 18),
    "endless_replies": b"fault:endless:262144\n" * 100,
    "replies_in_bytes": b"fault:drip:1:" + b"x" * 1000 + b"\n",
}
"""Of web processes: what is sent without end to the socket of msul2."""


def write_without_end(path: Path, first: bytes, more: bytes) -> None:
    """Write as fast as the socket takes it, and read and drop all replies."""
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.connect(str(path))
        sock.setblocking(False)
        left = memoryview(first + more)
        while True:
            readable, writable, _ = select.select([sock], [sock], [])
            if readable and not sock.recv(1 << 20):
                break
            if writable:
                left = left[sock.send(left) :] or memoryview(more)
                report()


def connect(path: Path) -> None:
    """Connect and disconnect; a request is sent in each second connection only."""
    for number in range(1000):
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.connect(str(path))
            if number % 2:
                sock.sendall(b"ping\n")
    report()


def send_signals(pid: int) -> None:
    """Request status reports."""
    with suppress(ProcessLookupError):
        for _ in range(1000):
            os.kill(pid, signal.SIGUSR1)
    report()


def write_delayed_files(directory: Path) -> None:
    """Write delayed requests for a host that is down."""
    for number in count(time.time_ns()):
        path = directory / f"{number // 10**9}.{number % 10**9}.1.put.gone"
        path.touch(mode=0o600)
        path.write_bytes(b"put:x\n")
        report()


def report() -> None:
    """Print that the attack has begun, once."""
    if not BEGUN:
        BEGUN.append(True)
        sys.stdout.write("attacking\n")
        sys.stdout.flush()


BEGUN: list[bool] = []

OTHERS = ("connects", "signals", "delayed_files")


def attack(sockets: Path, kind: str, pid: int) -> Callable[[], None]:
    """Return the attack of this kind, to be repeated."""
    if kind in HTTP:
        return partial(write_without_end, sockets / "lonc-admin", *HTTP[kind])
    if kind in LINES:
        return partial(write_without_end, sockets / "msul2", b"", LINES[kind])
    if kind == "connects":
        return partial(connect, sockets / "msul2")
    if kind == "signals":
        return partial(send_signals, pid)
    return partial(write_delayed_files, sockets / "delayed")


if __name__ == "__main__":
    repeated = attack(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    while True:
        repeated()
