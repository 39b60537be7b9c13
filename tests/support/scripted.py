# SPDX-License-Identifier: GPL-2.0-or-later
"""A lond that says what a script tells it to, whatever it hears."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENING = 1.0
"""Seconds to wait for a line of the client."""


class ScriptedLond:
    """Answers each line that it hears with the next one of the script, then closes.

    An empty line of the script is for silence: it goes on to hear the next line.
    """

    def __init__(self, script: Sequence[bytes]) -> None:
        self._script = script
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(OPENING)
                self._follow(connection)

    def _follow(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for answer in self._script:
                if not lines.readline():
                    return
                connection.sendall(answer)
