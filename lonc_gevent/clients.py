# SPDX-License-Identifier: GPL-2.0-or-later
"""The web processes on the Unix sockets: accept, and one greenlet a client.

A client's greenlet reads a line, hands it to the host's pool, and writes the reply; then it reads
the next line. Bytes after the line wait in its buffer for the next turn, so several lines in
one write are answered one by one, in order (protocol.md, section 6, 12).

A greenlet that has served its client waits for the next one, with its stream and its buffer:
CPython 3.11 maps and unmaps a piece of stack for each new greenlet, which costs more than all
the rest of an accept.
"""

from __future__ import annotations

import errno
import os
import struct
from functools import partial
from math import inf
from socket import SO_PEERCRED, SOL_SOCKET, socket
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from greenlet import greenlet

from .listeners import listen, remove
from .rules.wire import (
    CLOSE_CONNECTIONS,
    CON_LOST,
    OK,
    RESET_RETRIES,
    LineBuffer,
    LineTooLongError,
)
from .stream import READ, DeadlineError, Stream, in_hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from .pool import Pool
    from .rules.wire import Line

ACCEPT_BURST = 64
"""Clients accepted in one go, before others have their turn."""

MAX_SPARE = 256
"""Greenlets kept for the next clients; after a burst the rest of them ends."""

ACCEPT_PAUSE = 0.25
"""Seconds without accepting once descriptors or memory have run out."""

_OUT_OF_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Peer(NamedTuple):
    """Who is at the other end of a Unix socket, by the kernel's word."""

    pid: int
    uid: int
    gid: int


def peer_of(fd: int) -> Peer:
    """Ask the kernel who connected. Raises OSError."""
    with socket(fileno=os.dup(fd)) as copy:
        return Peer(*struct.unpack("3i", copy.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)))


class Client:
    """A greenlet that serves one client after another."""

    __slots__ = ("_buffer", "_clients", "answering", "greenlet", "pool", "stream")

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._buffer = LineBuffer(0)
        self.stream = Stream(clients.hub)
        self.pool: Pool | None = None
        self.answering = False
        """Whether a whole request was read whose reply is not written yet."""
        self.greenlet = greenlet(self._run, clients.hub)

    def __repr__(self) -> str:
        state = "spare" if self.pool is None else "answering" if self.answering else "reading"
        return f"<Client {state} {self.stream!r}>"

    @property
    def has_input(self) -> bool:
        """Whether bytes of a request wait, here or in the kernel."""
        return bool(self._buffer) or not self.stream.is_quiet()

    def serve(self, pool: Pool, fd: int) -> None:
        """Begin to serve a client, in this object's own greenlet. Called in the hub."""
        self.stream.reopen(fd)
        self._buffer.clear()
        self._buffer.limit = pool.host.pool.max_request_bytes
        self.pool = pool
        self.greenlet.switch()

    def _run(self) -> None:
        clients = self._clients
        while True:
            while self.pool is None:
                clients.hub.switch()
            try:
                self._serve(self.pool)
            except (OSError, DeadlineError):
                pass  # the client is gone, or does not read: its own loss (contract.md)
            except Exception:  # the top of the greenlet: nothing is above it
                clients.log.exception("client_failed", host=self.pool.host.id)
            finally:
                self.answering = False
                self.pool = None
                self.stream.close()
            if not clients.keep(self):
                return

    def _serve(self, pool: Pool) -> None:
        stream = self.stream
        buffer = self._buffer
        while True:
            try:
                request = buffer.take()
                while request is None:
                    data = stream.read()
                    if not data:
                        return
                    request = buffer.add(data)
            except LineTooLongError:
                self._refuse_too_long(pool, len(buffer))
                return
            self.answering = True
            if request == RESET_RETRIES:
                pool.gate.open()
                reply: Line = OK
            elif request == CLOSE_CONNECTIONS:
                pool.close_connections()
                reply = OK
            else:
                reply = pool.transact(request)
            if not stream.write_now(reply):
                self._write_slowly(pool, reply)
            self.answering = False
            if pool.stopping and not self.has_input:
                return

    def _write_slowly(self, pool: Pool, reply: Line) -> None:
        """Write what the client did not take at once. It costs this greenlet only."""
        slow = self._clients.slow
        self.stream.deadline = monotonic() + pool.host.pool.reply_timeout
        slow.add(self)
        self._clients.watch()
        try:
            self.stream.write_rest(reply)
        except DeadlineError:
            self._clients.log.warning(
                "client_stalled", host=pool.host.id, reply_bytes=len(reply), **self._who()
            )
            raise
        finally:
            slow.discard(self)
            self.stream.deadline = inf

    def _refuse_too_long(self, pool: Pool, size: int) -> None:
        self._clients.log.warning(
            "request_too_long",
            host=pool.host.id,
            request_bytes=size,
            error=f"over max_request_bytes = {self._buffer.limit}",
            **self._who(),
        )
        if not self.stream.write_now(CON_LOST):
            self._write_slowly(pool, CON_LOST)

    def _who(self) -> dict[str, int]:
        try:
            return {"client_pid": peer_of(self.stream.fd).pid}
        except OSError:
            return {}


