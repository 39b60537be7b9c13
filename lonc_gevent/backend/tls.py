# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS with a lond, for one line only: the session key.

lond drops TLS after that line and goes on in plain text on the same TCP connection (protocol.md,
3d). So this is TLS in memory: TlsIO passes it one record at a time, and the bytes after the last
record are plain. What makes this difficult, and how it is handled:

- lond closes TLS with or without a close_notify, soon or late. protocol/tls_records.py removes the
  TLS records that arrive after the key. We send no close_notify, as a lond that has gone back to
  plain text would read it as a line; with `network.tls_close_notify` both sides send one.
- TLS 1.3 sends session tickets after the handshake. The TLS object consumes those before the key;
  those after it are removed as a late close_notify is.
- A lond of 2004 may know TLS 1.0 at most: `network.tls_minimum`.
"""

from __future__ import annotations

import ssl
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from lonc_gevent.configuration.certificates import expires
from lonc_gevent.errors import ConfigError, TlsFailedError
from lonc_gevent.protocol.tls_records import NotARecordError, Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from lonc_gevent.configuration.settings import Configuration, HostSettings, Network
    from lonc_gevent.eventloop import Stream

MAX_KEY_LINE: Final = 64
"""Limit in bytes of the line with the session key, which has 33."""

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.MINIMUM_SUPPORTED,  # its own name is deprecated, and warns
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
_T = TypeVar("_T")


class PeerGoneError(Exception):
    """lond closed the connection in the middle of TLS."""


class Credentials:
    """TLS client credentials (certificate, key, CA), and the directory of key files.

    certificate_expires  when our certificate expires (seconds since 1970), None without one
    origin               the settings and files that `context` was made from; sessions made with
                         the same ones need not be made anew
    """

    def __init__(self, *, key_directory: str = "") -> None:
        self.key_directory = key_directory
        self.context: ssl.SSLContext | None = None
        self.certificate_expires: float | None = None
        self.close_notify = False
        self.origin: tuple[object, ...] = ()

    def __repr__(self) -> str:
        return f"<Credentials ssl={self.context is not None}>"

    @property
    def fingerprint(self) -> str:
        """A hash of `origin`; "" without certificates."""
        return sha256(repr(self.origin).encode()).hexdigest() if self.origin else ""

    def load(self, network: Network) -> None:
        """Read the certificate, key and CA. Raises ConfigError."""
        self.context = client_context(network)
        self.close_notify = network.tls_close_notify
        try:
            certificate = Path(network.certificate).read_bytes()
            ca_certificate = Path(network.ca_certificate).read_bytes()
            crl = Path(network.crl).read_bytes() if network.crl else b""
        except OSError as error:
            raise ConfigError([f"network.certificate: {_reason(error)}"]) from None
        self.certificate_expires = expires(certificate)
        self.origin = (
            network.check_certificate_name,
            network.tls_minimum,
            network.tls_close_notify,
            certificate,
            ca_certificate,
            crl,
        )


def credentials_for(configuration: Configuration) -> Credentials:
    """Return the credentials that the hosts of a configuration need. Raises ConfigError."""
    network = configuration.settings.network
    credentials = Credentials(key_directory=network.key_directory)
    if any(map(needs_certificates, configuration.hosts)):
        credentials.load(network)
    return credentials


def needs_certificates(host: HostSettings) -> bool:
    """Return whether connections to the host are made with our certificate."""
    return host.security.startswith("ssl")


def client_context(network: Network) -> ssl.SSLContext:
    """Make a TLS client context from the files of `[network]`. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = network.check_certificate_name
    if network.tls_minimum == "1.0":
        # OpenSSL 3 supports TLS 1.0 at its lowest security level only.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = _VERSIONS[network.tls_minimum]
    try:
        context.load_verify_locations(network.ca_certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"network.ca_certificate: {_reason(error)}"]) from None
    if network.crl:
        try:
            context.load_verify_locations(network.crl)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"network.crl: {_reason(error)}"]) from None
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    try:
        # `str` gives an empty pass phrase, where OpenSSL would ask for one on the terminal.
        context.load_cert_chain(network.certificate, network.private_key, password=str)
    except (OSError, ssl.SSLError) as error:
        found = f"network.certificate, network.private_key: {_reason(error)}"
        raise ConfigError([found]) from None
    return context


def read_key_line(
    stream: Stream, context: ssl.SSLContext, name: str, early: bytes, *, close_notify: bool
) -> tuple[bytes, bytes]:
    """Set up TLS as the client and read one line; return it, and the bytes after TLS.

    name   the name that lond's certificate must be for
    early  bytes that came with the line before TLS

    Raises TlsFailedError, PeerGoneError if lond closes; OSError and DeadlineError as `stream`
    does.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    except ValueError:
        raise TlsFailedError("the host has no name that a certificate can be for") from None
    tls_io = TlsIO(stream, incoming, outgoing, Records(early))
    tls_io.run(tls.do_handshake)
    line = b""
    while not line.endswith(b"\n"):
        wanted = MAX_KEY_LINE - len(line)
        part = tls_io.run(partial(tls.read, wanted)) if wanted else b""
        if not part:
            raise TlsFailedError("no whole line inside TLS")
        line += part
    if close_notify:
        tls_io.run(tls.unwrap)
    return line, tls_io.records.rest()


class TlsIO:
    """Carries TLS records between a TLS object in memory and a stream."""

    def __init__(
        self, stream: Stream, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, records: Records
    ) -> None:
        self.records = records
        self._stream = stream
        self._incoming = incoming
        self._outgoing = outgoing

    def run(self, step: Callable[[], _T]) -> _T:
        """Repeat a step of TLS until it needs no more bytes; return its result."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._record())
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                raise TlsFailedError("lond ended TLS before its key") from None
            except ssl.SSLError as error:
                self._flush()  # the alert, which holds the reason
                raise TlsFailedError(_reason(error)) from None
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._stream.write(data)

    def _record(self) -> bytes:
        """Wait for the next whole record."""
        try:
            record = self.records.take()
            while record is None:
                data = self._stream.read()
                if not data:
                    raise PeerGoneError
                self.records.add(data)
                record = self.records.take()
        except NotARecordError as error:
            raise TlsFailedError(str(error)) from None
        return record


def _reason(error: OSError) -> str:
    """Return the reason in a fixed text of OpenSSL or the system: never bytes received."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"lond's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").lower().replace("_", " ")
    return error.strerror or type(error).__name__
