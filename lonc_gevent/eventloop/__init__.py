# SPDX-License-Identifier: GPL-2.0-or-later
"""Descriptors that greenlets wait on, over gevent's own watchers.

Stream             a descriptor with blocking-style read and write
Acceptor           accepts the connections of one listening socket
DisconnectLimiter  bounds how many disconnects one loop iteration handles
MemoryBudget       bounds the memory of long lines
yield_to_others    lets every other greenlet and descriptor run first
in_slices          the same, between the items of long work

Code outside this package uses no I/O watchers.
"""

from .acceptor import Acceptor, DisconnectLimiter
from .fairness import in_slices, yield_to_others
from .memory import LONG, UNLIMITED, MemoryBudget
from .stream import DeadlineError, Stream

__all__ = [
    "LONG",
    "UNLIMITED",
    "Acceptor",
    "DeadlineError",
    "DisconnectLimiter",
    "MemoryBudget",
    "Stream",
    "in_slices",
    "yield_to_others",
]
