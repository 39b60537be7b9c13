# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection to a lond: a TCP socket, a handshake, and then one transaction at a time.

Blocking-style code for the greenlet that owns the connection. Errors of the operating system are
mapped to errors.py here: NotSentError before the first byte of a request was sent, ReplyLostError
after it. After an error the connection cannot be used any more; its owner closes it.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import replace
from itertools import chain
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
from lonc_gevent.eventloop import UNLIMITED, DeadlineError, yield_to_others
from lonc_gevent.protocol.cipher import KEY_BYTES, Cipher
from lonc_gevent.protocol.handshake_tables import INLINE_SETHOST
from lonc_gevent.protocol.lines import (
    ENCRYPT,
    LINE_END,
    OK,
    SETHOST,
    SPECIAL_FIRST,
    LineBuffer,
    LineTooLongError,
    changes_session,
    clear_prefix,
    split_sethost,
    text_part,
)

from .dial import candidates, dial
from .handshake_io import FallBackError, shake_hands
from .resolver import resolver_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gevent.hub import Hub

    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import MemoryBudget, Stream
    from lonc_gevent.protocol.handshake import Session
    from lonc_gevent.protocol.lines import Line

    from .resolver import Address
    from .tls import Credentials

LARGE = 64 * 1024
"""Bytes. A larger text is sealed and opened in pieces; other greenlets run after each piece."""

MAX_ID = 255
"""Bytes of the longest host id that a connection remembers as that of the last request."""

_SEALED = b"enc:"
_NO_CIPHER = Cipher(bytes(KEY_BYTES))
"""Cipher of a closed connection, so that it does not keep its key."""


