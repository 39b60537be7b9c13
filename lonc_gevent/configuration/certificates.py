# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of our certificate, its key and the network's CA: their form, their dates.

All are given as the bytes of PEM files. No text contains a part of a key. OpenSSL itself checks the
signatures (daemon/requirements.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import (
    Certificate,
    load_der_x509_certificate,
    load_pem_x509_certificates,
    load_pem_x509_crl,
)

from .problems import Fault, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON: Final = 30 * 86400.0
"""Seconds before the end of a certificate at which it is reported."""

_WEAK: Final = (MD5, SHA1)

_SHORT_KEY: Final = 2048
"""Bits below which an RSA key is too short for OpenSSL's usual level of security."""

CERTIFICATE: Final = "network.certificate"
PRIVATE_KEY: Final = "network.private_key"
CA: Final = "network.ca_certificate"
CRL: Final = "network.crl"


def check_together(certificate: bytes, private_key: bytes, ca: bytes) -> Iterator[Fault]:
    """Find files that cannot be used, or a key of another certificate. Never raises."""
    chain = _certificates(certificate)
    key = _public_half(private_key)
    if not chain:
        yield Fault(CERTIFICATE, "no certificate in it", "expected a PEM file")
    if not _certificates(ca):
        yield Fault(CA, "no certificate in it", "expected a PEM file")
    if isinstance(key, str):
        yield Fault(PRIVATE_KEY, key, "expected a PEM file with a key that needs no pass phrase")
    elif chain and key != _spki(chain[0]):
        yield Fault(PRIVATE_KEY, "is the key of another certificate", f"expected {CERTIFICATE}'s")


def check_dates(certificate: bytes, ca: bytes, now: float) -> Iterator[Fault]:
    """Find certificates that are not valid at `now` (seconds since 1970), or expire soon."""
    for key, content in ((CERTIFICATE, certificate), (CA, ca)):
        for one in _certificates(content)[:1]:
            begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
            if now < begins.timestamp():
                found = f"is not valid before {begins.date()}"
                yield Fault(key, found, "expected one that is valid now", Severity.ERROR)
            elif now >= ends.timestamp():
                found = f"expired on {ends.date()}"
                yield Fault(key, found, "expected one that is valid now", Severity.ERROR)
            elif now >= ends.timestamp() - SOON:
                expected = f"expected more than {SOON / 86400:.0f} days"
                yield Fault(key, f"expires on {ends.date()}", expected, Severity.WARNING)


def check_crl(content: bytes, now: float) -> Iterator[Fault]:
    """Check that a list of revoked certificates in PEM is valid at `now`. Never raises."""
    try:
        ends = load_pem_x509_crl(content).next_update_utc
    except ValueError:
        yield Fault(CRL, "no list of revoked certificates in it", "expected a PEM file")
        return
    if ends is not None and now >= ends.timestamp():
        expected = "expected a newer list: with this one no certificate is accepted"
        yield Fault(CRL, f"expired on {ends.date()}", expected, Severity.ERROR)


def faults_of(certificate: bytes, now: float) -> Iterator[str]:
    """Describe why OpenSSL with its usual settings refuses a certificate in DER. Never raises."""
    try:
        one = load_der_x509_certificate(certificate)
        key, signed_with = one.public_key(), one.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        yield "cannot be read"
        return
    if now < one.not_valid_before_utc.timestamp():
        yield f"is not valid before {one.not_valid_before_utc.date()}"
    elif now >= one.not_valid_after_utc.timestamp():
        yield f"expired on {one.not_valid_after_utc.date()}"
    if isinstance(signed_with, _WEAK):
        yield f"is signed with {signed_with.name.upper()}"
    if isinstance(key, RSAPublicKey) and key.key_size < _SHORT_KEY:
        yield f"has an RSA key of {key.key_size} bits"


def expires(certificate: bytes) -> float | None:
    """Return when the first certificate in a PEM file expires, in seconds since 1970."""
    for one in _certificates(certificate)[:1]:
        return one.not_valid_after_utc.timestamp()
    return None


def _certificates(content: bytes) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        return []


def _public_half(private_key: bytes) -> bytes | str:
    """Return the public half of a key, or the reason of a failure."""
    try:
        key = load_pem_private_key(private_key, None)
    except TypeError:
        return "is encrypted with a pass phrase"
    except (ValueError, UnsupportedAlgorithm):
        return "no private key in it"
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki(certificate: Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
