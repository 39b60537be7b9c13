# SPDX-License-Identifier: GPL-2.0-or-later
"""Send and read the lines of a handshake; protocol/handshake.py decides which."""

from __future__ import annotations

from contextlib import nullcontext
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from lonc_gevent.errors import (
    HandshakeGarbageError,
    HandshakeTimeoutError,
    LondError,
    NotSentError,
    TlsFailedError,
)
from lonc_gevent.eventloop import DeadlineError
from lonc_gevent.protocol.handshake import Handshake
from lonc_gevent.protocol.handshake_tables import MAX_LINE
from lonc_gevent.protocol.lines import LineBuffer, LineTooLongError
from lonc_gevent.protocol.tls_records import NotARecordError, Tail

from .local_key import key_file
from .tls import PeerGoneError, read_key_line

if TYPE_CHECKING:
    from lonc_gevent.configuration.settings import HostSettings
    from lonc_gevent.eventloop import Stream
    from lonc_gevent.protocol.handshake import Session

    from .tls import Credentials

CLOSE_NOTIFY_ADVICE = "try network.tls_close_notify = false"


class FallBackError(Exception):
    """TLS failed, and the host may be used without: dial again, then shake hands as insecure."""


def shake_hands(
    host: HostSettings, stream: Stream, credentials: Credentials, fell_back: str = ""
) -> Session:
    """Shake hands on a connected stream, within `handshake_timeout`.

    fell_back: the text of the FallBackError of the first attempt; this one is then made as
    insecure. Raises a NotSentError, or FallBackError if a second attempt is to be made.
    """
    stream.deadline = monotonic() + host.pool.handshake_timeout
    security = "insecure" if fell_back else host.security
    local = key_file(credentials.key_directory) if security == "local" else nullcontext()
    with local as key:
        handshake = Handshake(
            server_id=host.server_id,
            client_id=host.client_id,
            negotiation=host.negotiation,
            security=security,
            local=key,
            init_version=host.init_version,
            fell_back=fell_back,
        )
        error: LondError
        try:
            HandshakeIO(handshake, stream, credentials, host.dns_name).run()
        except DeadlineError:
            # A second attempt, without TLS, would need the time that this one has used.
            raise HandshakeTimeoutError(f"no answer in state {handshake.state.name}") from None
        except (OSError, PeerGoneError):
            error = handshake.lost()
        except LineTooLongError:
            reason = f"a line over {MAX_LINE} bytes"
            error = handshake.failed(HandshakeGarbageError, reason)
        except TlsFailedError as failure:
            error = handshake.failed(TlsFailedError, str(failure))
        except NotSentError as failure:
            error = failure
        else:
            stream.deadline = inf
            return handshake.session
        if handshake.may_fall_back:
            raise FallBackError(f"{error.kind}: {error}")
        if handshake.failed_after_tls and credentials.close_notify:
            error = type(error)(f"{error}; it may read no close_notify: {CLOSE_NOTIFY_ADVICE}")
        raise error


class HandshakeIO:
    """Carries the lines of one handshake between its state machine and a stream."""

    def __init__(
        self, handshake: Handshake, stream: Stream, credentials: Credentials, name: str
    ) -> None:
        self._handshake = handshake
        self._stream = stream
        self._credentials = credentials
        self._name = name
        self._buffer = LineBuffer(MAX_LINE)
        self._tail: Tail | None = None

    def run(self) -> None:
        """Send and read lines until the handshake is complete. Raises what ended it."""
        handshake = self._handshake
        self._stream.write(handshake.start())
        while not handshake.complete:
            line = self._read_tls_line() if handshake.wants_tls else self._read_line()
            answer = handshake.receive(line)
            if self._buffer and not handshake.wants_tls:
                # lond answers one line with one line. With more, each later reply would be shifted.
                raise handshake.failed(HandshakeGarbageError, "more bytes than one line")
            if answer:
                self._stream.write(answer)

    def _read_line(self) -> bytes:
        """Read a line in plain text."""
        line = self._buffer.take()
        while line is None:
            data = self._stream.read()
            if not data:
                raise PeerGoneError
            data = self._without_tls(data)
            if data:
                line = self._buffer.add(data)
        return bytes(line)

    def _without_tls(self, data: bytes) -> bytes:
        """Return the data without late TLS records. Raises TlsFailedError."""
        if self._tail is None:
            return data
        try:
            return self._tail.plain(data)
        except NotARecordError as error:
            raise TlsFailedError(str(error)) from None

    def _read_tls_line(self) -> bytes:
        """Read a line inside TLS; plain bytes after TLS go to the buffer."""
        credentials = self._credentials
        if credentials.context is None:
            raise TlsFailedError("no certificates were read")
        line, rest = read_key_line(
            self._stream,
            credentials.context,
            self._name,
            self._buffer.rest(),
            close_notify=credentials.close_notify,
        )
        self._tail = Tail()
        self._buffer.refill(self._without_tls(rest))
        return line
