# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection to a lond: a TCP socket, a handshake, and then one transaction at a time.

Straight blocking-style code for the greenlet that owns the connection. Errors of the operating
system become ours here, once: NotSentError while nothing of a request has left, ReplyLostError
from its first byte on. After any error the connection is of no further use; its owner closes it.
"""

from __future__ import annotations

import errno
import os
from math import inf
from socket import (
    AI_NUMERICHOST,
    AI_NUMERICSERV,
    IPPROTO_TCP,
    SO_ERROR,
    SO_KEEPALIVE,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    TCP_USER_TIMEOUT,
    gaierror,
    getaddrinfo,
    socket,
)
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent import Timeout

from .errors import (
    ConnectionLostError,
    ConnectTimeoutError,
    HandshakeGarbageError,
    HandshakeTimeoutError,
    ReplyTimeoutError,
    ReplyTooLongError,
    StaleConnectionError,
    UnreachableError,
    UnresolvableError,
    UnsolicitedBytesError,
)
from .rules.cipher import Cipher
from .rules.handshake import Handshake
from .rules.wire import LINE_END, LineBuffer, LineTooLongError, clear_prefix, encrypted_part
from .stream import DeadlineError, Stream, give_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gevent.hub import Hub

    from .rules.handshake import Session
    from .rules.settings import HostSettings
    from .rules.wire import Line

MAX_HANDSHAKE_LINE = 4096
"""Bytes; the longest real one, lond's version line, has some 30."""

LARGE = 64 * 1024
"""Bytes: what is larger is sealed and opened in pieces, with a turn for others between."""

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4
"""Seconds, seconds, probes: a peer that vanished without a word is found in two minutes."""

_SEALED = b"enc:"


class Address(NamedTuple):
    """One of the addresses of a host, as getaddrinfo gives them."""

    family: int
    sockaddr: tuple[Any, ...]


class Lond:
    """A handshaken connection. Make one with `connect`; one greenlet uses it."""

    __slots__ = ("_buffer", "_cipher", "_max_reply", "session", "stream")

    def __init__(self, stream: Stream, session: Session, max_reply_bytes: int) -> None:
        self.stream = stream
        self.session = session
        self._cipher = Cipher(session.key)
        self._buffer = LineBuffer(max_reply_bytes)
        self._max_reply = max_reply_bytes

    def exchange(self, request: Line) -> Line:
        """Send a request line and return the reply line, in clear.

        Raises NotSentError if not one byte of the request left, ReplyLostError once one did.
        """
        stream = self.stream
        if not stream.is_quiet():
            raise self.unexpected()
        start = encrypted_part(request)
        wire = self._sealed(request, start) if start else request
        try:
            stream.write(wire)
        except OSError as error:
            raise (ConnectionLostError if stream.sent else StaleConnectionError)(
                _reason(error)
            ) from None
        except DeadlineError:
            raise ReplyTimeoutError("the request could not be sent in time") from None
        try:
            line = self._buffer.add(stream.read() or self._ended())
            while line is None:
                line = self._buffer.add(stream.read() or self._ended())
        except OSError as error:
            raise ConnectionLostError(_reason(error)) from None
        except DeadlineError:
            raise ReplyTimeoutError("no whole reply within reply_timeout") from None
        except LineTooLongError:
            raise ReplyTooLongError(f"over {self._max_reply} bytes") from None
        return self._opened(line) if line.startswith(_SEALED) else line

    @property
    def in_step(self) -> bool:
        """Whether no byte is left over after the last reply: both sides agree who speaks."""
        return not self._buffer

    def unexpected(self) -> StaleConnectionError | UnsolicitedBytesError:
        """Tell what made a connection readable that nobody expects to say anything."""
        try:
            data = os.read(self.stream.fd, 1)
        except OSError as error:
            return StaleConnectionError(_reason(error))
        if data:
            return UnsolicitedBytesError("bytes that nobody asked for")
        return StaleConnectionError("closed by lond while idle")

    def close(self) -> None:
        """Close the connection, and let go of its key."""
        self.stream.close()

    def _ended(self) -> bytes:
        raise ConnectionLostError("closed by lond before its whole reply")

    def _sealed(self, request: Line, start: int) -> bytes:
        payload = bytes(request[start:-1])
        if len(payload) <= LARGE:
            sealed = self._cipher.seal(payload)
        else:
            sealed = _in_turns(self._cipher.seal_pieces(payload), self.stream.hub)
        return clear_prefix(request, start) + sealed + LINE_END

    def _opened(self, line: Line) -> bytes:
        text = bytes(line[:-1])
        if len(text) <= LARGE:
            return self._cipher.open(text) + LINE_END
        return _in_turns(self._cipher.open_pieces(text), self.stream.hub) + LINE_END


