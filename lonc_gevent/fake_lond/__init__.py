# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond: the other side of the protocol, for development, the demo and tests.

faults.py     what it can do wrong, by name
dialogue.py   lond's side of the opening, a table like the client's
commands.py   what it answers once the client is let in; Manner says who it is
delivery.py   how an answer goes out: late, in pieces, partly, or never
server.py     the TCP side: FakeLond, with start, stop and port
command.py    `lonc-gevent lond`
"""

from __future__ import annotations

from .commands import Manner
from .faults import Fault, parse_fault
from .server import FakeLond

__all__ = ["FakeLond", "Fault", "Manner", "parse_fault"]
