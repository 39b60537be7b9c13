# SPDX-License-Identifier: GPL-2.0-or-later
"""Client library for web processes: lonnet's `reply` and `critical` in Python.

    from lonc_gevent.client import ConLost, critical, reply

    reply(b"ping", "msul2")                                  # the reply, as bytes
    reply(b"ping", "msul2", on_con_lost="return")            # CON_LOST is a value, as in lonnet
    critical(b"put:msu:smith:notes:a=b", "msul2")            # the reply, or CON_DELAYED
    many({"msul1": b"load", "msul2": b"load"}, timeout=2)    # host -> reply or error
    with Connection("msul2") as connection:                  # kept open, for loops
        connection.reply(b"ping")

Needs only the standard library, not gevent. Works in threads and, with gevent's monkey patching by
the application, in greenlets. `lonc_gevent.client.aio` has the same names for asyncio. The socket
directory is given by `sockets=` or by the environment variable LONC_CONFIG, the path of the
daemon's TOML file (reading it needs msgspec).
"""

from __future__ import annotations

from .blocking import Connection, critical, many, reply
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
