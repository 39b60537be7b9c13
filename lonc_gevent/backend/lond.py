# SPDX-License-Identifier: GPL-2.0-or-later
"""One connection to a lond: a TCP socket, a handshake, and then one transaction at a time.

Blocking-style code for the greenlet that owns the connection. Errors of the operating system are
mapped to errors.py here: NotSentError before the first byte of a request was sent, ReplyLostError
after it. After an error the connection cannot be used any more; its owner closes it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from math import inf
from typing import TYPE_CHECKING

from lonc_gevent.errors import (
    ConnectionLostError,
    NotSentError,
    ReplyLostError,
    ReplyTimeoutError,
    ReplyTooLongError,
    StaleConnectionError,
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lonc_gevent.eventloop import MemoryBudget, Stream
    from lonc_gevent.protocol.handshake import Session
    from lonc_gevent.protocol.lines import Line

    from .resolver import Address

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

    is_asked    whether a line is being sent, or its reply is not whole yet
    in_sethost  whether that line is a sethost of its own, before a request
    """

    __slots__ = (
        "_cipher",
        "_host",
        "_max_reply",
        "_memory",
        "_opening",
        "_own_host",
        "_rest",
        "address",
        "buffer",
        "in_sethost",
        "is_asked",
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
        self.is_spent = self.is_asked = self.in_sethost = False
        self._rest: Iterator[bytes] = iter(())  # of a line that is being sent in pieces
        self._opening: Line = b""  # a sealed reply that is being opened in pieces
        self.two_steps = (session.lond_version or 0) < INLINE_SETHOST

    def exchange(self, request: Line) -> Line:
        """Send a request line and return the reply line, in clear.

        Raises NotSentError if no byte of the request was sent, ReplyLostError if one was.
        """
        if request[0] in SPECIAL_FIRST or self._host is not self._own_host:
            return self._exchange_special(request)
        return self._ask(request)

    def resume(self, unsent: Line) -> Line:
        """Return the reply to a request of which all but `unsent` was sent (see `restore`).

        Raises ReplyLostError.
        """
        try:
            return self._ask(unsent)
        except NotSentError as error:  # the rest was not, but what went before was
            raise ConnectionLostError(str(error)) from None

    def _ask(self, begin: Line, rest: Iterable[bytes] = ()) -> Line:
        """Write a line as it is; return lond's reply, decrypted. Raises as `exchange` does.

        rest: pieces of the line after its beginning.
        """
        stream = self.stream
        # Input came before the request, so it is no reply to it, unless the request is resumed.
        if not self.is_asked and stream.has_input():
            raise self.unexpected()
        self.is_asked = True
        wire = begin
        try:
            stream.write(wire)
            for wire in rest:
                stream.write(wire)
            if self.buffer.data:  # received by the program before a restart in place
                line = self._read_rest()
            else:
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
                line = self._cipher.open(line[:-1]) + LINE_END
            else:
                line = self._open_long(line)
        self.is_asked = False
        return line

    def _read_rest(self) -> Line:
        """Read the rest of a reply that did not arrive at once."""
        line = self.buffer.take()
        while line is None:
            self.buffer.data = self._memory.admit(self.buffer.data, self.stream)
            line = self.buffer.add(self.stream.read() or self._ended())
        return self._memory.counted(line)

    def _in_pieces(self, rest: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the rest of a line in pieces; other greenlets run before each."""
        self._rest = rest
        yield_to_others(self.stream.hub)
        while piece := next(self._rest, b""):
            yield piece
            yield_to_others(self.stream.hub)

    def _open_long(self, line: Line) -> Line:
        """Decrypt a long reply in pieces; other greenlets run after each."""
        self._opening = line
        reply = self._memory.line()
        for piece in self._cipher.open_pieces(memoryview(line)[:-1]):
            reply += piece
            self._memory.count(reply)
            yield_to_others(self.stream.hub)
        reply += LINE_END
        self._opening = b""
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
        return self._ask(prefix + next(pieces), self._in_pieces(chain(pieces, (LINE_END,))))

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
        self.in_sethost = True
        try:
            reply = self._ask(b"sethost:%s\n" % host)
            self.in_sethost = False
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

    # -- restart in place --------------------------------------------------------------------

    def unsent(self) -> bytes:
        """Return what the kernel has not taken yet of the line that is being sent."""
        rest = list(self._rest)
        self._rest = iter(rest)  # if the restart does not take place
        return self.stream.unsent + b"".join(rest)

    @property
    def received(self) -> bytes:
        """What has arrived of the reply."""
        return bytes(self._opening) + self.buffer.contents

    @property
    def host_id(self) -> bytes:
        """The host id of the last sethost."""
        return self._host

    def restore(self, host_id: bytes, received: bytes, *, is_asked: bool) -> None:
        """Take over where the program before stopped, in the middle of a line if `is_asked`."""
        self._host = self._own_host if host_id == self._own_host else host_id
        self.buffer.refill(received)
        self.is_asked = is_asked

    def close(self) -> None:
        """Close the connection and forget its key."""
        self.stream.close()
        self._cipher = _NO_CIPHER
        self.session = replace(self.session, key=b"")

    def _ended(self) -> bytes:
        raise ConnectionLostError("closed by lond before its whole reply")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
