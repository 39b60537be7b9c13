# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP to the admin socket of a test's daemon."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class UnixConnection(HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path, timeout: float = PATIENCE) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def exchange(connection: HTTPConnection, method: str, path: str, **headers: str) -> Response:
    """Send one request on the connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    response = connection.getresponse()
    return Response(response.status, dict(response.getheaders()), response.read())


def http(net: Network, path: str, method: str = "GET", **headers: str) -> Response:
    """Send one request to the admin socket; `_` in a header's name stands for `-`."""
    connection = UnixConnection(net.sockets / "lonc-admin")
    try:
        return exchange(connection, method, path, **headers)
    finally:
        connection.close()


def host_status(net: Network, host: str) -> Any:
    """Return a host's entry in the status document."""
    return http(net, f"/hosts/{host}").json["host"]
