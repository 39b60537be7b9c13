# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated lond for a pool in this process: no TCP, no handshake, and a clock that is moved.

The pool, its connections, their streams and `Lond.exchange` are the real ones. Only the dial is
simulated: a socket pair whose other end, the peer, is held by the test, which decides what comes
of it. So a test can have every interleaving that a network could bring, one step at a time.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from greenlet import getcurrent
from hosts import host_settings

from lonc_gevent.backend.lond import Lond
from lonc_gevent.backend.lond_connection import LondConnection
from lonc_gevent.backend.pool import Pool
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.backend.transaction import QueueBudget, Transaction, never
from lonc_gevent.configuration.settings import HostSettings
from lonc_gevent.configuration.settings import Pool as PoolSettings
from lonc_gevent.errors import ConnectTimeoutError, UnreachableError
from lonc_gevent.eventloop import DeadlineError
from lonc_gevent.protocol.handshake import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lonc_gevent.eventloop import Stream
    from lonc_gevent.protocol.lines import Line

MADE = b"+"
"""Sent by a peer in place of a handshake."""

NOTHING, CALLBACKS, ONE_ITERATION, ALL = range(4)
"""How long the loop runs: not at all; callbacks that are ready; one iteration, with input; until
every greenlet waits for an action of the test."""


def run_loop(how: int) -> None:
    """Run the loop so long. The same in each run only inside `without_switch_interval`."""
    if how == CALLBACKS:
        gevent.sleep(0)
    for _ in range({ONE_ITERATION: 1, ALL: 6}.get(how, 0)):
        gevent.idle()


@contextmanager
def without_switch_interval() -> Iterator[None]:
    """Keep gevent from polling for input each 5 ms, so that each run is the same."""
    before = gevent.getswitchinterval()
    gevent.setswitchinterval(3600.0)
    try:
        yield
    finally:
        gevent.setswitchinterval(before)


def settings(**pool: Any) -> HostSettings:
    """Return the settings of a host; keyword arguments go into its pool's.

    Its times are so long that the real clock plays no part: `SimPool.pass_time` does.
    """
    times = {
        "connect_timeout": 10_000.0,
        "reply_timeout": 30_000.0,
        "queue_timeout": 20_000.0,
        "idle_timeout": 100_000.0,
        "retry_backoff_min": 5_000.0,
        "retry_backoff_max": 40_000.0,
    }
    return host_settings(dns_name="msul2.invalid", pool=PoolSettings(**(times | pool)))


class Events:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def bind(self, **fields: Any) -> Events:
        """Return itself, there is one host; keep what is bound."""
        self.bound = fields
        return self

    def info(self, event: str, **fields: Any) -> None:
        """Keep an event."""
        self.events.append((event, fields))

    warning = error = exception = info

    def count(self, event: str, **fields: Any) -> int:
        """Return how often an event with these fields was logged."""
        return sum(name == event and fields.items() <= found.items() for name, found in self.events)


class Peer:
    """lond's end of one connection."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.made = False
        self.open = True
        self.reading = True
        self.received: list[bytes] = []
        """The requests that arrived whole, without their newlines."""
        self.unanswered: bytes | None = None
        """The last one, until it is answered."""
        self.unsent = b""
        """The rest of a reply that was sent in part."""
        self._rest = b""
        self._unread = b""

    @property
    def begun(self) -> list[bytes]:
        """The requests that arrived, the last one perhaps in part, or unread as the peer closed."""
        return [*self.received, *filter(None, (self._rest + self._unread).split(b"\n"))]

    @property
    def expects_more(self) -> bool:
        """Whether a request, or a part of one, has arrived and is not answered."""
        return self.unanswered is not None or bool(self._rest)

    def receive(self) -> list[bytes]:
        """Read what has arrived; return the new requests."""
        new: list[bytes] = []
        while self.open and self.reading:
            try:
                data = self.sock.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                break
            if not data:
                self.close()
                break
            *lines, self._rest = (self._rest + data).split(b"\n")
            new += lines
        if new:
            self.received += new
            self.unanswered = new[-1]
        return new

    def send(self, data: bytes) -> None:
        """Send bytes; close if the other end is closed."""
        try:
            self.sock.send(data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close this end, which is a reset if unread data has arrived."""
        with suppress(OSError):
            self._unread = self.sock.recv(1 << 20, socket.MSG_PEEK)
        self.open = False
        self.sock.close()


