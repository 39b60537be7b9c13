# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether our certificate, its key and the network's CA belong together, and until when.

All is given as the bytes of PEM files. No text says anything of a key but that it is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate, load_pem_x509_certificates

from .problems import Fault, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON: Final = 30 * 86400.0
"""Seconds before a certificate's end at which it is time to say so."""

_WEAK: Final = (MD5, SHA1)

_CHAIN: Final = 8
"""Certificates from ours to the CA at most."""

CERTIFICATE: Final = "network.certificate"
PRIVATE_KEY: Final = "network.private_key"
CA: Final = "network.ca_certificate"


def check_together(certificate: bytes, private_key: bytes, ca: bytes) -> Iterator[Fault]:
    """Find why these three files cannot work, whatever day it is. Never raises."""
    chain = _certificates(certificate)
    authorities = _certificates(ca)
    key = _public_half(private_key)
    if not chain:
        yield Fault(CERTIFICATE, "no certificate in it", "expected a PEM file")
    if not authorities:
        yield Fault(CA, "no certificate in it", "expected a PEM file")
    if isinstance(key, str):
        yield Fault(PRIVATE_KEY, key, "expected a PEM file with a key that needs no pass phrase")
    elif chain and key != _spki(chain[0]):
        yield Fault(PRIVATE_KEY, "is the key of another certificate", f"expected {CERTIFICATE}'s")
    if chain and authorities and not _is_signed(chain, authorities):
        yield Fault(CERTIFICATE, "is not signed by the CA", f"expected the one in {CA}")


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


def expires(certificate: bytes) -> float | None:
    """Tell when the first certificate in a PEM file expires, in seconds since 1970."""
    for one in _certificates(certificate)[:1]:
        return one.not_valid_after_utc.timestamp()
    return None


def _certificates(content: bytes) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        return []


def _public_half(private_key: bytes) -> bytes | str:
    """Give the public half of a key; or say why there is none."""
    try:
        key = load_pem_private_key(private_key, None)
    except TypeError:
        return "is encrypted with a pass phrase"
    except (ValueError, UnsupportedAlgorithm):
        return "no private key in it"
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki(certificate: Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_signed(chain: list[Certificate], authorities: list[Certificate]) -> bool:
    """Tell whether a chain of signatures leads from the first certificate to an authority."""
    one = chain[0]
    if one in authorities:
        return True
    for _ in range(_CHAIN):
        if any(_signs(authority, one) for authority in authorities):
            return True
        issuer = next((other for other in chain[1:] if _signs(other, one)), None)
        if issuer is None or issuer == one:
            return False
        one = issuer
    return False


def _signs(issuer: Certificate, one: Certificate) -> bool:
    """Say whether `issuer` signed it. Of a weak signature only the names are compared here.

    cryptography does not verify MD5 and SHA-1; OpenSSL does, and its settings decide.
    """
    if isinstance(one.signature_hash_algorithm, _WEAK):
        return issuer.subject == one.issuer
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
