# SPDX-License-Identifier: GPL-2.0-or-later
"""A bare relay to compare with: the least that gevent needs to forward lines.

A `StreamServer` on each Unix socket, a queue for each host, a greenlet for each of its five lond
connections. No handshake, no limits, no timeouts, no log, no metrics, no retry: lond must answer
plain lines (lond.c, --raw), and must not go away.

    bare_relay.py PORT SOCKET...
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.queue import Queue
from gevent.server import StreamServer

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 5
"""To the lond of each host, as many as lonc makes by default."""
BACKLOG = 4096
CHUNK = 65536


def read_line(sock: socket.socket, rest: bytes = b"") -> bytes:
    """Read one line; less than that, b"" included, if the other side closes before its end."""
    if rest.endswith(b"\n"):
        return rest
    parts = [rest]
    while data := sock.recv(CHUNK):
        parts.append(data)
        if data.endswith(b"\n"):
            break
    return b"".join(parts)


def serve_lond(port: int, queue: Queue[tuple[bytes, AsyncResult[bytes]]]) -> None:
    """Carry one request after another over one connection to lond."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        request, result = queue.get()
        sock.sendall(request)
        result.set(read_line(sock))


def client_handler(
    queue: Queue[tuple[bytes, AsyncResult[bytes]]],
) -> Callable[[socket.socket, object], None]:
    """Make the function that serves one client of a host."""

    def serve_client(sock: socket.socket, _address: object) -> None:
        try:
            while request := read_line(sock):
                result: AsyncResult[bytes] = AsyncResult()
                queue.put((request, result))
                sock.sendall(result.get() or b"")
        except OSError:
            pass  # the client is gone

    return serve_client


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1])
    for path in sys.argv[2:]:
        queue: Queue[tuple[bytes, AsyncResult[bytes]]] = Queue()
        for _ in range(CONNECTIONS):
            gevent.spawn(serve_lond, port, queue)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(BACKLOG)
        StreamServer(listener, client_handler(queue)).start()
    print("ready", flush=True)
    gevent.get_hub().join()


if __name__ == "__main__":
    main()
