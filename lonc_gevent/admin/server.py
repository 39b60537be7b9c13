# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP over the admin socket: status, metrics, the page, and commands.

  GET  /                    the status page
  GET  /status              admin/status.py as JSON
  GET  /hosts/ID            one host of it, with its charts
  GET  /metrics             Prometheus' text format
  GET  /healthz, /readyz    200, or 503 with the reason
  POST /hosts/ID/pause      requests wait (queue_timeout still holds), connections end when done
  POST /hosts/ID/resume     the opposite
  POST /hosts/ID/reconnect  connections end when done, and the gate opens
  POST /reload              as HUP: 200 once it is done, 409 with the problems if it is refused

The Unix socket, for the daemon's user and `admin.group`, serves all of it; the loopback TCP address
serves GET only. `ssh -L` may bring a browser to the Unix socket, so a POST from another site's page
is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, SO_REUSEADDR, SOL_SOCKET, socket
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import gevent
import msgspec

from lonc_gevent.backend.pool import Pool
from lonc_gevent.configuration.accounts import group_id
from lonc_gevent.configuration.names import is_loopback, split_address
from lonc_gevent.errors import ConfigError
from lonc_gevent.frontend.access_control import peer_of
from lonc_gevent.frontend.listeners import listen, remove

from .documents import Document, expand, text_length
from .http_server import BACKLOG, NO_DEADLINE_KEY, SOCKET_KEY, HttpServer
from .metrics import CONTENT_TYPE, Metrics
from .page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import Admin as AdminSettings
    from lonc_gevent.frontend.access_control import Peer

    from .reporter import Reporter

MODE: Final = 0o600
GROUP_MODE: Final = 0o660
"""Mode of the Unix socket without and with `admin.group`."""

COMMANDS: Final[dict[str, Callable[[Pool], None]]] = {
    "pause": Pool.pause,
    "resume": Pool.resume,
    "reconnect": Pool.reconnect,
}
"""Commands by the last part of the path; the names are PgBouncer's."""

_OK: Final = "200 OK"
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_ALWAYS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


class Answer(NamedTuple):
    """A response: its status, body and headers."""

    status: str
    body: bytes | Iterator[bytes]
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


def plain(status: str, text: str, *headers: tuple[str, str]) -> Answer:
    """Return a response of one line."""
    return Answer(status, f"{text}\n".encode(), _TEXT, headers)


NOT_FOUND: Final = plain("404 Not Found", "not found")
READ_ONLY: Final = plain("405 Method Not Allowed", "GET or HEAD", ("Allow", "GET, HEAD"))
NO_COMMANDS: Final = plain("403 Forbidden", "commands are taken on the Unix socket only")
MISDIRECTED: Final = plain("421 Misdirected Request", "this serves localhost only")
FOREIGN: Final = plain("403 Forbidden", "commands from another site's page are refused")
FAILED: Final = plain("500 Internal Server Error", "internal error; see the daemon's log")


