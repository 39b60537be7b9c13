# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of a host that a restart in place hands over (daemon/handover.py).

Each class is made by the `snapshot` method of the object that it describes, and given to the
`restore` method of the object that takes its place in the next program. Times are monotonic
seconds: the clock goes on over an exec. A program decodes only what one with the same
`daemon.handover.VERSION` has encoded, so VERSION changes whenever one of these classes does, or one
that they refer to, unless a field with a default is added.
"""

from __future__ import annotations

from msgspec import Struct

from lonc_gevent.configuration.settings import HostSettings
from lonc_gevent.protocol.handshake import Session

from .pool_state import Change
from .resolver import Address
from .retry_gate import RetryGate
from .stats import HostStats


class Snapshot(Struct, frozen=True):
    """Base class. Keys, requests and replies are not shown by `repr`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class TransactionSnapshot(Snapshot, frozen=True):
    """A request without a whole reply.

    owner  what waits for the reply: the descriptor of a client connection, or -1 - n for the n-th
           request of the delayed directory; None: nothing any more
    """

    request: bytes
    since: float
    owner: int | None


class ConnectionSnapshot(Snapshot, frozen=True):
    """A lond connection after its handshake, between two requests or after (a part of) one.

    host_id      the id of the last sethost
    transaction  the request of which a part or all was sent; None between two requests
    started      when the connection took that request
    unsent       the part of the request, as it is sent, that the kernel has not taken yet
    received     what has arrived of its reply
    is_last      whether the connection ends after this reply
    """

    fd: int
    number: int
    session: Session
    host_id: bytes
    address: Address | None
    idle_since: float
    transaction: TransactionSnapshot | None = None
    started: float = 0.0
    unsent: bytes = b""
    received: bytes = b""
    is_last: bool = False


class PoolSnapshot(Snapshot, frozen=True):
    """A host.

    since       when its state was entered
    changes     the last changes of its state
    made        what `PoolConnections.session` has of the connection that was made last
    probe_at    when it is tried without a request if it is down; None: never
    is_leaving  whether it is not served any more, and has a transaction in progress
    """

    host: HostSettings
    gate: RetryGate
    stats: HostStats
    queue: tuple[TransactionSnapshot, ...]
    connections: tuple[ConnectionSnapshot, ...]
    next_number: int
    probe_at: float | None
    last_error: str
    is_down: bool
    is_paused: bool
    is_leaving: bool
    since: float
    changes: tuple[Change, ...]
    made: dict[str, str | None]


class DelayedSnapshot(Snapshot, frozen=True):
    """A delayed request in the queue or at lond. `attempts` were made before this one."""

    host: str
    file: bytes
    attempts: int
