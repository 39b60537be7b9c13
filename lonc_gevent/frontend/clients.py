# SPDX-License-Identifier: GPL-2.0-or-later
"""The web processes on the Unix sockets: who is accepted, and all clients together.

What is said with each of them is in conversation.py.
"""

from __future__ import annotations

import errno
import os
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from .client_connection import Client, Held, HeldError
from .listeners import Listener, listen, remove, take_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.eventloop.turns import Turns

    from .access_control import Door

ACCEPT_BURST = 64
"""Clients accepted in one go, before others have their turn."""

MAX_SPARE = 256
"""Greenlets kept for the next clients; after a burst the rest of them ends."""

ACCEPT_PAUSE = 0.25
"""Seconds without accepting once descriptors or memory have run out."""

_OUT_OF_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Clients:
    """All listeners and all clients of the daemon.

    A restart in place holds them: no more are accepted, and each that has its reply goes to
    `held`, with what it has said since.

    `watch` is called when something begins that has a deadline; then `tend` must be called
    every tick until it says that all is quiet.
    """

    def __init__(
        self,
        turns: Turns,
        logger: FilteringBoundLogger,
        *,
        door: Door,
        watch: Callable[[], None],
    ) -> None:
        self.turns = turns
        self.hub = turns.hub
        self.log = logger
        self.watch = watch
        self.listeners: dict[Path, Listener] = {}
        self.clients: set[Client] = set()
        self.slow: set[Client] = set()
        self.accepted = 0
        self.door = door
        self.holding = False
        self.held: list[Held] = []
        self._spare: list[Client] = []
        self._resume_at = inf

    def __repr__(self) -> str:
        return f"<Clients {self.count} on {len(self.listeners)} sockets>"

    @property
    def count(self) -> int:
        """The number of clients connected now."""
        return len(self.clients) - len(self._spare)

    @property
    def denied(self) -> int:
        """The number of clients that were not let in."""
        return self.door.denied

    # -- listening ---------------------------------------------------------------------------

    def listen(
        self,
        path: Path,
        pool: Pool,
        *,
        mode: int,
        gid: int = -1,
        inherited: tuple[int, int] | None = None,
    ) -> None:
        """Open a host's socket; clients are served from now on. Raises as `listeners.listen`.

        inherited: descriptor and inode of this socket from before a restart in place.
        """
        sock = take_up(path, *inherited, mode, gid) if inherited else None
        listener = Listener(path, pool, sock or listen(path, mode, gid), self._accept)
        self.listeners[path] = listener
        self.turns.watch(listener)

    def _accept(self, listener: Listener) -> bool:
        """Accept who waits; return whether there may be more."""
        # A descriptor, not a socket object: it costs a third.
        accept = listener.sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        for count in range(listener.likely):
            try:
                fd, _address = accept()
            except BlockingIOError:
                listener.likely = count or 1
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return False
            os.set_blocking(fd, False)
            uid = -1 if self.door.is_open else self._ask_at_the_door(fd, listener.pool)
            if uid is None:
                os.close(fd)
                continue
            self.accepted += 1
            if self._spare:
                client = self._spare.pop()
            else:
                client = Client(self)
                self.clients.add(client)
            client.uid = uid
            client.serve(listener.pool, fd)
        listener.likely = min(listener.likely + 1, ACCEPT_BURST)
        return True

    def _ask_at_the_door(self, fd: int, pool: Pool) -> int | None:
        try:
            return self.door.admits(fd, pool.host.id)
        except OSError:  # gone already, or no descriptor left to ask with
            return None

    def _pause(self, error: OSError) -> None:
        """Leave waiting clients in the backlog: an accept that fails would fail at once again."""
        if error.errno not in _OUT_OF_ROOM:
            self.log.error("accept_failed", error=error.strerror)
        if self._resume_at == inf:
            self.log.error("accept_paused", error=error.strerror, clients=self.count)
        self._resume_at = monotonic() + ACCEPT_PAUSE
        for listener in self.listeners.values():
            self.turns.unwatch(listener.fd)
        self.watch()

    def keep(self, client: Client) -> bool:
        """Take a client's greenlet back for the next one; False: it is to end."""
        if len(self._spare) < MAX_SPARE:
            self._spare.append(client)
            return True
        self.clients.discard(client)
        return False

    # -- what time asks for ------------------------------------------------------------------

    def tend(self, now: float) -> bool:
        """Do all that is due; return whether nothing here has a deadline."""
        for client in tuple(self.slow):
            if client.stream.deadline <= now:
                client.stream.expire()
        if self._resume_at <= now:
            self._resume_at = inf
            self.log.info("accept_resumed", clients=self.count)
            for listener in self.listeners.values():
                self.turns.watch(listener)
        return not self.slow and self._resume_at == inf

    # -- a restart in place ------------------------------------------------------------------

    def hold(self) -> None:
        """Accept nobody, and read no further request. The pools must be `draining`."""
        self.holding = True
        self._resume_at = inf
        for listener in self.listeners.values():
            self.turns.unwatch(listener.fd)
        self.turns.flush()  # or its clients would seem to wait for their replies
        for client in self.clients:
            if not (client.is_spare or client.answering):
                client.stream.fail(HeldError(), readers_only=True)

    def go_on(self) -> None:
        """Serve all again: the restart is off."""
        self.holding = False
        held, self.held = self.held, []
        for client in held:
            self.adopt(*client)
        for listener in self.listeners.values():
            self.turns.watch(listener)

    def adopt(self, pool: Pool, fd: int, unread: bytes) -> None:
        """Serve a client that is accepted already, and from which `unread` was read."""
        uid = -1 if self.door.is_open else self._ask_at_the_door(fd, pool)
        if uid is None:
            os.close(fd)
            return
        client = Client(self)  # a spare one may be waiting for bytes, not for what is unread
        client.uid = uid
        self.clients.add(client)
        client.serve(pool, fd, unread)

    @property
    def under_way(self) -> int:
        """How many clients wait for a reply, or for the rest of one."""
        return sum(client.answering for client in self.clients)

    # -- the end -----------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Remove the sockets; clients that wait in the backlog are accepted first."""
        for listener in self.listeners.values():
            remove(listener.path, listener.inode)
        for path in tuple(self.listeners):
            self.close_listener(path)
        self._resume_at = inf

    def close_listener(self, path: Path) -> None:
        """Remove a socket; clients that wait in its backlog are accepted first."""
        listener = self.listeners.pop(path)
        remove(path, listener.inode)
        while self._accept(listener):
            pass
        self.turns.unwatch(listener.fd)
        listener.close()

    @property
    def unfinished(self) -> bool:
        """Whether a client still is to get a reply: it waits, or has asked and nobody read it.

        While they are held: whether one is not held yet. What is asked then is for later.
        """
        return any(
            not client.is_spare and (self.holding or client.answering or client.has_input)
            for client in self.clients
        )

    def close(self) -> None:
        """Close all that is left."""
        for client in tuple(self.clients):
            if not client.is_spare:
                client.stream.expire()
