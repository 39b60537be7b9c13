# SPDX-License-Identifier: GPL-2.0-or-later
"""Heavy load on the daemon: many clients in one thread, every reply of them checked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Self

import gevent
from gevent import socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CON_LOST_PAUSE = 0.01
"""Seconds before a client that got con_lost sends its next request; it comes at once when down."""


def texts(limit: int | None, size: int) -> Iterator[bytes]:
    """Give `limit` unique texts, or texts without end, of 9 to `size` bytes."""
    for number in count() if limit is None else range(limit):
        yield b"%08d:" % number + b"x" * (number * 7919 % (size - 8))


class Load:
    """Clients that send one unique request after another, in a thread with a hub of its own.

    path        the host's Unix socket
    connecting  clients that make a connection for each request
    keeping     clients that keep theirs
    requests    how many all of them send together; None: until `stop`
    size        the longest request, in bytes

    As a context manager it runs from the beginning of the block to its end.
    """

    def __init__(
        self,
        path: Path,
        *,
        connecting: int = 0,
        keeping: int = 0,
        requests: int | None = None,
        size: int = 64,
    ) -> None:
        self.outcomes = Counter[str]()
        """How often a request ended how: ok, con_lost, wrong, closed, or an error's name."""
        self.answered: set[bytes] = set()
        self.longest = 0.0
        """Seconds that the slowest request took."""
        self._path = str(path)
        self._kept = [False] * connecting + [True] * keeping
        self._texts = texts(requests, size)
        self._stopped = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let all requests end, and send no more."""
        self._stopped = True
        self._thread.join()

    def wait(self) -> None:
        """Wait until all requests have ended."""
        self._thread.join()

    def run(self) -> Self:
        """Send all requests, and return."""
        self._thread.start()
        self.wait()
        return self

    def rate(self, seconds: float) -> float:
        """Return how many requests a second are answered rightly, from now on for so long."""
        before, began = self.outcomes["ok"], time.monotonic()
        time.sleep(seconds)
        return (self.outcomes["ok"] - before) / (time.monotonic() - began)

    def _run(self) -> None:
        gevent.joinall([gevent.spawn(self._client, kept) for kept in self._kept])

    def _client(self, kept: bool) -> None:
        sock: socket.socket | None = None
        for text in self._texts:
            if self._stopped:
                break
            began = time.monotonic()
            try:
                if sock is None:
                    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    sock.settimeout(60.0)
                    sock.connect(self._path)
                outcome = self._ask(sock, text)
            except OSError as error:
                outcome = type(error).__name__
            self.longest = max(self.longest, time.monotonic() - began)
            self.outcomes[outcome] += 1
            if outcome == "con_lost":
                gevent.sleep(CON_LOST_PAUSE)
            if sock and not (kept and outcome in ("ok", "con_lost")):
                sock.close()
                sock = None
        if sock:
            sock.close()

    def _ask(self, sock: socket.socket, text: bytes) -> str:
        sock.sendall(b"echo:" + text + b"\n")
        reply = b""
        while not reply.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:
                return "closed"
            reply += data
        if reply == text + b"\n":
            self.answered.add(text)
            return "ok"
        return "con_lost" if reply == b"con_lost\n" else "wrong"