def _in_turns(pieces: Iterator[bytes], hub: Hub) -> bytes:
    """Join the pieces; other greenlets have a turn after each."""
    done = []
    for piece in pieces:
        done.append(piece)
        give_turn(hub)
    return b"".join(done)


def connect(host: HostSettings, hub: Hub, stream: Stream) -> Lond:
    """Connect to the host's lond, on the empty `stream`, and shake hands.

    Each address is tried, all together within `connect_timeout`; the handshake has
    `handshake_timeout`. Raises a NotSentError, with the stream closed.
    """
    try:
        _open(host, hub, stream)
        return _shake_hands(host, stream)
    except BaseException:  # whatever it was, a half-made connection must not be used
        stream.close()
        raise


def resolve(host: HostSettings, hub: Hub, timeout: float) -> list[Address]:
    """Return the host's addresses: its `address` setting, or those of its DNS name.

    Raises UnresolvableError, after `timeout` seconds at the latest.
    """
    name = host.address or host.dns_name
    try:
        found = getaddrinfo(
            name, host.port, type=SOCK_STREAM, flags=AI_NUMERICHOST | AI_NUMERICSERV
        )
    except (gaierror, UnicodeError):
        return _look_up(name, host.port, hub, timeout)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def _look_up(name: str, port: int, hub: Hub, timeout: float) -> list[Address]:
    try:
        with Timeout(timeout):
            found = hub.resolver.getaddrinfo(name, port, 0, SOCK_STREAM)
    except Timeout:
        raise UnresolvableError(f"{name}: no answer from the resolver") from None
    except (OSError, UnicodeError) as error:
        raise UnresolvableError(f"{name}: {_reason(error)}") from None
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def _open(host: HostSettings, hub: Hub, stream: Stream) -> None:
    """Connect the stream to the first address that takes it."""
    timeout = host.pool.connect_timeout
    end = monotonic() + timeout
    addresses = resolve(host, hub, timeout)
    failure: UnreachableError | ConnectTimeoutError | None = None
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = monotonic()
        # An even share of what is left, so that one mute address does not use up all of it.
        deadline = now + max(end - now, 0.0) / left
        try:
            _dial(address, stream, deadline, host.pool.reply_timeout)
        except DeadlineError:
            failure = ConnectTimeoutError(f"{_name(address)}: no answer")
        except OSError as error:
            failure = UnreachableError(f"{_name(address)}: {_reason(error)}")
        else:
            return
        stream.close()
    raise failure or UnresolvableError(f"{host.dns_name}: no address")


def _dial(address: Address, stream: Stream, deadline: float, user_timeout: float) -> None:
    with socket(address.family, SOCK_STREAM) as tcp:
        tcp.settimeout(0)
        tcp.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        tcp.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
        tcp.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT)
        # Bytes that the peer does not acknowledge: give up when the reply could not count.
        tcp.setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, int(user_timeout * 1000))
        code = tcp.connect_ex(address.sockaddr)
        stream.reopen(os.dup(tcp.fileno()))
        stream.deadline = deadline
        if code == errno.EINPROGRESS:
            stream.wait_connected()
            code = tcp.getsockopt(SOL_SOCKET, SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        stream.deadline = inf


def _shake_hands(host: HostSettings, stream: Stream) -> Lond:
    handshake = Handshake(
        server_id=host.server_id,
        client_id=host.client_id,
        negotiation=host.negotiation,
        security=host.security,
    )
    buffer = LineBuffer(MAX_HANDSHAKE_LINE)
    stream.deadline = monotonic() + host.pool.handshake_timeout
    try:
        stream.write(handshake.start())
        while not handshake.complete:
            line = buffer.take()
            while line is None:
                data = stream.read()
                if not data:
                    raise handshake.lost()
                line = buffer.add(data)
            answer = handshake.receive(bytes(line))
            if answer:
                stream.write(answer)
    except OSError:
        raise handshake.lost() from None
    except DeadlineError:
        raise HandshakeTimeoutError(f"no answer in state {handshake.state.name}") from None
    except LineTooLongError:
        raise HandshakeGarbageError(f"a line over {MAX_HANDSHAKE_LINE} bytes") from None
    if buffer:
        raise HandshakeGarbageError("more bytes than the handshake has")
    stream.deadline = inf
    return Lond(stream, handshake.session, host.pool.max_reply_bytes)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _name(address: Address) -> str:
    return f"{address.sockaddr[0]} port {address.sockaddr[1]}"
