# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may connect to the Unix sockets, and how many at a time.

The kernel says who is at the other end (SO_PEERCRED). That question costs a system call and 2 us
for each client, so it is asked only where a limit or a list is configured.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from contextlib import suppress
from socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from lonc_gevent.logs.throttle import Throttle
from lonc_gevent.protocol.lines import CON_LOST

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import Sockets

DENIED_LOG_INTERVAL: Final = 10.0
"""Seconds between two `client_denied` events of one kind."""


class Peer(NamedTuple):
    """Who is at the other end of a Unix socket, by the kernel's word."""

    pid: int
    uid: int
    gid: int


def peer_of(fd: int) -> Peer:
    """Ask the kernel who connected. Raises OSError."""
    # Told what it is, the socket object asks nothing; and no descriptor more is needed.
    sock = socket(AF_UNIX, SOCK_STREAM, 0, fileno=fd)
    try:
        return Peer(*struct.unpack("3i", sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)))
    finally:
        sock.detach()


class Door:
    """Lets clients in, or not. Who was let in by `admits` must `leave`."""

    def __init__(self, settings: Sockets, logger: FilteringBoundLogger) -> None:
        self.log = logger
        self.denied = 0
        self._uids = frozenset(settings.allow_uids)
        self._gids = frozenset(settings.allow_gids)
        self._most = settings.max_clients
        self._most_per_uid = settings.max_clients_per_uid
        self._inside: Counter[int] = Counter()
        self._total = 0
        self._throttles = {
            reason: Throttle(DENIED_LOG_INTERVAL)
            for reason in ("not_allowed", "max_clients", "max_clients_per_uid")
        }
        self.is_open = not (self._uids or self._gids or self._most or self._most_per_uid)
        """Whether everybody may come in: then there is no need to ask."""

    def __repr__(self) -> str:
        return f"<Door {'open' if self.is_open else f'{self._total} inside'}>"

    def admits(self, fd: int, host: str) -> int | None:
        """Let a client in and return its uid, for `leave`; None: it is to be closed.

        One too many is told con_lost, as a client that waits for a reply would be.
        """
        peer = peer_of(fd)
        if (self._uids or self._gids) and not (peer.uid in self._uids or peer.gid in self._gids):
            self._deny(peer, host, "not_allowed")
            return None
        if self._most and self._total >= self._most:
            reason = "max_clients"
        elif self._most_per_uid and self._inside[peer.uid] >= self._most_per_uid:
            reason = "max_clients_per_uid"
        else:
            self._total += 1
            self._inside[peer.uid] += 1
            return peer.uid
        with suppress(OSError):
            os.write(fd, CON_LOST)
        self._deny(peer, host, reason)
        return None

    def leave(self, uid: int) -> None:
        """Hear that a client that was let in is gone."""
        self._total -= 1
        self._inside[uid] -= 1
        if not self._inside[uid]:
            del self._inside[uid]

    def _deny(self, peer: Peer, host: str, reason: str) -> None:
        self.denied += 1
        count = self._throttles[reason].count(monotonic())
        if count:
            self.log.warning(
                "client_denied",
                host=host,
                client_pid=peer.pid,
                client_uid=peer.uid,
                client_gid=peer.gid,
                error=reason,
                count=count,
            )
