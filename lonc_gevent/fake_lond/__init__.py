# SPDX-License-Identifier: GPL-2.0-or-later
"""The fake lond: lond's side of the protocol, for development, the demo and tests.

faults.py     faults, by name
handshake.py  lond's side of the handshake, a transition table like the client's
commands.py   answers to commands after the handshake; Profile is its identity and behaviour
delivery.py   sending of answers: at once, late, in pieces, in part, or never
server.py     FakeLond, the TCP server, with start, stop and port
tls.py        lond's side of TLS
command.py    `lonc-gevent lond`
"""

from __future__ import annotations

from .commands import Profile
from .faults import Fault, parse_fault
from .server import FakeLond

__all__ = ["FakeLond", "Fault", "Profile", "parse_fault"]
