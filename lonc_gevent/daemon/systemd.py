# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd's `sd_notify`, for units of Type=notify: a datagram to the socket `NOTIFY_SOCKET`.

Without this environment variable the functions do nothing. They neither wait nor raise: the daemon
does not depend on its service manager.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from socket import AF_UNIX, SOCK_DGRAM, socket

VARIABLE = "NOTIFY_SOCKET"


def ready(status: str) -> None:
    """Notify systemd that requests are served; `systemctl status` shows `status`."""
    _send("READY=1", f"STATUS={status}")


def reloading() -> None:
    """Notify systemd that a restart in place begins; `ready` ends it, also if it was refused."""
    _send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Notify systemd that the stop has begun."""
    _send("STOPPING=1")


def _send(*lines: str) -> None:
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket(AF_UNIX, SOCK_DGRAM) as sock:
        sock.settimeout(0)
        sock.sendto("\n".join(lines).encode(), address)
