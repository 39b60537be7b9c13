# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that send requests until TERM, then print how many there were and which failed.

    python3 load.py SOCKET

Runs in a bare system: the standard library only.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import BufferedRWPair

CLIENTS = 4
"""Of each kind: with one connection for all requests, and with a connection for each."""

PAUSE = 0.005
"""Seconds between two requests of a client."""

SECONDS = 60.0
"""That a reply may take."""

stop = threading.Event()


class Client(threading.Thread):
    """A client that counts its requests and keeps a text for each that failed."""

    def __init__(self, path: str, number: int, *, keeps: bool) -> None:
        super().__init__()
        self.requests = 0
        self.failures: list[str] = []
        self.slowest = 0.0
        self._path = path
        self._number = number
        self._keeps = keeps

    def run(self) -> None:
        """Send requests until the end."""
        stream = None
        while not stop.wait(PAUSE):
            text = f"{self._number}-{self.requests}"
            self.requests += 1
            began = time.monotonic()
            try:
                stream = stream or self._connect()
                stream.write(f"echo:{text}\n".encode())
                stream.flush()
                reply = stream.readline().decode()
                if reply != f"{text}\n":
                    self.failures.append(f"{text}: {reply!r}")
                    stream = None
            except OSError as error:
                self.failures.append(f"{text}: {error}")
                stream = None
            self.slowest = max(self.slowest, time.monotonic() - began)
            if not self._keeps:
                stream = None

    def _connect(self) -> BufferedRWPair:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SECONDS)
        client.connect(self._path)
        return client.makefile("rwb")


def main() -> None:
    """Run the clients until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    clients = [Client(sys.argv[1], i, keeps=i % 2 == 0) for i in range(2 * CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    result = {
        "requests": sum(client.requests for client in clients),
        "lost": sum(len(client.failures) for client in clients),
        "slowest_s": round(max(client.slowest for client in clients), 3),
        "failures": [failure for client in clients for failure in client.failures][:20],
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
