# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection to a lond: a TCP socket, a handshake, and then one transaction at a time.

Straight blocking-style code for the greenlet that owns the connection. Errors of the operating
system become ours here, once: NotSentError while nothing of a request has left, ReplyLostError
from its first byte on. After any error the connection is of no further use; its owner closes it.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from math import inf
from pathlib import PurePath
from typing import TYPE_CHECKING

from lonc_gevent.errors import (
    ConnectionLostError,
    ConnectTimeoutError,
    NotSentError,
    ReplyLostError,
    ReplyTimeoutError,
    ReplyTooLongError,
    StaleConnectionError,
    UnforeseenError,
    UnreachableError,
    UnresolvableError,
    UnsolicitedBytesError,
)
from lonc_gevent.eventloop import DeadlineError, yield_to_others
from lonc_gevent.protocol.cipher import KEY_BYTES, Cipher
from lonc_gevent.protocol.handshake_tables import INLINE_SETHOST
from lonc_gevent.protocol.lines import (
    ENCRYPT,
    LINE_END,
    OK,
    SESSION_CHANGE,
    SETHOST,
    SPECIAL_FIRST,
    LineBuffer,
    LineTooLongError,
    clear_prefix,
    split_sethost,
    text_part,
)

from .dial import candidates, dial
from .handshake_io import FallBackError, shake_hands
from .resolver import resolver_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import Stream
    from lonc_gevent.protocol.handshake import Session
    from lonc_gevent.protocol.lines import Line

    from .resolver import Address
    from .tls import Credentials

LARGE = 64 * 1024
"""Bytes: what is larger is sealed and opened in pieces, with a turn for others between."""

_SEALED = b"enc:"
_NO_CIPHER = Cipher(bytes(KEY_BYTES))
"""What a closed connection has in place of its own."""


class Lond:
    """A handshaken connection. Make one with `connect`; one greenlet uses it.

    Bytes left in `buffer` after a reply mean that both sides no longer agree who speaks;
    `is_spent`, that they no longer agree on the key, as a client asked lond for another one.
    """

    __slots__ = (
        "_cipher",
        "_host",
        "_max_reply",
        "_own_host",
        "address",
        "buffer",
        "is_spent",
        "session",
        "stream",
        "two_steps",
    )

    def __init__(
        self,
        stream: Stream,
        session: Session,
        server_id: str,
        max_reply_bytes: int,
        address: Address | None = None,
    ) -> None:
        self.stream = stream
        self.session = session
        self.address = address
        self._cipher = Cipher(session.key)
        self.buffer = LineBuffer(max_reply_bytes)
        self._max_reply = max_reply_bytes
        self._own_host = server_id.encode("utf-8", "surrogateescape")
        self._host = self._own_host
        self.is_spent = False
        self.two_steps = (session.lond_version or 0) < INLINE_SETHOST

    def exchange(self, request: Line) -> Line:
        """Send a request line and return the reply line, in clear.

        Raises NotSentError if not one byte of the request left, ReplyLostError once one did.
        """
        if request[0] in SPECIAL_FIRST or self._host is not self._own_host:
            request, refusal = self._prepared(request)
            if refusal:
                return refusal
        return self._ask(request)

    def _ask(self, wire: Line) -> Line:
        """Write a line as it goes out, and return lond's, opened. Raises as `exchange` does."""
        stream = self.stream
        if stream.has_input():  # it came before the request, so it is no reply to it
            raise self.unexpected()
        line = None
        try:
            stream.write(wire)
            while line is None:
                line = self.buffer.add(stream.read() or self._ended())
        except OSError as error:
            raise (ConnectionLostError if stream.sent else StaleConnectionError)(
                _reason(error)
            ) from None
        except DeadlineError:
            raise ReplyTimeoutError(
                "no whole reply within reply_timeout"
                if stream.sent == len(wire)
                else "the request could not be sent in time"
            ) from None
        except LineTooLongError:
            raise ReplyTooLongError(f"over {self._max_reply} bytes") from None
        if line[:4] == _SEALED:  # `startswith` takes twice as long
            stream.deadline = inf  # it is here: what follows waits for nobody
            if len(line) <= LARGE:
                return self._cipher.open(line[:-1]) + LINE_END
            return _in_turns(self._cipher.open_pieces(line[:-1]), stream.hub) + LINE_END
        return line

    def _prepared(self, request: Line) -> tuple[Line, Line]:
        """Return what goes out for a request, and lond's reply if it does not have that host."""
        head = request[:8]
        if head == ENCRYPT and self._host is self._own_host:
            start, sealed = len(head), True  # as `text_part` says; most come here
        else:
            if head == SETHOST or self._host is not self._own_host:
                request, refusal = self._set_host(request)
                if refusal:
                    return request, refusal
            start, sealed = text_part(request)
        if SESSION_CHANGE.match(request, start):
            self.is_spent = True
        return (self._sealed(request, start) if sealed else request), b""

    def _set_host(self, request: Line) -> tuple[Line, Line]:
        """See to it that lond takes the request for the right id (protocol.md, 3e).

        What a client sets stays set, in front of a request, too: so a request that names no id
        is for ours, and that is said first where another one was named before. For an old lond
        all ids are, as it knows no `sethost:ID:` in front of a request.

        Returns the request as lond takes it, and lond's reply if it does not have that id. One
        that knows no sethost at all has ours.
        """
        host, rest = split_sethost(request)
        if request[:8] == SETHOST and not host:
            self.is_spent = True  # no id, or no request after it: the id would stay set
            return request, b""
        if host and not self.two_steps:
            self._host = self._own_host if host == self._own_host else host
            return request, b""
        host = host or self._own_host
        if host == self._host:
            return rest, b""
        try:
            reply = self._ask(b"sethost:%s\n" % host)
        except ReplyLostError as error:
            # Nothing of the request itself has left.
            raise StaleConnectionError(f"lost at sethost: {error}") from None
        if self.buffer.data:
            raise UnsolicitedBytesError("bytes after the reply to sethost")
        if reply != OK and (self.session.host_set or host != self._own_host):
            return rest, reply
        self._host = self._own_host if host == self._own_host else host
        return rest, b""

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
        self._cipher = _NO_CIPHER
        self.session = replace(self.session, key=b"")

    def _ended(self) -> bytes:
        raise ConnectionLostError("closed by lond before its whole reply")

    def _sealed(self, request: Line, start: int) -> bytes:
        payload = request[start:-1]
        if len(payload) <= LARGE:
            sealed = self._cipher.seal(payload) + LINE_END
        else:
            sealed = _in_turns(self._cipher.seal_pieces(payload), self.stream.hub) + LINE_END
        return clear_prefix(request, start) + sealed if request[:8] == SETHOST else sealed


