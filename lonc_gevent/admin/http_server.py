# SPDX-License-Identifier: GPL-2.0-or-later
"""gevent's WSGI server on a socket of ours, with limits: it must not be a way to hurt the daemon.

Connections at once are bounded; more wait in the backlog. A request, from its first byte awaited
to its response's last byte taken, has a deadline, after which the connection is shut down: a
client that says nothing, drips bytes or reads nothing costs one greenlet, for a while.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket
    from wsgiref.types import StartResponse, WSGIEnvironment

    Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

MAX_CONNECTIONS: Final = 32

REQUEST_TIMEOUT: Final = 15.0
"""Seconds; a page that polls keeps its connection, as it polls more often than that."""

STOP_TIMEOUT: Final = 0.2
"""Seconds that responses under way have to end when the daemon stops."""

SOCKET_KEY: Final = "lonc.socket"
"""Where a request's environment has the connection's socket."""

_BAD_REQUEST: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 12\r\n\r\nbad request\n"
)


class _Handler(WSGIHandler):
    """One connection."""

    server: HttpServer
    ignored_socket_errors = (*WSGIHandler.ignored_socket_errors, errno.EBADF)
    """EBADF is what gevent raises in a greenlet that waits on a socket which `_expire` shut."""

    def handle(self) -> None:
        """Serve request after request, each within its deadline."""
        timeout = self.server.request_timeout
        self._timer: Any = gevent.get_hub().loop.timer(timeout, repeat=timeout)
        try:
            with suppress(OSError):  # the client is gone before it took its 400
                super().handle()
        finally:
            self._timer.stop()
            self._timer.close()

    def handle_one_request(self) -> Any:
        # `again`: a timer that is stopped and started goes on with what was left.
        self._timer.again(self._expire, self.socket)
        return super().handle_one_request()

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[SOCKET_KEY] = self.socket
        return environ

    def _expire(self, sock: socket) -> None:
        # Whoever waits on it sees its end, and closes. Killing the greenlet, or a Timeout in it,
        # would be taken for a fault of the application.
        with suppress(OSError):
            sock.shutdown(SHUT_RDWR)

    def _handle_client_error(self, _error: Exception) -> tuple[str, bytes]:
        # What a client sends wrong is its own affair: no line in the log, nor on stderr.
        return "400", _BAD_REQUEST


class HttpServer(WSGIServer):
    """Serves `application` on a listening socket, which it takes over. `start` begins."""

    handler_class = _Handler

    request_timeout = REQUEST_TIMEOUT

    def __init__(self, listener: socket, application: Application, *, name: str) -> None:
        super().__init__(
            listener,
            application,
            spawn=Pool(MAX_CONNECTIONS),
            log=None,
            error_log=None,
            environ={"SERVER_NAME": name},  # else it would ask a name server
        )

    def close_all(self) -> None:
        """Stop to listen; responses under way have STOP_TIMEOUT to end."""
        self.stop(timeout=STOP_TIMEOUT)
