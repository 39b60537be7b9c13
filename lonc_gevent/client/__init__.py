# SPDX-License-Identifier: GPL-2.0-or-later
"""Client library for web processes: lonnet's `reply` and `critical` in Python.

    from lonc_gevent.client import Client, command, parse_list

    client = Client(timeout=5)                               # one for the whole process
    client.reply(b"ping", "msul2")                           # the reply, as bytes
    client.critical(b"put:msu:smith:notes:a=b", "msul2")     # the reply, or CON_DELAYED
    client.many({"msul1": b"load", "msul2": b"load"})        # host -> reply or error
    msul2 = client.host("msul2")
    names = msul2.reply(command("get", "msu", "ada", "environment", ["firstname"]), check=True)
    parse_list(names)                                        # ["Ada"]

`reply`, `critical` and `many` are functions of a default client, with a connection for each call.

Needs only the standard library, not gevent. Works in threads and, with gevent's monkey patching by
the application, in greenlets. `AsyncClient` is for asyncio, and `lonc_gevent.client.aio` has the
other names for it. The socket directory is given by `sockets=` or by the environment variable
LONC_CONFIG, the path of the daemon's TOML file (reading it needs msgspec).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import common
from .blocking import Client, Connection, Host, critical, many, reply
from .common import *  # noqa: F403 - all that does not wait

if TYPE_CHECKING:
    from .aio import AsyncClient

__all__ = ["AsyncClient", "Client", "Connection", "Host", "critical", "many", "reply"]
__all__ += common.__all__


def __getattr__(name: str) -> type[AsyncClient]:
    if name == "AsyncClient":
        from .aio import AsyncClient  # noqa: PLC0415 - asyncio is slow to import

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
