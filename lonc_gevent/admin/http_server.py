# SPDX-License-Identifier: GPL-2.0-or-later
"""gevent's WSGI server on a given socket, with limits on what a client can cost the daemon.

- At most MAX_CONNECTIONS at a time; more wait in the backlog.
- One request a loop iteration: a greenlet whose socket is always readable and writable never
  waits, so it would keep the loop from its watchers and timers, its own deadline included.
- At most MAX_HEAD bytes of request line and headers, and no body: each ends the connection.
- A deadline from the wait for a request's first byte to the last byte of its response. A client
  that sends nothing, drips bytes or does not read costs one greenlet until then.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from io import BytesIO
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket
    from wsgiref.types import StartResponse, WSGIEnvironment

    Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

PAUSE: Final = 0.001
"""Seconds between two responses, for all other events of the loop."""

MAX_CONNECTIONS: Final = 32

BACKLOG: Final = 64
"""Connections that wait to be accepted."""

MAX_HEAD: Final = 8192
"""Bytes of a request line and its headers together."""

REQUEST_TIMEOUT: Final = 15.0
"""Seconds; a page that polls keeps its connection, as it polls more often than that."""

STOP_TIMEOUT: Final = 0.2
"""Seconds that responses in progress have to end when the daemon stops."""

SOCKET_KEY: Final = "lonc.socket"
"""Where a request's environment has the connection's socket."""

NO_DEADLINE_KEY: Final = "lonc.no_deadline"
"""Where it has a function that removes the deadline of this request."""


class _RefusedError(ValueError):
    """A request whose response is its status alone."""


_TOO_LARGE: Final = "431 Request Header Fields Too Large"
_BODY: Final = "413 Content Too Large"


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
            with suppress(OSError):  # the client disconnected before it read its 400
                super().handle()
        finally:
            self._timer.stop()
            self._timer.close()

    def handle_one_request(self) -> Any:
        # `again`: a timer that is stopped and started goes on with what was left.
        self._timer.again(self._expire, self.socket)
        return super().handle_one_request()

    def read_request(self, raw_requestline: str) -> Any:
        """Parse the headers. Raises ValueError, also for a request with a body."""
        super().read_request(raw_requestline)
        if self.content_length or "transfer-encoding" in self.headers:
            raise _RefusedError(_BODY)
        return True

    def MessageClass(self, rfile: Any, *_: object) -> Any:  # noqa: N802 - gevent's name
        """Read the headers as far as MAX_HEAD allows."""
        left = MAX_HEAD - len(self.requestline or "")
        lines: list[bytes] = []
        while lines[-1:] not in ([b"\r\n"], [b"\n"], [b""]):
            line = rfile.readline(left + 1)
            left -= len(line)
            if left < 0:
                raise _RefusedError(_TOO_LARGE)
            lines.append(line)
        return super().MessageClass(BytesIO(b"".join(lines)))

    def handle_one_response(self) -> None:
        """Respond, in another loop iteration than the last response."""
        with self.server.turn:
            gevent.sleep(PAUSE)
        super().handle_one_response()

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[SOCKET_KEY] = self.socket
        environ[NO_DEADLINE_KEY] = self._timer.stop
        return environ

    def _expire(self, sock: socket) -> None:
        # The greenlet that waits on it reads its end, and closes. Killing the greenlet, or a
        # Timeout in it, would be logged as an error of the application.
        with suppress(OSError):
            sock.shutdown(SHUT_RDWR)

    def _handle_client_error(self, error: Exception) -> tuple[str, bytes]:
        # A mistake of the client: nothing is logged, nor written to stderr.
        status = str(error) if isinstance(error, _RefusedError) else "400 Bad Request"
        text = status[4:].lower()
        head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(text) + 1}\r\n"
        return status[:3], f"{head}Content-Type: text/plain\r\n\r\n{text}\n".encode()


class HttpServer(WSGIServer):
    """Serves `application` on a listening socket, which it closes at the end."""

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

        self.turn = BoundedSemaphore(1)
        """Held while a request waits for its loop iteration."""

    def close_all(self) -> None:
        """Stop listening; responses in progress have STOP_TIMEOUT to end."""
        self.stop(timeout=STOP_TIMEOUT)
