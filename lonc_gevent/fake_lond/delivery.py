# SPDX-License-Identifier: GPL-2.0-or-later
"""How the fake lond's answers go out: at once and whole, unless a fault says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import gevent

if TYPE_CHECKING:
    from gevent.socket import socket

    from .commands import Answer

EXTRA_LINE = b"unsolicited\n"
_CHUNK = 65536
_NEVER_WHOLE = frozenset({"drop-before", "drop-middle", "mute", "half-open", "unended", "endless"})


def deliver(sock: socket, answer: Answer) -> bool:
    """Send an answer as its fault wants it; tells whether the connection goes on.

    Raises OSError if the client is gone.
    """
    name, number = answer.fault or ("", 0)
    if name in _NEVER_WHOLE:
        _never_whole(sock, name, number, answer.line)
        return False
    if name == "delay":
        gevent.sleep(number / 1000)
    if name == "drip":
        for byte in answer.line:
            sock.sendall(bytes([byte]))
            gevent.sleep(number / 1000)
    elif answer.line:
        sock.sendall(answer.line + EXTRA_LINE if name == "extra-line" else answer.line)
    if name == "later-line":
        gevent.sleep(number / 1000)
        sock.sendall(EXTRA_LINE)
    return not answer.close and name != "drop-after"


def _never_whole(sock: socket, name: str, number: int, line: bytes) -> None:
    """Play a fault after which there is nothing more to say on this connection."""
    if name == "half-open":
        stay_half_open()
    if name == "drop-middle":
        # Never the newline, and at least one byte where there is one.
        sock.sendall(line[: max(len(line) // 2, 1)].rstrip(b"\n"))
    while name == "endless":
        sock.sendall(b"u" * number)
        gevent.sleep(0)
    if name == "unended":
        sock.sendall(b"u" * number)
    if name in ("unended", "mute"):
        while sock.recv(_CHUNK):
            pass


def stay_half_open() -> NoReturn:
    """Keep a connection without reading from it, until this greenlet is killed."""
    while True:
        gevent.sleep(3600)