class Admin:
    """The admin sockets, each opened by a method of its own.

    reload: does what HUP does, for the client with this descriptor, and returns the problems. If
    there are none it does not return: the next program answers the client
    """

    def __init__(
        self,
        settings: AdminSettings,
        reporter: Reporter,
        logger: FilteringBoundLogger,
        *,
        reload: Callable[[int], list[str]],
    ) -> None:
        self.settings = settings
        self.reporter = reporter
        self.log = logger
        self.reload = reload
        self.page = Page.load()
        self.servers: list[HttpServer] = []
        self._inode = 0
        self._unix: HttpServer | None = None
        self._encode = msgspec.json.Encoder().encode
        self._status = Document(lambda: (self._encode(reporter.status()),))
        self._html = Document(lambda: (self.page.render(reporter.status()),))
        self._metrics = Document(Metrics(reporter).render)
        self._readers: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/": self._page,
            "/status": lambda environ: _document(self._status, _JSON, environ),
            "/metrics": lambda environ: _document(self._metrics, CONTENT_TYPE, environ),
            "/healthz": self._health,
            "/readyz": self._readiness,
        }
        self._history: gevent.Greenlet[..., None] | None = None

    def __repr__(self) -> str:
        return f"<Admin {self.settings.socket} {self.reporter.phase}>"

    def open_tcp(self) -> None:
        """Listen and serve on the TCP address. Raises ConfigError."""
        self._serve_on(listen_tcp(self.settings.listen))

    def open_unix(self) -> None:
        """Listen and serve on the Unix socket, in place of an earlier one that `is_lost`.

        Raises ConfigError, and AlreadyRunningError if another process listens there.
        """
        if self._unix is not None:
            self._unix.close()  # its clients are served on
            self.servers.remove(self._unix)
            self._unix = None
        path, group = Path(self.settings.socket), self.settings.group
        gid = group_id(group) if group else -1
        if gid is None:
            raise ConfigError([f"admin.group: no group {group!r} on this machine"])
        sock = listen(path, GROUP_MODE if group else MODE, gid, backlog=BACKLOG)
        self._inode = path.lstat().st_ino
        self._unix = self._serve_on(sock)

    def is_lost(self) -> bool:
        """Return whether the file of the Unix socket was removed or replaced."""
        try:
            return self._unix is not None and self._inode != os.lstat(self.settings.socket).st_ino
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def start(self) -> None:
        """Begin to record the history."""
        self._history = gevent.spawn(self.reporter.history.run)

    def _serve_on(self, sock: socket) -> HttpServer:
        server = HttpServer(sock, self.serve, name=self.settings.listen or "lonc-gevent")
        server.start()
        self.servers.append(server)
        return server

    def close(self) -> None:
        """Stop listening and remove the socket. Does nothing the second time."""
        if self.servers:
            remove(Path(self.settings.socket), self._inode)
        for server in self.servers:
            server.close_all()
        self.servers.clear()
        if self._history is not None:
            self._history.kill(block=False)

    # -- requests ----------------------------------------------------------------------------

    def serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        try:
            answer = self._answer(environ)
        except Exception:  # the top of the greenlet: nothing is above it
            self.log.exception("admin_failed")
            answer = FAILED
        headers = [("Content-Type", answer.content_type), *_ALWAYS, *answer.headers]
        if isinstance(answer.body, bytes):
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(answer.status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return ()
        return (answer.body,) if isinstance(answer.body, bytes) else answer.body

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        on_unix = environ[SOCKET_KEY].family == AF_UNIX
        if not on_unix and not _means_us(environ.get("HTTP_HOST", "")):
            return MISDIRECTED
        if method == "POST":
            if not on_unix:
                return NO_COMMANDS
            return self._command(path, environ) if _is_ours(environ) else FOREIGN
        if method not in ("GET", "HEAD"):
            return READ_ONLY
        reader = self._readers.get(path)
        if reader is not None:
            return reader(environ)
        detail = self.reporter.host(_host_id(path))
        return NOT_FOUND if detail is None else Answer(_OK, self._encode(detail), _JSON)

    def _page(self, environ: WSGIEnvironment) -> Answer:
        answer = _document(self._html, "text/html; charset=utf-8", environ)
        return answer._replace(headers=(*answer.headers, *self.page.headers))

    def _health(self, _environ: WSGIEnvironment) -> Answer:
        return plain(_OK, "ok")

    def _readiness(self, _environ: WSGIEnvironment) -> Answer:
        phase = self.reporter.phase
        return plain(_OK if phase == "ready" else "503 Service Unavailable", phase)

    def _command(self, path: str, environ: WSGIEnvironment) -> Answer:
        """Run the command of a POST request."""
        first, _, name = path.rpartition("/")
        client = environ[SOCKET_KEY].fileno()
        peer = peer_of(client)
        if path == "/reload":
            self._note(name, None, peer)
            environ[NO_DEADLINE_KEY]()
            problems = self.reload(client)
            return (
                plain("409 Conflict", "\n".join(problems)) if problems else plain(_OK, "reloaded")
            )
        pool = self.reporter.pools.get(_host_id(first))
        command = COMMANDS.get(name)
        if pool is None or command is None:
            is_there = path in self._readers or _host_id(path) in self.reporter.pools
            return READ_ONLY if is_there else NOT_FOUND
        self._note(name, pool.host.id, peer)
        command(pool)
        return plain(_OK, f"{name}: {pool.host.id} is {pool.state.value}")

    def _note(self, command: str, host: str | None, peer: Peer) -> None:
        self.log.info(
            "admin_command",
            host=host,
            client_pid=peer.pid,
            client_uid=peer.uid,
            command=command,
        )


def _host_id(path: str) -> str:
    """Return the ID of `/hosts/ID`, "" for another path. The server has percent-decoded it."""
    return path.removeprefix("/hosts/") if path.startswith("/hosts/") else ""


def _means_us(name: str) -> bool:
    """Return whether a Host header names this machine; a foreign site may point its name here."""
    try:
        host = urlsplit(f"//{name}").hostname
    except ValueError:
        return False
    return host is None or is_loopback(host)


def _is_ours(environ: WSGIEnvironment) -> bool:
    """Return whether no page of another site sent the request: browsers name a POST's origin."""
    origin = environ.get("HTTP_ORIGIN")
    if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return False
    host = environ.get("HTTP_HOST", "")
    return origin is None or (origin in (f"http://{host}", f"https://{host}") and _means_us(host))


def _document(document: Document, content_type: str, environ: WSGIEnvironment) -> Answer:
    pieces = document.compressed()
    if "gzip" not in environ.get("HTTP_ACCEPT_ENCODING", ""):
        length = text_length(pieces)
        return Answer(_OK, expand(pieces), content_type, (("Content-Length", str(length)),))
    return Answer(_OK, b"".join(pieces), content_type, (("Content-Encoding", "gzip"),))


def listen_tcp(address: str) -> socket:
    """Listen on a loopback `address:port`. Raises ConfigError."""
    parts = split_address(address)
    if parts is None:
        raise ConfigError([f"admin.listen: {address!r} is no address:port"])
    host, port = parts
    if host == "localhost":
        host = "127.0.0.1"
    sock = socket(AF_INET6 if ":" in host else AF_INET)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno or 0)
        raise ConfigError([f"admin.listen: cannot listen on {address} ({reason})"]) from None
    sock.settimeout(0)
    return sock
