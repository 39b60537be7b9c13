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

from lonc_gevent.backend.lond import Lond
from lonc_gevent.backend.lond_connection import LondConnection
from lonc_gevent.backend.pool import Pool
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.backend.transaction import QueueBudget
from lonc_gevent.configuration.settings import HostSettings
from lonc_gevent.configuration.settings import Pool as PoolSettings
from lonc_gevent.errors import ConnectTimeoutError, UnreachableError
from lonc_gevent.eventloop import DeadlineError
from lonc_gevent.protocol.handshake import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.backend.transaction import Transaction
    from lonc_gevent.eventloop import Stream

MADE = b"+"
"""What a peer says in place of a handshake."""

NO_TURN, CALLBACKS, ONE_ROUND, ALL = range(4)
"""How long the loop may run: not at all; what is ready now; one round, input included; until
every greenlet waits for something that only the test can bring."""


def turn(how: int) -> None:
    """Let the loop run so long. `no_hurry` must be in force, or chance plays a part."""
    if how == CALLBACKS:
        gevent.sleep(0)
    for _ in range({ONE_ROUND: 1, ALL: 6}.get(how, 0)):
        gevent.idle()


@contextmanager
def no_hurry() -> Iterator[None]:
    """Keep gevent from looking for input whenever 5 ms have passed: the same in each run."""
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
    return HostSettings(
        id="msul2",
        domain="msu",
        role="library",
        dns_name="msul2.invalid",
        address="",
        port=5663,
        security="insecure",
        negotiation="auto",
        client_id="msul1",
        server_id="msul2",
        pool=PoolSettings(**(times | pool)),
    )


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
        self.heard: list[bytes] = []
        """The requests that arrived whole, without their newlines."""
        self.asked: bytes | None = None
        """The one that is not answered yet."""
        self.unsaid = b""
        """The rest of a reply that was begun."""
        self._rest = b""
        self._unread = b""

    @property
    def begun(self) -> list[bytes]:
        """The requests that arrived, the last one perhaps in part, or unread as the peer closed."""
        return [*self.heard, *filter(None, (self._rest + self._unread).split(b"\n"))]

    @property
    def expects_more(self) -> bool:
        """Whether a request is under way here, or a part of one."""
        return self.asked is not None or bool(self._rest)

    def hear(self) -> list[bytes]:
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
            self.heard += new
            self.asked = new[-1]
        return new

    def say(self, data: bytes) -> None:
        """Send bytes as they are; the other end may be gone already."""
        try:
            self.sock.send(data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close this end: what was not read yet makes it a reset."""
        with suppress(OSError):
            self._unread = self.sock.recv(1 << 20, socket.MSG_PEEK)
        self.open = False
        self.sock.close()


class SimConnection(LondConnection):
    """A connection whose dial ends as the peer wants."""

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
            self._hear(stream)
        except BaseException:
            stream.close()
            raise
        session = Session(bytes(16), None, host_set=False, fell_back=pool.fell_back)
        return Lond(stream, session, pool.host.server_id, pool.host.pool.max_reply_bytes)

    @staticmethod
    def _hear(stream: Stream) -> None:
        try:
            data = stream.read()
        except OSError:
            raise UnreachableError("the peer is gone") from None
        except DeadlineError:
            raise ConnectTimeoutError("the peer does not answer") from None
        if data != MADE:
            raise UnreachableError("the peer does not want us")


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