class Lond:
    """A connection after its handshake, made by `connect`. One greenlet uses it.

    The owner closes it after a reply if `buffer` holds more bytes, as they would be taken for the
    next reply, or if it `is_spent`: a request may have changed lond's key or host id.
    """

    __slots__ = (
        "_cipher",
        "_host",
        "_max_reply",
        "_memory",
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
        memory: MemoryBudget = UNLIMITED,
    ) -> None:
        self.stream = stream
        self._memory = memory
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

        Raises NotSentError if no byte of the request was sent, ReplyLostError if one was.
        """
        if request[0] in SPECIAL_FIRST or self._host is not self._own_host:
            return self._exchange_special(request)
        return self._ask(request)

    def _ask(self, begin: Line, rest: Iterable[bytes] = ()) -> Line:
        """Write a line as it is; return lond's reply, decrypted. Raises as `exchange` does.

        rest: pieces of the line after its beginning; other greenlets run before each.
        """
        stream = self.stream
        if stream.has_input():  # it came before the request, so it is no reply to it
            raise self.unexpected()
        wire = begin
        try:
            stream.write(wire)
            for wire in rest:
                yield_to_others(stream.hub)
                stream.write(wire)
            line = self.buffer.add(stream.read() or self._ended()) or self._read_rest()
        except OSError as error:
            is_sent = stream.sent or wire is not begin
            raise (ConnectionLostError if is_sent else StaleConnectionError)(
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
            stream.deadline = inf  # the reply is here, and opening it does not wait for lond
            if len(line) <= LARGE:
                return self._cipher.open(line[:-1]) + LINE_END
            return self._open_long(line)
        return line

    def _read_rest(self) -> Line:
        """Read the rest of a reply that did not arrive at once."""
        line = None
        while line is None:
            self.buffer.data = self._memory.admit(self.buffer.data, self.stream)
            line = self.buffer.add(self.stream.read() or self._ended())
        return self._memory.counted(line)

    def _open_long(self, line: Line) -> Line:
        """Decrypt a long reply in pieces; other greenlets run after each."""
        reply = self._memory.line()
        for piece in self._cipher.open_pieces(memoryview(line)[:-1]):
            reply += piece
            self._memory.count(reply)
            yield_to_others(self.stream.hub)
        reply += LINE_END
        return reply

    def _exchange_special(self, request: Line) -> Line:
        """Exchange a request that concerns the host id or the session, or is to be encrypted."""
        head = request[:8]
        if head == ENCRYPT and self._host is self._own_host:
            start, sealed = len(head), True  # as `text_part` returns; the usual case
        else:
            if head == SETHOST or self._host is not self._own_host:
                request, refusal = self._set_host(request)
                if refusal:
                    return refusal
            start, sealed = text_part(request)
        if changes_session(request, start):
            self.is_spent = True
        if not sealed:
            return self._ask(request)
        prefix = clear_prefix(request, start) if request[:8] == SETHOST else b""
        if len(request) - start <= LARGE:
            return self._ask(prefix + self._cipher.seal(request[start:-1]) + LINE_END)
        pieces = self._cipher.seal_pieces(memoryview(request)[start:-1])
        return self._ask(prefix + next(pieces), chain(pieces, (LINE_END,)))

    def _set_host(self, request: Line) -> tuple[Line, Line]:
        """Make lond run the request under the right host id (protocol.md, 3e).

        lond keeps the id of the last sethost, also of one in front of a request, so ours is sent
        first if another one was set. A lond before INLINE_SETHOST needs `sethost` as a line of
        its own for each id.

        Returns the request to send, and lond's reply if it refused the id. A lond that does not
        know sethost serves our id only. Raises NotSentError.
        """
        host, rest = split_sethost(request)
        if request[:8] == SETHOST and not 0 < len(host) <= MAX_ID:
            # No id, or no request after it, so the id would stay set; or one too long to be kept.
            self.is_spent = True
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
            # Nothing of the request itself was sent, so the request may be requeued.
            raise StaleConnectionError(f"lost at sethost: {error}") from None
        if self.buffer.data:
            raise UnsolicitedBytesError("bytes after the reply to sethost")
        if reply != OK and (self.session.host_set or host != self._own_host):
            return rest, reply
        self._host = self._own_host if host == self._own_host else host
        return rest, b""

    def unexpected(self) -> StaleConnectionError | UnsolicitedBytesError:
        """Return the error for input on an idle connection: closed, or unrequested bytes."""
        try:
            data = os.read(self.stream.fd, 1)
        except OSError as error:
            return StaleConnectionError(_reason(error))
        if data:
            return UnsolicitedBytesError("bytes without a request")
        return StaleConnectionError("closed by lond while idle")

    def close(self) -> None:
        """Close the connection and forget its key."""
        self.stream.close()
        self._cipher = _NO_CIPHER
        self.session = replace(self.session, key=b"")

    def _ended(self) -> bytes:
        raise ConnectionLostError("closed by lond before its whole reply")


def connect(
    host: HostSettings,
    hub: Hub,
    stream: Stream,
    credentials: Credentials,
    memory: MemoryBudget = UNLIMITED,
) -> Lond:
    """Connect to the host's lond, on the empty `stream`, and shake hands.

    memory: counts long replies.

    Tries each address, for `connect_timeout` and `handshake_timeout`, until a handshake completes.
    If TLS fails and the host may be used without, the address is dialled once more without TLS,
    and `Session.fell_back` holds the reason. Raises NotSentError for any failure, with the stream
    closed.
    """
    try:
        session, address = _first_that_works(host, hub, stream, credentials)
        return Lond(stream, session, host.server_id, host.pool.max_reply_bytes, address, memory)
    except NotSentError:
        raise
    except Exception as error:  # noqa: BLE001 - any error shuts the retry gate
        stream.close()
        raise UnforeseenError(_place(error)) from None
    except BaseException:  # killed: an unfinished connection must not be used
        stream.close()
        raise


def _first_that_works(
    host: HostSettings, hub: Hub, stream: Stream, credentials: Credentials
) -> tuple[Session, Address]:
    resolver = resolver_of(hub)
    addresses = candidates(host, hub)
    failure: NotSentError | None = None
    while addresses:
        try:
            address = dial(host, addresses, stream)
            session = _session(host, address, stream, credentials)
        except NotSentError as error:
            stream.close()
            # The error of a lond that accepts explains more than that of an unreachable address.
            if failure is None or not isinstance(error, UnreachableError | ConnectTimeoutError):
                failure = error
        else:
            resolver.worked(host, address)
            return session, address
    resolver.failed(host)
    raise failure or UnresolvableError(f"{host.dns_name}: no address")


def _session(
    host: HostSettings, address: Address, stream: Stream, credentials: Credentials
) -> Session:
    """Shake hands on the connected stream; on FallBackError again without TLS, after a new dial."""
    try:
        return shake_hands(host, stream, credentials)
    except FallBackError as failure:
        stream.close()
        dial(host, [address], stream)
        return shake_hands(host, stream, credentials, fell_back=str(failure))


def _place(error: Exception) -> str:
    """Return the type of an error and where it was raised, not its text, which may be secret."""
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.name}, {PurePath(frame.filename).name}:{frame.lineno}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
