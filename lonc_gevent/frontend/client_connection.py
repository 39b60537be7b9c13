# SPDX-License-Identifier: GPL-2.0-or-later
"""The greenlet of a web process's connection: read a line, hand it in, write the reply; again.

A client's greenlet reads a line and hands it to the host's pool, with its stream as the outlet for
the reply: whoever has the reply posts it there, and the greenlet sleeps on until there is more to
read. It writes only what nobody else can: replies to lines that came several at once, the rest of
what a client did not take, and all while clients are let go. Bytes after the line wait in its
buffer for the next turn, so several lines in one write are answered one by one, in order
(protocol.md, section 6, 12).

A greenlet that has served its client waits for the next one, with its stream and its buffer:
CPython 3.11 maps and unmaps a piece of stack for each new greenlet, which costs more than all
the rest of an accept. A client that leaves between two requests, as almost all do, is let go
without it: it sleeps on where it waits for the next request, which may be another client's. That
saves a switch to it and back, 5 % of a request with a connection of its own (scripts/BENCH.md).
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from greenlet import greenlet

from lonc_gevent.backend.transaction import POSTED, Transaction
from lonc_gevent.eventloop.participants import DeadlineError, UnsentError
from lonc_gevent.eventloop.stream import Stream
from lonc_gevent.eventloop.turns import give_turn
from lonc_gevent.protocol.lines import (
    CLOSE_CONNECTIONS,
    CON_LOST,
    OK,
    RESET_RETRIES,
    LineBuffer,
    LineTooLongError,
)

from .access_control import peer_of

if TYPE_CHECKING:
    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.eventloop.turns import Turns
    from lonc_gevent.protocol.lines import Line

    from .access_control import Door


IN_A_ROW: Final = 32
"""Lines of one client, read at once, that are answered before others have a turn."""


class Held(NamedTuple):
    """A client between two requests, to be served by this process after its restart."""

    pool: Pool
    fd: int
    unread: bytes
    """What was read of its next request, or of several."""


class HeldError(Exception):
    """The client is not served any more here: it is handed over."""


class Owner(Protocol):
    """What a client asks of all that it is one of."""

    hub: Hub
    turns: Turns
    log: FilteringBoundLogger
    slow: set[Client]
    holding: bool
    held: list[Held]
    door: Door

    def watch(self) -> None:
        """Hear that something begins here that has a deadline."""

    def keep(self, client: Client) -> bool:
        """Take the greenlet back for the next client; False: it is to end."""


class Client:
    """A greenlet that serves one client after another."""

    __slots__ = (
        "_buffer",
        "_clients",
        "_in_a_row",
        "_transaction",
        "greenlet",
        "is_spare",
        "pool",
        "stream",
        "uid",
    )

    def __init__(self, clients: Owner) -> None:
        self._clients = clients
        self._buffer = LineBuffer(0)
        self.stream = Stream(clients.turns)
        self.stream.on_end = self._let_go
        self.pool: Pool
        """Of the host that the client asks, or the last one asked."""
        self.is_spare = True
        self.uid = -1
        """For the door; -1: it did not ask."""
        self._in_a_row = 0
        self._transaction: Transaction | None = None
        self.greenlet = greenlet(self._run, clients.hub)

    def __repr__(self) -> str:
        state = "spare" if self.is_spare else "answering" if self.answering else "reading"
        return f"<Client {state} {self.stream!r}>"

    @property
    def answering(self) -> bool:
        """Whether a whole request was read whose reply is not all written yet."""
        transaction = self._transaction
        if transaction is not None and transaction.reply is not POSTED:
            return True
        return self.stream.posted is not None

    @property
    def has_input(self) -> bool:
        """Whether bytes of a request wait, here or in the kernel."""
        stream = self.stream
        return bool(self._buffer) or stream.data is not None or not stream.is_quiet()

    def serve(self, pool: Pool, fd: int, unread: bytes = b"") -> None:
        """Serve a client, in this object's own greenlet, from the next turn on."""
        self._buffer.limit = pool.host.pool.max_request_bytes
        self.pool = pool
        self.is_spare = False
        if unread:
            self.stream.reopen(fd)
            self._buffer.refill(unread)
            self._clients.turns.wake(self.greenlet)
        else:
            self.stream.reopen(fd, self.greenlet)

    def _run(self) -> None:
        clients = self._clients
        while True:
            while self.is_spare:
                clients.hub.switch()
            try:
                self._serve()
            except HeldError:
                unread = self._buffer.contents + (self.stream.data or b"")
                clients.held.append(Held(self.pool, self.stream.release(), unread))
            except (OSError, DeadlineError):
                pass  # the client is gone, or does not read: its own loss (contract.md)
            except Exception:  # the top of the greenlet: nothing is above it
                clients.log.exception("client_failed", host=self.pool.host.id)
            finally:
                was_spare = self.is_spare  # woken for no reason: then it was taken back already
                self._end()
            if not (was_spare or clients.keep(self)):
                return

    def _let_go(self) -> bool:
        """Let go a client that has left, in the hub; False: its greenlet is to do it, and to end.

        The stream calls this, while the greenlet waits for a request and no reply is going out.
        """
        if not self._clients.keep(self):
            return False
        self._end()
        return True

    def _end(self) -> None:
        """Close the stream, and forget all that is its client's."""
        self.is_spare = True
        self._transaction = None
        if self._buffer.data:
            self._buffer.clear()  # a spare one may wait for its next client for ever
        self.stream.close()
        if self.uid >= 0:
            self._clients.door.leave(self.uid)
            self.uid = -1

    def _serve(self) -> None:
        """Answer one request after the other, of one client after the other (see `_let_go`).

        Returns when the client is to be closed, or when a spare greenlet was woken for no reason;
        that may be an OSError, too, as there is no descriptor then.
        """
        stream = self.stream
        while not self.is_spare:
            try:
                reply = self._reply()
            except LineTooLongError:
                self._refuse_too_long(len(self._buffer))
                return
            if reply is None:
                return
            if reply is POSTED:
                if stream.posted is None:  # it went out some time ago
                    self._transaction = None
                    continue
                self._write_slowly()
            elif not (self._buffer.data or self.pool.draining):
                stream.post(reply)
            elif not stream.write_now(reply):
                self._write_slowly()
            # A client that keeps its connection open must not keep its last lines in memory.
            del reply
            self._transaction = None
            if self.pool.draining and self._leaves():
                return

    def _reply(self) -> Line | None:
        """Read the next request, and get its reply; None: the client leaves.

        POSTED: the stream has the reply, and more to read or to write. Raises LineTooLongError.
        """
        request = self._next()
        if request is None:
            return None
        pool = self.pool  # not before: it may be the next client's request
        if request == RESET_RETRIES:
            pool.gate.open()
            return OK
        if request == CLOSE_CONNECTIONS:
            pool.close_connections()
            return OK
        # Not the stream itself if the client has asked more already: it is to be woken for that.
        outlet = None if self._buffer.data else self.stream
        transaction = Transaction(request, self.greenlet, monotonic(), outlet)
        del request  # as above
        self._transaction = transaction
        pool.submit(transaction)
        return transaction.wait(self._clients.hub)

    def _next(self) -> Line | None:
        """Read the next request; None: the client leaves. Raises LineTooLongError."""
        buffer = self._buffer
        request = self._next_of_several() if buffer.data else None
        while request is None:
            try:
                data = self.stream.read()
            except UnsentError:
                self._write_slowly()
                if self.pool.draining and self._leaves():
                    return None
                continue
            if not data:
                return None
            request = buffer.add(data)
        return request

    def _next_of_several(self) -> Line | None:
        """Take the next line that was read before. Answers may need no wait: others have turns."""
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            self._in_a_row = 0
            give_turn(self._clients.hub)
        return self._buffer.take()

    def _leaves(self) -> bool:
        """Whether the client is to be let go, its reply written. Raises HeldError."""
        if self._clients.holding:
            raise HeldError
        return not self.has_input

    def _write_slowly(self) -> None:
        """Write what the client did not take at once. It costs this greenlet only."""
        host = self.pool.host
        slow = self._clients.slow
        size = len(self.stream.posted or b"")
        self.stream.deadline = monotonic() + host.pool.reply_timeout
        slow.add(self)
        self._clients.watch()
        try:
            self.stream.write_rest()
        except DeadlineError:
            self._clients.log.warning(
                "client_stalled", host=host.id, reply_bytes=size, **self._who()
            )
            raise
        finally:
            slow.discard(self)
            self.stream.deadline = inf

    def _refuse_too_long(self, size: int) -> None:
        self._clients.log.warning(
            "request_too_long",
            host=self.pool.host.id,
            request_bytes=size,
            error=f"over max_request_bytes = {self._buffer.limit}",
            **self._who(),
        )
        if not self.stream.write_now(CON_LOST):
            self._write_slowly()

    def _who(self) -> dict[str, int]:
        try:
            return {"client_pid": peer_of(self.stream.fd).pid}
        except OSError:
            return {}
