# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that a test scripts, for behaviour that the real one does not have."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from harness import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FakeDaemon:
    """Listens on a Unix socket and calls `talk` with each client, one after the other."""

    def __init__(self, path: Path, talk: Callable[[socket.socket], None], backlog: int = 8) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen(backlog)
        self.clients = 0
        self._talk = talk
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            client, _ = self.sock.accept()
            with client:
                if self.clients < 0:
                    return
                self.clients += 1
                with contextlib.suppress(ConnectionError):  # the client disconnected
                    self._talk(client)

    def close(self) -> None:
        """Stop listening."""
        self.clients = -1
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.sock.getsockname())
        self._thread.join(PATIENCE)
        self.sock.close()
