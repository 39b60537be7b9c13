# SPDX-License-Identifier: GPL-2.0-or-later
"""lond's side of TLS, which carries one line between plain ones (protocol.md, 3d)."""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gevent.socket import socket

CloseNotify = Literal["none", "send", "unread", "late", "both"]

_ALERT = b"\x15"
_CHUNK = 65536
_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TlsProfile:
    """TLS credentials of the fake lond, and how it ends TLS.

    close_notify  none: ends without one
                  send: a close_notify after the key; the client's is read as plain text
                  unread: the same, where the client's holds a newline, as one in ten does
                  late: a close_notify with the next plain line
                  both: one from either side
    """

    certificate: Path
    private_key: Path
    ca_certificate: Path
    version: str = ""
    """The only version of TLS that it supports; "": all versions of OpenSSL."""
    close_notify: CloseNotify = "none"

    @cache  # noqa: B019 - a profile lives as long as its fake lond
    def context(self) -> ssl.SSLContext:
        """Return the server's context, which requires a client certificate. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        if self.version == "1.0":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_verify_locations(self.ca_certificate)
        context.load_cert_chain(self.certificate, self.private_key)
        if self.version:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 is meant here
                context.minimum_version = context.maximum_version = _VERSIONS[self.version]
        return context


def send_key(sock: socket, profile: TlsProfile, line: bytes, early: bytes) -> tuple[bytes, bytes]:
    """Start TLS as the server, send the line in it, and end TLS.

    `early` are bytes already read. Returns the bytes read that are not TLS, and the bytes to send
    before the next plain line. Raises OSError, which includes ssl.SSLError.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(early)
    tls = profile.context().wrap_bio(incoming, outgoing, server_side=True)

    def through(step: Callable[[], _T]) -> _T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                data = sock.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError(0, "disconnected during TLS") from None
                incoming.write(data)
            except ssl.SSLError:
                sock.sendall(outgoing.read())  # the alert
                raise
            else:
                sock.sendall(outgoing.read())
                return result

    through(tls.do_handshake)
    through(lambda: tls.write(line))
    late = b""
    if profile.close_notify == "both":
        through(tls.unwrap)
    elif profile.close_notify != "none":
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        late = outgoing.read()
    if profile.close_notify in ("send", "unread"):
        sock.sendall(late)
        late = b""
    return _plain_text(sock, profile, incoming.read()), late


def _plain_text(sock: socket, profile: TlsProfile, data: bytes) -> bytes:
    """Return what came after TLS; for `unread`, the client's close_notify with a newline in it."""
    if profile.close_notify == "unread":
        data = data or sock.recv(_CHUNK)
        if data.startswith(_ALERT):
            return _ALERT + b"\n" + data[1:]
    return data
