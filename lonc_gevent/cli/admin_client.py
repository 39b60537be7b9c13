# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP requests of the commands to the daemon's admin socket."""

from __future__ import annotations

import os
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Final
from urllib.parse import quote

import msgspec

from .common import user_name

EXIT_NO_DAEMON: Final = 5

OK: Final = 200
NOT_FOUND: Final = 404

TIMEOUT: Final = 10.0
"""Seconds to wait for the daemon's answer."""

FAILURES: Final = (OSError, HTTPException, msgspec.DecodeError)
"""What is raised if the daemon does not answer, or with something else than expected."""


class _UnixConnection(HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: str, target: str, *, method: str = "GET", timeout: float = TIMEOUT
) -> tuple[int, bytes]:
    """Return the status code and the body of an answer. Raises OSError and HTTPException."""
    with closing(_UnixConnection(path, timeout)) as connection:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()


def host_path(host: str, command: str = "") -> str:
    """Return the path of a host on the admin socket, or of a command for it."""
    return f"/hosts/{quote(host, safe='')}" + (f"/{command}" if command else "")


def no_daemon(path: str, error: Exception) -> str:
    """Return the message for a socket on which no daemon answers, or that may not be used."""
    if isinstance(error, PermissionError):
        try:
            owner = user_name(Path(path).stat().st_uid)
        except OSError:
            owner = "the daemon's user"
        you = user_name(os.geteuid())
        return (
            f"{path}: permission denied: you are {you}, the socket is for {owner};"
            f" run this as {owner}, or let your group use the socket (admin.group)"
        )
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    return f"{path}: no daemon answers here ({reason})"
