# SPDX-License-Identifier: GPL-2.0-or-later
"""The lond connections of a host, and the state of the host that follows from them.

Connections are made one at a time, each in its own greenlet, never in a client's. After a failed
attempt the retry gate is shut for a while. Pool, the subclass in pool.py, adds the requests.
"""

from __future__ import annotations

from collections import deque
from math import inf
from random import random
from time import monotonic, time
from typing import TYPE_CHECKING, cast

from lonc_gevent.errors import NotSentError

from .lond_connection import LondConnection
from .pool_state import TRANSITIONS, Change, PoolState
from .retry_gate import RetryGate
from .stats import HostStats
from .transaction import TransactionQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.errors import LondError

    from .lond_connection import PoolInterface
    from .resolver import Address
    from .tls import Credentials
    from .transaction import QueueBudget

RETRY_NOW_INTERVAL = 1.0
"""Seconds between two attempts of one host by `retry_now`."""

RENEW_INTERVAL = 1.0
"""Seconds between two times that clients have the connections of a host ended."""

MAX_CHANGES = 50
"""Changes of state that are kept of each host."""


class PoolConnections:
    """One host's connections, its retry gate, its counters and its state. See `Pool`.

    `connections` holds each connection: being made, busy or idle. `idle` holds the idle ones.
    """

    connection_class = LondConnection
    """Class of the connections; tests replace it."""

    def __init__(  # noqa: PLR0913 - settings and collaborators, each used
        self,
        host: HostSettings,
        hub: Hub,
        logger: FilteringBoundLogger,
        *,
        credentials: Credentials,
        budget: QueueBudget,
        schedule: Callable[[], None],
        on_up: Callable[[], None],
    ) -> None:
        self.host = host
        self.hub = hub
        self.log = logger.bind(host=host.id)
        self.credentials = credentials
        self.memory = budget.replies
        self.stats = HostStats()
        self.gate = RetryGate(host.pool.retry_backoff_min, host.pool.retry_backoff_max)
        self.queue = TransactionQueue(budget)
        self.connections: set[LondConnection] = set()
        self.idle: list[LondConnection] = []
        self.connecting: LondConnection | None = None
        self.last_error = ""
        self.session: dict[str, object] = {}
        """Fields of the connection that was made last: `peer`, `security`."""
        self.state = PoolState.IDLE
        self.since = monotonic()
        """When the state was entered (monotonic seconds)."""
        self.changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self.is_ending = False
        """Whether the pool is stopping and takes no request any more."""
        self._schedule = schedule
        self._on_up = on_up
        self._is_scheduled = False
        self._is_down = False
        self._down_since = 0.0
        self._is_probing = False
        self._retry_now_at = self._renew_at = -inf
        self._probe_at = inf
        self._next_number = 0

    # -- state -------------------------------------------------------------------------------

    @property
    def is_down(self) -> bool:
        """Whether `host_down` was logged, and `host_up` was not yet: also while paused."""
        return self._is_down

    @property
    def busy(self) -> int:
        """The number of transactions in progress on lond connections."""
        return sum(c.transaction is not None for c in self.connections)

    def _enter(self, state: PoolState) -> None:
        """Change the state. Raises AssertionError for a transition that is not in TRANSITIONS."""
        if state is not self.state:
            if (self.state, state) not in TRANSITIONS:
                raise AssertionError(f"{self.host.id}: from {self.state.value} to {state.value}")
            if state is PoolState.PAUSED:
                self.log.info("host_paused", queue=len(self.queue))
            elif self.state is PoolState.PAUSED and state is not PoolState.STOPPING:
                paused = monotonic() - self.since
                self.log.info("host_resumed", queue=len(self.queue), paused_s=round(paused, 1))
            self.state = state
            self.since = monotonic()
            if state is not PoolState.CONNECTING:
                error = self.last_error if state is PoolState.DOWN else ""
                self.changes.append(Change(time(), state.value, error))
            self.is_ending = state is PoolState.STOPPING

    def _follow_connections(self) -> None:
        """Enter the state that follows from the connections, unless paused or stopping."""
        if self.state not in (PoolState.PAUSED, PoolState.STOPPING):
            self._enter(self._by_connections())

    def _by_connections(self) -> PoolState:
        if len(self.connections) > (self.connecting is not None):
            return PoolState.UP
        if self._is_down:
            return PoolState.DOWN
        return PoolState.IDLE if self.connecting is None else PoolState.CONNECTING

    # -- requests: pool.py -------------------------------------------------------------------

    def _fail_queue(self) -> None:
        """End all queued transactions with con_lost, except while the host is paused."""
        raise NotImplementedError

    # -- connections -------------------------------------------------------------------------

    def open_connection(self, now: float) -> None:
        """Begin to make a connection.

        Does nothing while one is being made, at `max_connections`, while the host is paused or
        stopping, or while the retry gate is shut.
        """
        if (
            self.connecting is not None
            or len(self.connections) >= self.host.pool.max_connections
            or self.state in (PoolState.STOPPING, PoolState.PAUSED)
            or not self.gate.is_open(now)
        ):
            return
        if not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()
        self._next_number += 1
        # Pool has the rest of the interface.
        pool = cast("PoolInterface", self)
        self.connecting = connection = self.connection_class(pool, self._next_number)
        self.connections.add(connection)
        self._follow_connections()
        connection.start()

    def retry_now(self) -> None:
        """Open the retry gate, and try a host that is down at once, at most once a second.

        During that attempt one request, which caused it, waits in the queue; the others get
        con_lost at once, as before.
        """
        now = monotonic()
        if not self._is_down:
            self.gate.open()
        elif now >= self._retry_now_at:
            self._retry_now_at = now + RETRY_NOW_INTERVAL
            self.gate.open()
            self._is_probing = self.connecting is None
            self.open_connection(now)

    def connected(self, connection: LondConnection) -> None:
        """Note that the handshake of a connection is complete."""
        self.connecting = None
        self._is_probing = False
        self.stats.attempts["ok"] += 1
        self.gate.open()
        self.last_error = ""
        was_down, self._is_down = self._is_down, False
        self._follow_connections()
        self.session = connection.session_fields
        if was_down:
            self.log.info("host_up", down_s=round(monotonic() - self._down_since, 1))
            self._on_up()
        self.log.info("connection_made", **self.session)
        # The new connection takes the oldest request. If more wait, make one more.
        if len(self.queue) > 1:
            self.open_connection(monotonic())

    def connect_failed(self, connection: LondConnection, error: NotSentError) -> None:
        """Note that a connection could not be made, and shut the retry gate."""
        self.connecting = None
        self.connections.discard(connection)
        self.stats.attempts[error.kind] += 1
        self._attempt_failed(connection, error)

    def ended(self, connection: LondConnection, error: LondError | None = None) -> None:
        """Note the end of a connection; make another one if a request waits for it."""
        if connection not in self.connections:
            return  # killed while it was being made; `_kill` noted its end
        if self.connecting is connection:
            self.connecting = None
        self.connections.discard(connection)
        if connection in self.idle:  # no request must be assigned to it any more
            self.idle.remove(connection)
        if error is None:
            self.log.info("connection_closed", connection=connection.number)
        elif isinstance(error, NotSentError) and connection.stillborn:
            # Its transaction was requeued. Without the gate this would be a loop of attempts.
            self._attempt_failed(connection, error)
            return
        else:
            self.log.info(
                "connection_lost",
                connection=connection.number,
                error=error.kind,
                detail=str(error),
            )
        if self.queue:
            self.open_connection(monotonic())
            if not self.connections:
                self._fail_queue()
        self._follow_connections()

    def _attempt_failed(self, connection: LondConnection, error: NotSentError) -> None:
        self._is_probing = False
        now, share = monotonic(), random()  # noqa: S311 - jitter # nosec B311
        delay = self.gate.failed(now, share)
        # Not before the gate opens. Spread, so that hosts lost at one time are not tried at one.
        self._probe_at = now + self.gate.maximum * (0.5 + share / 2)
        self.last_error = f"{error.kind}: {error}"
        self.log.warning(
            "connection_failed",
            connection=connection.number,
            error=error.kind,
            detail=str(error),
            retry_in_s=round(delay, 3),
        )
        if not self.connections:
            if not self._is_down:
                self._is_down = True
                self._down_since = monotonic()
                self.log.warning("host_down", error=error.kind, detail=str(error))
            self._fail_queue()
        self._follow_connections()

    def renew_connections(self) -> None:
        """End the connections once idle (`close_connection_exit`), at most once a second.

        One that is being made is kept: else clients could keep a host from ever being reached.
        """
        now = monotonic()
        if now >= self._renew_at:
            self._renew_at = now + RENEW_INTERVAL
            self.idle.clear()
            for connection in self.connections - {self.connecting}:
                connection.close_when_idle()

    def close_connections(self) -> None:
        """End all connections once their transactions have ended."""
        self.idle.clear()
        for connection in self.connections:
            connection.close_when_idle()

    def close_connections_elsewhere(self, addresses: list[Address]) -> None:
        """End the connections to any other address, each once its transaction has ended."""
        elsewhere = [
            connection
            for connection in self.connections
            if connection.lond is not None
            and not connection.closing
            and connection.lond.address not in (None, *addresses)
        ]
        for connection in elsewhere:
            if connection in self.idle:
                self.idle.remove(connection)
            connection.close_when_idle()
        if elsewhere:
            self.log.info("host_moved", connections=len(elsewhere))

    def kill(self) -> None:
        """End all connections now; transactions in progress get con_lost."""
        for connection in tuple(self.connections):
            self._kill(connection)

    def _kill(self, connection: LondConnection) -> None:
        connection.kill()
        if connection is self.connecting:
            self.ended(connection)
