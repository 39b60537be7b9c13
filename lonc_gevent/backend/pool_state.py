# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of a pool, and the transitions between them.

    idle        no connection, and the last attempt, if any, succeeded: the next request makes one
    connecting  the first connection is being made
    up          there is a connection
    down        no connection, and the last attempt failed: requests get con_lost at once until
                the retry gate opens
    paused      requests wait in the queue until an operator resumes the host
    stopping    no request is taken any more; those in progress finish

PoolConnections._enter (pool_connections.py), which Pool inherits, is the only place that changes
the state. It refuses a transition that is not in TRANSITIONS. The diagram in docs/architecture.md
is made from the table.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class PoolState(Enum):
    """State of a host; the values are those that its status shows (contract.md)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    PAUSED = "paused"
    STOPPING = "stopping"


class Change(NamedTuple):
    """A change of a host's state: when (seconds since 1970), the new state, the error if down."""

    at: float
    state: str
    error: str


_IDLE, _CONNECTING, _UP, _DOWN, _PAUSED, _STOPPING = PoolState

TRANSITIONS: Final[dict[tuple[PoolState, PoolState], str]] = {
    (_IDLE, _CONNECTING): "a request, or the warm-up after a start",
    (_CONNECTING, _UP): "connected",
    (_CONNECTING, _DOWN): "attempt failed",
    (_CONNECTING, _IDLE): "attempt ended by us",
    (_UP, _IDLE): "last connection closed, nothing waits",
    (_UP, _CONNECTING): "last connection closed, requests wait",
    (_UP, _DOWN): "connections ended before they could serve",
    (_DOWN, _UP): "connected",
    (_IDLE, _PAUSED): "pause",
    (_CONNECTING, _PAUSED): "pause",
    (_UP, _PAUSED): "pause",
    (_DOWN, _PAUSED): "pause",
    (_PAUSED, _IDLE): "resume, no connection",
    (_PAUSED, _CONNECTING): "resume, connection being made",
    (_PAUSED, _UP): "resume, connection there",
    (_PAUSED, _DOWN): "resume, was down before",
    (_IDLE, _STOPPING): "stop",
    (_CONNECTING, _STOPPING): "stop",
    (_UP, _STOPPING): "stop",
    (_DOWN, _STOPPING): "stop",
    (_PAUSED, _STOPPING): "stop",
}
"""Cause of each transition, by its first and its second state."""
