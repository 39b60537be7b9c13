# SPDX-License-Identifier: GPL-2.0-or-later
"""A `lonc-gevent` that resolves names by a file of the test.

    python -m names_daemon FILE run --config FILE

A line of FILE is a name and its addresses. No look-up of another name that ends in `.dead` ever
ends; in place of the addresses, `thread` is for a name for which no thread can be started.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from lonc_gevent.backend import resolver
from lonc_gevent.cli import main


def names() -> dict[str, list[str]]:
    """Return the addresses by name, as they are in the file now."""
    lines = [line.split() for line in TABLE.read_text().splitlines()]
    return {name: addresses for name, *addresses in lines}


def getaddrinfo(name: str, port: int, **options: Any) -> list[Any]:
    """Behave as socket.getaddrinfo."""
    if options.get("flags"):
        return socket.getaddrinfo(name, port, **options)
    addresses = names().get(name)
    if addresses is not None:
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in addresses]
    if name.endswith(".dead"):
        time.sleep(3600)
    return socket.getaddrinfo(name, port, **options)


def start_new_thread(call: Any, arguments: tuple[()]) -> int:
    """Behave as _thread.start_new_thread where no more threads are allowed."""
    raise RuntimeError("can't start new thread")


if __name__ == "__main__":
    TABLE = Path(sys.argv.pop(1))
    mock.patch.object(resolver, "getaddrinfo", getaddrinfo).start()
    if not names():
        mock.patch.object(resolver, "start_new_thread", start_new_thread).start()
    main()
