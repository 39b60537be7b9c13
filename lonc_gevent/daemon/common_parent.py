# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket on which lonnet asks for the socket of a host (sockets.common_parent).

lonnet (2007 and later) connects here when it cannot connect to the socket of a host. It writes
`<dns name>:<host id>:<other ids...>`, reads `done`, and tries the host again (protocol.md,
section 2). All sockets of known hosts are open here, so only a host that was added to hosts.tab
since it was last read has none: it is read again, as USR2 does.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gevent
from gevent import socket

from lonc_gevent.configuration.hosts_tab import dns_path
from lonc_gevent.configuration.names import is_host_id

from .file_watch import version

if TYPE_CHECKING:
    from collections.abc import Callable

    from lonc_gevent.configuration.settings import Configuration
    from lonc_gevent.frontend.access_control import AccessControl

TIMEOUT: Final = 8.0
"""Seconds from connection to answer; lonnet waits for 10."""

POLL: Final = 0.02
"""Seconds between two looks for a new socket while hosts.tab is read."""

MAX_CLIENTS: Final = 64
MAX_LINE: Final = 4096


class CommonParent:
    """Answers `done` once a socket of the host exists; disconnects if there will be none."""

    def __init__(self, configuration: Callable[[], Configuration], access: AccessControl) -> None:
        self._configuration = configuration
        self._access = access
        self._clients = 0
        self._read: tuple[object, ...] = ()

    def __repr__(self) -> str:
        return f"<CommonParent {self._clients} clients>"

    def accept(self, fd: int) -> None:
        """Serve a client in a greenlet of its own. Called in the hub."""
        client = socket.socket(fileno=fd)
        uid = None if self._clients >= MAX_CLIENTS else self._admit(fd)
        if uid is None:
            client.close()
            return
        self._clients += 1
        serve = partial(gevent.with_timeout, TIMEOUT, self._serve, client, timeout_value=None)
        gevent.spawn(serve).link(lambda _: self._end(uid))

    def _admit(self, fd: int) -> int | None:
        if self._access.is_open:
            return -1
        try:
            return self._access.admit(fd, "common_parent")
        except OSError:  # disconnected already
            return None

    def _end(self, uid: int) -> None:
        self._clients -= 1
        if uid >= 0:
            self._access.release(uid)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            line = client.makefile("rb").readline(MAX_LINE)
            names = line.decode("ascii", "replace").strip().split(":")
            paths = [self._directory / name for name in names if is_host_id(name)]
            if not any(path.is_socket() for path in paths) and self._read_again():
                while not any(path.is_socket() for path in paths):
                    gevent.sleep(POLL)
            if any(path.is_socket() for path in paths):
                client.sendall(b"done\n")

    @property
    def _directory(self) -> Path:
        return Path(self._configuration().settings.sockets.directory)

    def _read_again(self) -> bool:
        """Have hosts.tab read again if it has changed; return whether it is read."""
        path = self._configuration().settings.network.hosts_tab
        now = (*version(path), *version(dns_path(path)))
        if now == self._read:
            return False
        self._read = now
        signal.raise_signal(signal.SIGUSR2)
        return True
