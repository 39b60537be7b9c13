# SPDX-License-Identifier: GPL-2.0-or-later
"""Access control of the Unix sockets: which users may connect, and how many clients at a time.

The kernel returns the user of a client (SO_PEERCRED). That is a system call for each client, so it
is made only if a limit or a list is configured.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from contextlib import suppress
from socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from lonc_gevent.configuration.accounts import group_ids, user_ids
from lonc_gevent.logs.throttle import Throttle
from lonc_gevent.protocol.lines import CON_LOST

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import Sockets

DENIED_LOG_INTERVAL: Final = 10.0
"""Seconds between two `client_denied` events of one kind."""


class Peer(NamedTuple):
    """The process at the other end of a Unix socket, as the kernel recorded it."""

    pid: int
    uid: int
    gid: int


def peer_of(fd: int) -> Peer:
    """Return the process that connected, from the kernel. Raises OSError."""
    # With its family and type given, socket() makes no system call and no other descriptor.
    sock = socket(AF_UNIX, SOCK_STREAM, 0, fileno=fd)
    try:
        return Peer(*struct.unpack("3i", sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)))
    finally:
        sock.detach()


class AccessControl:
    """Decides whether a client is admitted; counts the clients.

    The caller of `admit` calls `release` when an admitted client has disconnected. If `is_open`,
    it need call neither.
    """

    def __init__(self, settings: Sockets, logger: FilteringBoundLogger) -> None:
        self.log = logger
        self.denied = 0
        self._uids = user_ids(settings.allow_uids)
        self._gids = group_ids(settings.allow_gids)
        self._is_restricted = bool(settings.allow_uids or settings.allow_gids)
        self._always = (0, os.geteuid())
        self._max = settings.max_clients
        self._max_per_uid = settings.max_clients_per_uid
        self._by_uid: Counter[int] = Counter()
        self._total = 0
        self._throttles = {
            reason: Throttle(DENIED_LOG_INTERVAL)
            for reason in ("not_allowed", "max_clients", "max_clients_per_uid")
        }
        self.is_open = not (self._is_restricted or self._max or self._max_per_uid)
        """Whether each client is admitted: no limit and no list is configured."""

    def __repr__(self) -> str:
        return f"<AccessControl {'open' if self.is_open else f'{self._total} clients'}>"

    def admit(self, fd: int, host: str, *, is_full: bool = False) -> int | None:
        """Admit a client and return its uid, for `release`; None if the caller is to close it.

        is_full: whether there is no descriptor for another client

        A client over a limit gets con_lost, as if lond had been lost. Raises OSError.
        """
        peer = peer_of(fd)
        if self._is_restricted and not (
            peer.uid in self._always or peer.uid in self._uids or peer.gid in self._gids
        ):
            self._deny(peer, host, "not_allowed")
            return None
        if is_full or (self._max and self._total >= self._max):
            reason = "max_clients"
        elif self._max_per_uid and self._by_uid[peer.uid] >= self._max_per_uid:
            reason = "max_clients_per_uid"
        else:
            self._total += 1
            self._by_uid[peer.uid] += 1
            return peer.uid
        with suppress(OSError):
            os.write(fd, CON_LOST)
        self._deny(peer, host, reason)
        return None

    def release(self, uid: int) -> None:
        """Count an admitted client no more: it has disconnected."""
        self._total -= 1
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]

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