class Listener:
    """One host's Unix socket."""

    __slots__ = ("inode", "path", "pool", "sock", "watcher")

    def __init__(self, path: Path, pool: Pool, sock: socket, hub: Hub) -> None:
        self.path = path
        self.pool = pool
        self.sock = sock
        self.inode = path.stat().st_ino
        self.watcher = hub.loop.io(sock.fileno(), READ)

    def close(self) -> None:
        """Stop to listen, and remove the socket file."""
        remove(self.path, self.inode)
        self.watcher.stop()
        self.watcher.close()
        self.sock.close()


class Clients:
    """All listeners and all clients of the daemon.

    `watch` is called when something begins that has a deadline; then `tend` must be called
    every tick until it says that all is quiet.
    """

    def __init__(
        self,
        hub: Hub,
        logger: FilteringBoundLogger,
        *,
        allow_uids: frozenset[int],
        watch: Callable[[], None],
    ) -> None:
        self.hub = hub
        self.log = logger
        self.watch = watch
        self.listeners: dict[Path, Listener] = {}
        self.clients: set[Client] = set()
        self.slow: set[Client] = set()
        self.accepted = 0
        self.denied = 0
        self._allow_uids = allow_uids
        self._spare: list[Client] = []
        self._resume_at = inf
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Clients {self.count} on {len(self.listeners)} sockets>"

    @property
    def count(self) -> int:
        """The number of clients connected now."""
        return len(self.clients) - len(self._spare)

    # -- listening ---------------------------------------------------------------------------

    def listen(self, path: Path, pool: Pool, *, mode: int, gid: int = -1) -> None:
        """Open a host's socket; clients are served from now on. Raises as `listeners.listen`."""
        listener = Listener(path, pool, listen(path, mode, gid), self.hub)
        self.listeners[path] = listener
        listener.watcher.start(self._accept, listener)

    def _accept(self, listener: Listener) -> None:
        # A descriptor, not a socket object: it costs a third.
        accept = listener.sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        for _ in range(ACCEPT_BURST):
            try:
                fd, _address = accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            os.set_blocking(fd, False)
            if self._allow_uids and not self._is_allowed(fd, listener):
                os.close(fd)
                continue
            self.accepted += 1
            if self._spare:
                client = self._spare.pop()
            else:
                client = Client(self)
                self.clients.add(client)
            client.serve(listener.pool, fd)

    def _is_allowed(self, fd: int, listener: Listener) -> bool:
        peer = peer_of(fd)
        if peer.uid in self._allow_uids:
            return True
        self.denied += 1
        self.log.warning(
            "client_denied",
            host=listener.pool.host.id,
            client_pid=peer.pid,
            client_uid=peer.uid,
        )
        return False

    def _pause(self, error: OSError) -> None:
        """Leave waiting clients in the backlog: an accept that fails would fail at once again."""
        if error.errno not in _OUT_OF_ROOM:
            self.log.error("accept_failed", error=error.strerror)
        if self._resume_at == inf:
            self.log.error("accept_paused", error=error.strerror, clients=self.count)
        self._resume_at = monotonic() + ACCEPT_PAUSE
        for listener in self.listeners.values():
            listener.watcher.stop()
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
                listener.watcher.start(self._accept, listener)
        return not self.slow and self._resume_at == inf

    # -- the end -----------------------------------------------------------------------------

    def stop_listening(self) -> None:
        """Remove the sockets; clients that wait in the backlog are accepted first."""
        for listener in self.listeners.values():
            remove(listener.path, listener.inode)
        for listener in self.listeners.values():
            in_hub(self.hub, partial(self._accept, listener))
            listener.close()
        self.listeners.clear()
        self._resume_at = inf

    @property
    def answering(self) -> int:
        """How many clients have a request under way, or bytes of one that nobody read yet."""
        return sum(
            client.pool is not None and (client.answering or client.has_input)
            for client in self.clients
        )

    def close(self) -> None:
        """Close all that is left."""
        for client in tuple(self.clients):
            if client.pool is not None:
                client.stream.expire()
