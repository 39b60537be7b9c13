# SPDX-License-Identifier: GPL-2.0-or-later
"""An HTTP client that never pauses: `python flood.py SOCKET KIND`, until it is killed.

Prints a line once the first bytes are sent. The connection is made anew when the server ends it.
"""

from __future__ import annotations

import select
import socket
import sys
from contextlib import suppress

_POST = b"POST /hosts/msul2/nothing HTTP/1.1\r\nHost: localhost\r\n"
_CHUNK = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"

KINDS = {
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
"""What is said once on each connection, and what is said after it without an end."""


def flood(path: str, kind: str) -> None:
    """Write as fast as the socket takes it, and read and drop all that is answered."""
    first, more = KINDS[kind]
    said = False
    while True:
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.connect(path)
            sock.setblocking(False)
            left = memoryview(first + more)
            while True:
                readable, writable, _ = select.select([sock], [sock], [])
                if readable and not sock.recv(1 << 20):
                    break
                if writable:
                    left = left[sock.send(left) :] or memoryview(more)
                    if not said:
                        said = True
                        sys.stdout.write("attacking\n")
                        sys.stdout.flush()


if __name__ == "__main__":
    flood(*sys.argv[1:])
