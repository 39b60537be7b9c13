# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions of this package, grouped by what the caller can do.

ConfigError          the configuration or a file it names must be corrected
AlreadyRunningError  another daemon uses the socket directory, or a socket; exit code 3
LondError            a connection to a lond failed:
  NotSentError       no byte of a request was sent: send it on another connection
  ReplyLostError     the request may have run: answer con_lost, never send it again
UnsealError          a sealed delayed request cannot be decrypted: quarantine it
SpoolError           the delayed directory cannot be used: log it, and try again later

The class attribute `kind` of a LondError is its short name in log events and metrics. Texts never
hold a payload, a key or a challenge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class LoncError(Exception):
    """Base of the exceptions that this package raises on purpose."""


class ConfigError(LoncError):
    """The configuration is invalid; `problems` has one line for each thing to correct."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class AlreadyRunningError(LoncError):
    """Another process uses the socket directory, or one of the sockets."""


class LondError(LoncError):
    """A lond or the connection to it failed. Only the leaf classes are raised."""

    kind: ClassVar[str] = "lond_error"


# -- no byte was sent, so the request may be sent on another connection ----------------------


class NotSentError(LondError):
    """No byte of a request was sent."""


class UnresolvableError(NotSentError):
    """The host's name has no address."""

    kind = "unresolvable"


class UnreachableError(NotSentError):
    """No address of the host accepted the TCP connection (refused, no route, reset)."""

    kind = "unreachable"


class ConnectTimeoutError(NotSentError):
    """The TCP connection was not made within `connect_timeout`."""

    kind = "connect_timeout"


class HandshakeTimeoutError(NotSentError):
    """The handshake was not complete within `handshake_timeout`."""

    kind = "handshake_timeout"


class RefusedError(NotSentError):
    """lond answered `refused`, or closed without a line, as it does not know this machine."""

    kind = "refused"


class ChallengeFailedError(NotSentError):
    """lond did not answer `ok` to its own challenge (protocol.md, section 3a)."""

    kind = "challenge_failed"


class HostNotServedError(NotSentError):
    """lond answered `unable_to_set` to our `sethost` (protocol.md, section 3b)."""

    kind = "host_not_served"


class HandshakeGarbageError(NotSentError):
    """lond sent a line, or bytes, that the handshake does not allow."""

    kind = "handshake_garbage"


class HandshakeLostError(NotSentError):
    """lond closed or reset the connection during the handshake."""

    kind = "handshake_lost"


class TlsFailedError(NotSentError):
    """The TLS handshake failed: a bad certificate, or bytes that are not TLS."""

    kind = "tls_failed"


class KeyFileError(NotSentError):
    """The key file for a lond of this machine could not be created (protocol.md, 3c)."""

    kind = "key_file"


class UnforeseenError(NotSentError):
    """An unexpected error, such as a bug, ended the connection attempt."""

    kind = "unforeseen"


class StaleConnectionError(NotSentError):
    """lond had closed an idle connection, or closed it before the request was sent."""

    kind = "stale"


class UnsolicitedBytesError(NotSentError):
    """lond sent bytes without a request, so the next reply could belong to another request."""

    kind = "unsolicited_bytes"


# -- the request may have run, so it must not be sent again -----------------------------------


class ReplyLostError(LondError):
    """At least one byte of the request was sent, and no whole reply arrived."""


class ConnectionLostError(ReplyLostError):
    """lond closed or reset the connection before its whole reply had arrived."""

    kind = "connection_lost"


class ReplyTimeoutError(ReplyLostError):
    """The whole reply did not arrive within `reply_timeout`."""

    kind = "reply_timeout"


class ReplyTooLongError(ReplyLostError):
    """The reply is longer than `max_reply_bytes`."""

    kind = "reply_too_long"


class BadSealedReplyError(ReplyLostError):
    """An `enc:` reply cannot be decrypted (protocol.md, section 4)."""

    kind = "bad_sealed_reply"


# -- delayed requests ------------------------------------------------------------------------


class UnsealError(LoncError):
    """A sealed delayed request cannot be decrypted; `kind` is a short name of the reason."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class SpoolError(LoncError):
    """The delayed directory cannot be used now; the text is the reason."""
