# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of reloads: the last one, and the clients of `POST /reload` that wait for theirs.

The client of a reload that succeeds gets its answer from the next program in this process: its
descriptor is handed over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Final

from gevent.event import AsyncResult

from lonc_gevent.admin.reporter import LastReload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RELOADED: Final = b"reloaded\n"
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_RELOADED), _RELOADED)
)


class Reloads:
    """The last reload, and the clients that wait for the present one. A start is a reload, too."""

    def __init__(self) -> None:
        self.last = LastReload(at=time())
        self._waiting: dict[int, AsyncResult[list[str]]] = {}

    def __repr__(self) -> str:
        return f"<Reloads {self.last} {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> tuple[int, ...]:
        """The descriptors of clients that wait."""
        return tuple(self._waiting)

    def wait(self, fd: int) -> list[str]:
        """Wait for the end of a restart; return the problems.

        fd: the client's descriptor. If the restart succeeds this does not return: the next
        program answers on it.
        """
        result = self._waiting[fd] = AsyncResult()
        try:
            return result.get() or []
        finally:
            del self._waiting[fd]

    def refuse(self, problems: Sequence[str]) -> None:
        """Note that a reload was refused."""
        self.last = LastReload(successful=False, at=self.last.at, problems=tuple(problems))

    def succeed(self) -> None:
        """Note that a reload succeeded."""
        self.last = LastReload(at=time())

    def answer(self, problems: list[str]) -> None:
        """Answer the waiting clients with the problems of the restart that they requested."""
        for result in self._waiting.values():
            result.set(problems)


def answer_inherited(clients: Iterable[int]) -> None:
    """Answer the clients that requested the restart of the previous program: it succeeded."""
    for fd in clients:
        with suppress(OSError):  # it may have disconnected
            os.write(fd, _ANSWER)
        os.close(fd)
