# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending of the fake lond's answers: at once and whole, unless there is a fault."""

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
    """Send an answer with its fault; return whether the connection continues.

    Raises OSError if the client has disconnected.
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
    """Play a fault after which the connection is not used any more."""
    if name == "half-open":
        stay_half_open()
    if name == "drop-middle":
        # At least one byte, if there is one, and never the newline.
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
    """Keep the connection open without reading, until this greenlet is killed."""
    while True:
        gevent.sleep(3600)