class SimConnection(LondConnection):
    """A connection whose handshake is the line MADE of a Peer."""

    __slots__ = ()

    def __hash__(self) -> int:
        """Return the same number in each run, so that sets have the same order in each run."""
        return self.number

    def _connect(self) -> Lond:
        pool = self._pool
        assert isinstance(pool, SimPool)
        stream = self.stream
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.setblocking(False)
        stream.open(ours.detach())
        stream.deadline = monotonic() + pool.host.pool.connect_timeout
        pool.peers.append(Peer(self.number, theirs))
        try:
            self._shake_hands(stream)
        except BaseException:
            stream.close()
            raise
        session = Session(bytes(16), None, host_set=False, fell_back=pool.fell_back)
        return Lond(stream, session, pool.host.server_id, pool.host.pool.max_reply_bytes)

    @staticmethod
    def _shake_hands(stream: Stream) -> None:
        try:
            data = stream.read()
        except OSError:
            raise UnreachableError("the peer has closed") from None
        except DeadlineError:
            raise ConnectTimeoutError("the peer does not answer") from None
        if data != MADE:
            raise UnreachableError("the peer did not send MADE")


class SimPool(Pool):
    """The real pool with a simulated lond; it counts how often each transaction ends."""

    fell_back = ""
    """Why its sessions are not encrypted although they were to be."""

    connection_class = SimConnection

    def __init__(self, host: HostSettings, **options: Any) -> None:
        self.events = Events()
        budget = QueueBudget(host.pool.max_queued_bytes)
        log: Any = self.events
        super().__init__(
            host, gevent.get_hub(), log, credentials=Credentials(), budget=budget, **options
        )
        self.budget = budget
        self.peers: list[Peer] = []
        self.ends: dict[int, int] = {}
        self.submitted: list[Transaction] = []
        self.returned: set[int] = set()

    def ask(self, request: bytes, is_abandoned: Callable[[], bool] = never) -> Line:
        """Send a request in the calling greenlet; return the reply."""
        return self.transact(Transaction(request, getcurrent(), monotonic(), is_abandoned))

    def submit(self, transaction: Transaction) -> None:
        """Note that it began."""
        self.submitted.append(transaction)
        self.ends[id(transaction)] = 0
        super().submit(transaction)

    def requeue(self, transaction: Transaction) -> None:
        """Note that it comes back."""
        self.returned.add(id(transaction))
        super().requeue(transaction)

    def finish(self, transaction: Transaction, reply: Any, reason: str = "") -> None:
        """Count its end."""
        self.ends[id(transaction)] += 1
        super().finish(transaction, reply, reason)

    def _abandon(self, transaction: Transaction) -> None:
        self.ends[id(transaction)] += 1
        super()._abandon(transaction)

    def _refuse(self, transaction: Transaction, reason: str) -> None:
        self.ends[id(transaction)] += 1
        super()._refuse(transaction, reason)

    @property
    def waiting(self) -> list[Transaction]:
        """What is in the queue, as it lies there."""
        return list(self.queue.waiting.queue)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, in the way that costs none.

        Not the clock goes on: all that was written down of it moves back, which is the same to
        whoever compares the two.
        """
        for transaction in self.submitted:
            transaction.since -= seconds
        for connection in self.connections:
            connection.idle_since -= seconds if connection.idle_since else 0.0
            connection._started -= seconds
            connection.stream.deadline -= seconds
        self.gate.opens_at -= seconds
        self._refused_log._due -= seconds

    def dispose(self) -> None:
        """Leave nothing behind."""
        for peer in self.peers:
            peer.close()
