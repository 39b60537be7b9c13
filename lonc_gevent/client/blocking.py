# SPDX-License-Identifier: GPL-2.0-or-later
"""`reply`, `many` and `Connection` for code that waits by blocking: threads, gevent, plain scripts.

Only `socket.socket` and `time` block in here, and they are looked up when they are used: so
gevent's monkey patching, which is the application's to do, turns waiting into switching. In a
gevent application without it each wait stops all greenlets.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from lonc_gevent.protocol.lines import LINE_END

from .errors import ClientError, ConLost, HungUpError, NoDaemonError, TimedOutError
from .lines import BACKLOG_FULL_PAUSE, CHUNK, CON_LOST, TIMEOUT, OnConLost, check_timeout, to_line
from .sockets import Where, find

if TYPE_CHECKING:
    from collections.abc import Mapping


def reply(
    request: bytes,
    host: str,
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> bytes:
    """Send a request (a line without its newline) to a host; return the reply, likewise.

    timeout      seconds for all of it, from connecting to the reply's last byte
    encrypt      have it encrypted on its way to lond
    on_con_lost  "raise" ConLost, or "return" CON_LOST as lonnet does
    sockets      the socket directory, a Sockets, or None: what LONC_CONFIG says

    Raises ConLost (its subclasses say more), TimedOutError and UnknownHostError; ConfigError if
    the configuration cannot be read; ValueError if the request is not one line.
    """
    line = to_line(request, encrypt=encrypt)
    link = Link(host, find(sockets).path_of(host))
    link.start(timeout)
    try:
        link.connect()
        link.send(line)
        return link.receive()
    except ConLost:
        if on_con_lost == "return":
            return CON_LOST
        raise
    finally:
        link.close()


def many(
    requests: Mapping[str, bytes],
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> dict[str, bytes | ClientError]:
    """Send one request to each of several hosts at once; return what came of each.

    A host's value is its reply, or the error that `reply` would have raised: one host that is
    down does not hide the others. The timeout is for all together. Needs a descriptor a host.
    """
    lines = {host: to_line(request, encrypt=encrypt) for host, request in requests.items()}
    place = find(sockets)
    outcomes: dict[str, bytes | ClientError] = {}
    links: list[Link] = []
    deadline = time.monotonic() + check_timeout(timeout)
    try:
        # The daemon serves each connection by itself: while one reply is read, all are under way.
        for host, line in lines.items():
            try:
                link = Link(host, place.path_of(host))
                link.deadline = deadline
                links.append(link)
                link.connect()
                link.send(line)
            except ClientError as error:
                outcomes[host] = error
        for link in links:
            if link.host not in outcomes:
                try:
                    outcomes[link.host] = link.receive()
                except ClientError as error:
                    outcomes[link.host] = error
    finally:
        for link in links:
            link.close()
    if on_con_lost == "return":
        outcomes = {h: CON_LOST if isinstance(o, ConLost) else o for h, o in outcomes.items()}
    return {host: outcomes[host] for host in requests}


class Connection:
    """A connection to a host's socket that stays open, for loops: cheaper than `reply` by a third.

    It connects when it is first used, and again after the daemon was restarted, after a
    timeout, and in a forked child. One request at a time: each thread or greenlet needs its own.
    `timeout` (seconds, for each request) and `sockets` are as in `reply`.
    """

    def __init__(self, host: str, *, timeout: float = TIMEOUT, sockets: Where = None) -> None:
        self.host = host
        self.timeout = check_timeout(timeout)
        self._link = Link(host, find(sockets).path_of(host))
        self._pid = 0
        self._busy = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self.host} {'open' if self._link.is_open else 'closed'}>"

    def close(self) -> None:
        """Close it; it opens again when it is used again."""
        self._link.close()

    def reply(
        self,
        request: bytes,
        *,
        timeout: float | None = None,
        encrypt: bool = False,
        on_con_lost: OnConLost = "raise",
    ) -> bytes:
        """Send a request and return its reply, as the function `reply` does.

        Raises RuntimeError if another thread or greenlet is in the middle of a request.
        """
        line = to_line(request, encrypt=encrypt)
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(f"{self!r} is in use: each thread or greenlet needs its own")
        try:
            self._link.start(self.timeout if timeout is None else timeout)
            return self._exchange(line)
        except ConLost as error:
            if type(error) is not ConLost:
                self._link.close()
            if on_con_lost == "return":
                return CON_LOST
            raise
        except BaseException:
            # A reply that may still come is nobody's: gevent.Timeout and Ctrl-C are no Exceptions.
            self._link.close()
            raise
        finally:
            self._busy.release()

    def _exchange(self, line: bytes) -> bytes:
        link = self._link
        reusable = link.is_open and self._pid == os.getpid() and link.is_quiet()
        # If not all of the line is taken, it has not run, and may go to the next connection.
        if reusable and link.send(line):
            return link.receive()
        link.close()
        self._pid = os.getpid()
        link.connect()
        link.send(line)
        return link.receive()


class Link:
    """One socket to the daemon, and the moment until which it may take. Not for users."""

    __slots__ = ("_sock", "deadline", "host", "path")

    def __init__(self, host: str, path: str) -> None:
        self.host = host
        self.path = path
        self.deadline = 0.0
        self._sock: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._sock is not None

    def start(self, timeout: float) -> None:
        """Begin to count the time. Raises ValueError if it is not above 0."""
        self.deadline = time.monotonic() + check_timeout(timeout)

    def connect(self) -> None:
        """Connect. Raises NoDaemonError and TimedOutError."""
        try:
            self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self._left())
            while True:
                try:
                    return sock.connect(self.path)
                except BlockingIOError:
                    # Its backlog is full; for Unix sockets the kernel does not wait for room.
                    time.sleep(min(BACKLOG_FULL_PAUSE, self._left()))
        except TimeoutError:
            raise self._timed_out() from None
        except OSError as error:
            what = f"no daemon answers here: {error.strerror or error}"
            raise NoDaemonError(self.host, self.path, what) from error

    def send(self, line: bytes) -> bool:
        """Send a line; return whether the daemon took all of it. Raises TimedOutError."""
        sock = self._open_socket()
        sock.settimeout(self._left())
        try:
            sock.sendall(line)
        except TimeoutError:
            raise self._timed_out() from None
        except OSError:
            # It is gone, or does not want all of the line. There may be a reply that says so.
            return False
        return True

    def receive(self) -> bytes:
        """Return a whole reply, without its newline.

        Raises ConLost if it is con_lost, HungUpError and TimedOutError.
        """
        sock = self._open_socket()
        sock.settimeout(self._left())
        parts: list[bytes] = []
        while True:
            try:
                data = sock.recv(CHUNK)
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as error:
                raise self._hung_up(str(error.strerror)) from error
            if not data:
                raise self._hung_up("it closed before its whole reply")
            end = data.find(LINE_END)
            if end >= 0:
                break
            parts.append(data)
            sock.settimeout(self._left())
        if end != len(data) - 1:
            raise self._hung_up("it sent more than one line")
        answer = b"".join((*parts, data[:end]))
        if answer == CON_LOST:
            raise ConLost(self.host, self.path, "con_lost")
        return answer

    def is_quiet(self) -> bool:
        """Whether the socket is open at the other end, too, and nothing waits in it."""
        sock = self._open_socket()
        try:
            sock.settimeout(0)
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _open_socket(self) -> socket.socket:
        if self._sock is None:
            raise HungUpError(self.host, self.path, "it was closed by another thread")
        return self._sock

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self._timed_out()
        return left

    def _timed_out(self) -> TimedOutError:
        return TimedOutError(self.host, self.path, "no whole reply in time")

    def _hung_up(self, what: str) -> HungUpError:
        return HungUpError(self.host, self.path, what)
