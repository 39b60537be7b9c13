# SPDX-License-Identifier: GPL-2.0-or-later
"""What a web process imports to talk to the network: lonnet's `reply` and `critical`, for Python.

    from lonc_gevent.client import ConLost, critical, reply

    reply(b"ping", "msul2")                                  # the reply, as bytes
    reply(b"ping", "msul2", on_con_lost="return")            # CON_LOST is a value, as in lonnet
    critical(b"put:msu:smith:notes:a=b", "msul2")            # the reply, or CON_DELAYED
    many({"msul1": b"load", "msul2": b"load"}, timeout=2)    # host -> reply or error
    with Connection("msul2") as connection:                  # kept open, for loops
        connection.reply(b"ping")

It needs only the standard library, and no gevent; it works in threads and, patched by the
application, in greenlets. `lonc_gevent.client.aio` has the same names for asyncio. Where the
sockets are says LONC_CONFIG (the daemon's TOML file; reading it needs msgspec), or `sockets=`.
"""

from __future__ import annotations

from .blocking import Connection, many, reply
from .critical_request import critical
from .delayed import delay
from .errors import (
    ClientError,
    ConFailed,
    ConLost,
    HungUpError,
    NoDaemonError,
    TimedOutError,
    UnknownHostError,
)
from .escaping import escape, pack, unescape, unpack, unpack_list
from .lines import CON_DELAYED, CON_FAILED, CON_LOST
from .sockets import Sockets

__all__ = [
    "CON_DELAYED",
    "CON_FAILED",
    "CON_LOST",
    "ClientError",
    "ConFailed",
    "ConLost",
    "Connection",
    "HungUpError",
    "NoDaemonError",
    "Sockets",
    "TimedOutError",
    "UnknownHostError",
    "critical",
    "delay",
    "escape",
    "many",
    "pack",
    "reply",
    "unescape",
    "unpack",
    "unpack_list",
]