def _in_turns(pieces: Iterator[bytes], hub: Hub) -> bytes:
    """Join the pieces; other greenlets run after each."""
    done = []
    for piece in pieces:
        done.append(piece)
        yield_to_others(hub)
    return b"".join(done)


def connect(host: HostSettings, hub: Hub, stream: Stream, credentials: Credentials) -> Lond:
    """Connect to the host's lond, on the empty `stream`, and shake hands.

    Each address is tried until one of them has a lond that completes the handshake, in
    `connect_timeout` and `handshake_timeout` for each. Where ssl fails and the host may do without,
    the address is dialled once more without ssl, and the session says why. Raises a NotSentError,
    whatever goes wrong, with the stream closed.
    """
    try:
        return _first_that_works(host, hub, stream, credentials)
    except NotSentError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt has to wait
        stream.close()
        raise UnforeseenError(_place(error)) from None
    except BaseException:  # a half-made connection must not be used
        stream.close()
        raise


def _first_that_works(
    host: HostSettings, hub: Hub, stream: Stream, credentials: Credentials
) -> Lond:
    resolver = resolver_of(hub)
    addresses = candidates(host, hub)
    failure: NotSentError | None = None
    while addresses:
        try:
            address = dial(host, addresses, stream)
            session = _session(host, address, stream, credentials)
        except NotSentError as error:
            stream.close()
            # A lond that accepts and then fails says more than an address without one.
            if failure is None or not isinstance(error, UnreachableError | ConnectTimeoutError):
                failure = error
        else:
            resolver.worked(host, address)
            return Lond(stream, session, host.server_id, host.pool.max_reply_bytes, address)
    resolver.failed(host)
    raise failure or UnresolvableError(f"{host.dns_name}: no address")


def _session(
    host: HostSettings, address: Address, stream: Stream, credentials: Credentials
) -> Session:
    """Shake hands on the connected stream; without ssl, on another connection, if that may be."""
    try:
        return shake_hands(host, stream, credentials)
    except FallBackError as failure:
        stream.close()
        dial(host, [address], stream)
        return shake_hands(host, stream, credentials, fell_back=str(failure))


def _place(error: Exception) -> str:
    """Return the type of an error and where it was raised; its text may hold what is secret."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.name}, {PurePath(frame.filename).name}:{frame.lineno}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
