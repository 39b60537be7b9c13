# SPDX-License-Identifier: GPL-2.0-or-later
"""The listening Unix sockets and all client connections of the daemon.

A single connection is served in client_connection.py.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import gevent

from lonc_gevent.eventloop import DisconnectLimiter, MemoryBudget

from .client_connection import ClientConnection
from .listeners import Listener, listen, remove, take_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.backend.transaction import Transaction

    from .access_control import AccessControl

MAX_SPARE = 1024
"""Client connections kept for the next clients. Of more than these the greenlets end.

One takes some 4 KB. With 256, a tenth of the CPU time of 1,000 clients went into new greenlets."""

ACCEPT_PAUSE = 0.25
"""Seconds without accepting once descriptors or memory have run out."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Clients:
    """All listening sockets and all client connections of the daemon.

    draining  clients are disconnected once they have their replies
    closed    clients are disconnected before they can ask again
    closing   either of the two
    holding   no client is accepted: a restart in place waits for what is under way

    max_clients  the number of clients that leaves descriptors for everything else; further ones
                 get con_lost
    """

    def __init__(self, hub: Hub, logger: FilteringBoundLogger, *, access: AccessControl) -> None:
        self.hub = hub
        self.log = logger
        self.access = access
        self.memory = MemoryBudget()
        """Counts long requests."""
        self.disconnects = DisconnectLimiter(hub)
        self.listeners: dict[Path, Listener] = {}
        self.connections: set[ClientConnection] = set()
        self.accepted = 0
        self.max_clients = sys.maxsize
        self.holding = self.draining = self.closed = self.closing = False
        self._spare: list[ClientConnection] = []
        self._pause: gevent.Greenlet[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Clients {self.count} on {len(self.listeners)} sockets>"

    @property
    def count(self) -> int:
        """The number of clients connected now."""
        return len(self.connections) - len(self._spare)

    @property
    def denied(self) -> int:
        """The number of clients that were not admitted."""
        return self.access.denied

    # -- listening ---------------------------------------------------------------------------

    def listen(
        self,
        path: Path,
        on_accept: Callable[[int], None],
        *,
        mode: int,
        gid: int = -1,
        inherited: tuple[int, int] | None = None,
    ) -> None:
        """Open a socket and accept clients from now on. Raises as `listeners.listen`.

        on_accept: called with the descriptor of each client, in the hub
        inherited: descriptor and inode of this socket from before a restart in place.
        """
        sock = take_up(path, *inherited, mode, gid) if inherited else None
        sock = sock or listen(path, mode, gid)
        self.listeners[path] = listener = Listener(
            self.hub, path, sock, on_accept, self._accept_failed
        )
        if self._pause is None and not self.holding:
            listener.acceptor.start()

    def serve(
        self,
        pool: Pool,
        fd: int,
        unread: bytes | None = None,
        transaction: Transaction | None = None,
    ) -> None:
        """Serve a client, if it is admitted.

        unread       bytes that the program before a restart in place has read; None for a new one
        transaction  the request of the client that this program was given
        """
        if self.access.is_open and (unread is not None or self.count < self.max_clients):
            uid: int | None = -1
        else:
            uid = self._admit(fd, pool)
        if uid is None:
            os.close(fd)
            return
        if unread is None:
            self.accepted += 1
        if self._spare:
            connection = self._spare.pop()
        else:
            connection = ClientConnection(self)
            self.connections.add(connection)
        connection.start(pool, fd, uid, unread or b"", transaction)

    def _admit(self, fd: int, pool: Pool) -> int | None:
        try:
            return self.access.admit(fd, pool.host.id, is_full=self.count >= self.max_clients)
        except OSError:  # disconnected already
            return None

    def _accept_failed(self, error: OSError) -> None:
        """Pause accepting, as the next accept would fail, too. Clients wait in the backlog."""
        if error.errno not in _OUT_OF_RESOURCES:
            self.log.error("accept_failed", error=error.strerror)
        if self._pause is None:
            self._pause = gevent.spawn_later(ACCEPT_PAUSE, self._resume_accepting)
            self.log.error("accept_paused", error=error.strerror, clients=self.count)
            self._stop_accepting()

    def _resume_accepting(self) -> None:
        self._pause = None
        self.log.info("accept_resumed", clients=self.count)
        self._start_accepting()

    def _start_accepting(self) -> None:
        for listener in self.listeners.values():
            listener.acceptor.start()

    def _stop_accepting(self) -> None:
        for listener in self.listeners.values():
            listener.acceptor.stop()

    def ended(self, connection: ClientConnection) -> bool:
        """Note the end of a connection; return whether its greenlet is kept for the next one."""
        if connection.uid >= 0:
            self.access.release(connection.uid)
        if len(self._spare) < MAX_SPARE:
            self._spare.append(connection)
            return True
        self.connections.discard(connection)
        return False

    # -- restart in place --------------------------------------------------------------------

    def hold(self) -> None:
        """Accept no client until `go_on`."""
        self.holding = True
        self._end_pause()
        self._stop_accepting()

    def go_on(self) -> None:
        """Accept clients again, after a restart that did not take place."""
        if self.holding:
            self.holding = False
            self._start_accepting()

    def served(self) -> Iterator[ClientConnection]:
        """Yield the connections that serve a client now."""
        return (connection for connection in self.connections if not connection.is_spare)

    @property
    def under_way(self) -> int:
        """The number of clients that wait for a reply, or for the rest of one."""
        return sum(connection.transaction is not None for connection in self.connections)

    @property
    def is_writing(self) -> bool:
        """Whether a client has not taken its whole reply yet."""
        found = (connection.transaction for connection in self.connections)
        return any(each is not None and each.reply is not None for each in found)

    # -- the end -----------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Remove the sockets; clients that wait in their backlogs are accepted first."""
        self.draining = self.closing = True
        for listener in self.listeners.values():
            remove(listener.path, listener.inode)
        for path in tuple(self.listeners):
            self.close_listener(path)
        self._end_pause()

    def close_listener(self, path: Path) -> None:
        """Remove a socket; clients that wait in its backlog are accepted first."""
        self.listeners.pop(path).close()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.kill(block=False)
            self._pause = None

    @property
    def unfinished(self) -> bool:
        """Whether a client waits for a reply, or has sent a request that is not read yet."""
        return any(each.transaction is not None or each.has_input for each in self.served())

    def close(self) -> None:
        """Disconnect all clients that are left, also those that never stop asking."""
        self.closed = self.closing = True
        for connection in tuple(self.served()):
            connection.stream.expire()
