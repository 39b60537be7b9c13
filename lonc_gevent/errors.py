# SPDX-License-Identifier: GPL-2.0-or-later
"""The exception tree, by what the caller can do.

ConfigError           a person must mend a file; every problem is named in it
AlreadyRunningError   another daemon holds the directory; exit 3
LondError             something went wrong with a lond, its class says what, its branch what to do:
  NotSentError        no byte of a request has left: it may go to another connection
  ReplyLostError      the request may have run: answer con_lost, never send it again
UnsealError           a sealed delayed request: to quarantine with it
SpoolError            the delayed directory: say so, and try again later

Each LondError that can be raised carries a `kind`: its short name in log events and metrics.
Texts never hold a payload, a key or a challenge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoncError(Exception):
    """Whatever this package raises on purpose."""


class ConfigError(LoncError):
    """The configuration does not pass; `problems` has one line for each thing to mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class AlreadyRunningError(LoncError):
    """Another instance holds the socket directory."""


class LondError(LoncError):
    """A lond, or the way to it, failed. Raise one of the leaves."""

    kind: ClassVar[str] = "lond_error"


# -- nothing was sent: another connection may try --------------------------------------------


class NotSentError(LondError):
    """No byte of a request has left this machine."""


class UnresolvableError(NotSentError):
    """The host's name has no address."""

    kind = "unresolvable"


class UnreachableError(NotSentError):
    """No address of the host took the TCP connection (refused, no route, reset)."""

    kind = "unreachable"


class ConnectTimeoutError(NotSentError):
    """The TCP connection was not made within `connect_timeout`."""

    kind = "connect_timeout"


class HandshakeTimeoutError(NotSentError):
    """The handshake was not done within `handshake_timeout`."""

    kind = "handshake_timeout"


class RefusedError(NotSentError):
    """lond answered `refused`, or closed without a line: it does not know us."""

    kind = "refused"


class ChallengeFailedError(NotSentError):
    """lond did not say `ok` to its own challenge (protocol.md, section 3a)."""

    kind = "challenge_failed"


class HostNotServedError(NotSentError):
    """lond answered `unable_to_set` to our `sethost` (protocol.md, section 3b)."""

    kind = "host_not_served"


class HandshakeGarbageError(NotSentError):
    """lond sent something that has no place in the handshake."""

    kind = "handshake_garbage"


class HandshakeLostError(NotSentError):
    """lond went away in the middle of the handshake."""

    kind = "handshake_lost"


class TlsFailedError(NotSentError):
    """TLS with lond came to nothing: a certificate is not what it must be, or its bytes are not."""

    kind = "tls_failed"


class KeyFileError(NotSentError):
    """The file that hands a key to a lond of this machine could not be made (protocol.md, 3c)."""

    kind = "key_file"


class UnforeseenError(NotSentError):
    """An error that the code does not expect ended the attempt to connect."""

    kind = "unforeseen"


class StaleConnectionError(NotSentError):
    """An idle connection turned out to be closed, before a request was put on it."""

    kind = "stale"


# -- the request may have run: never again ----------------------------------------------------


class ReplyLostError(LondError):
    """At least one byte of the request left, and no whole reply came back."""


class ConnectionLostError(ReplyLostError):
    """lond closed or reset the connection before its whole reply had arrived."""

    kind = "connection_lost"


class ReplyTimeoutError(ReplyLostError):
    """The whole reply did not arrive within `reply_timeout`."""

    kind = "reply_timeout"


class ReplyTooLongError(ReplyLostError):
    """The reply is longer than `max_reply_bytes`."""

    kind = "reply_too_long"


class UnsolicitedBytesError(NotSentError):
    """Bytes nobody asked for came: both sides no longer agree who speaks."""

    kind = "unsolicited_bytes"


class BadSealedReplyError(ReplyLostError):
    """An `enc:` reply that cannot be opened (protocol.md, section 4)."""

    kind = "bad_sealed_reply"


# -- delayed requests ------------------------------------------------------------------------


class UnsealError(LoncError):
    """A sealed delayed request cannot be opened; `kind` says why, in one word."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class SpoolError(LoncError):
    """The delayed directory cannot be used now; the text says why."""
