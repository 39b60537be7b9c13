# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates, their keys and the CA: what fits together, and until when."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, Pair
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec

from lonc_gevent.configuration.certificates import SOON, check_dates, check_together, expires
from lonc_gevent.configuration.problems import Fault, Severity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make the network's CA."""
    return Authority(tmp_path)


def faults(pair: Pair, authority: Authority) -> list[tuple[str, str]]:
    """Check a pair against a CA."""
    found = check_together(
        pair.certificate.read_bytes(),
        pair.key.read_bytes(),
        authority.certificate.read_bytes(),
    )
    return [(fault.key, fault.found) for fault in found]


def test_what_belongs_together(authority: Authority) -> None:
    """A certificate, its key and the CA that signed it pass."""
    assert faults(authority.sign("one"), authority) == []


def test_another_key(authority: Authority) -> None:
    """The key of another certificate is reported."""
    one, two = authority.sign("one"), authority.sign("two")

    assert faults(Pair(one.certificate, two.key), authority) == [
        ("network.private_key", "is the key of another certificate")
    ]


def test_an_encrypted_key(authority: Authority) -> None:
    """A key with a pass phrase cannot be used, as a daemon has no terminal to ask for it."""
    one = authority.sign("one")
    key = pem.load_pem_private_key(one.key.read_bytes(), None)
    one.key.write_bytes(
        key.private_bytes(
            pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret")
        )
    )

    assert faults(one, authority) == [("network.private_key", "is encrypted with a pass phrase")]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_pem(authority: Authority, content: bytes) -> None:
    """Files with anything else in them are reported, each by its key."""
    one = authority.sign("one")
    one.certificate.write_bytes(content)
    one.key.write_bytes(content)
    authority.certificate.write_bytes(content)

    assert [key for key, _ in faults(one, authority)] == [
        "network.certificate",
        "network.ca_certificate",
        "network.private_key",
    ]
    assert list(check_dates(content, content, 0)) == []
    assert expires(content) is None


def test_dates(authority: Authority) -> None:
    """Too early, too late, and soon too late are reported with the day."""
    content = authority.sign("one", days=100).certificate.read_bytes()
    ca = authority.certificate.read_bytes()
    end = expires(content)
    assert end is not None

    def found(now: float) -> list[str]:
        reported = check_dates(content, ca, now)
        return [fault.found for fault in reported if fault.key == "network.certificate"]

    assert found(end - SOON - 10) == []
    assert found(end - SOON + 10)[0].startswith("expires on 2")
    assert found(end)[0].startswith("expired on 2")
    assert found(0)[0].startswith("is not valid before 2")


class People:
    """Certificates by name, each name with one key."""

    def __init__(self) -> None:
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Give the one key of that name."""
        return self._keys.setdefault(name, ec.generate_private_key(ec.SECP256R1()))

    def key_file(self, name: str) -> bytes:
        """Give it as PEM."""
        return self.key(name).private_bytes(
            pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()
        )

    def certificate(self, name: str, signer: str) -> bytes:
        """Make a certificate for `name`, valid in 2030 from May to July."""
        made = (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called(signer))
            .public_key(self.key(name).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime(2030, 5, 1, tzinfo=dt.UTC))
            .not_valid_after(dt.datetime(2030, 7, 31, tzinfo=dt.UTC))
            .sign(self.key(signer), hashes.SHA256())
        )
        return made.public_bytes(pem.Encoding.PEM)


def called(name: str) -> x509.Name:
    """Give a distinguished name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def test_what_is_expected_instead() -> None:
    """Each fault says what would be right."""
    people = People()
    one = people.certificate("one", "one")

    assert list(check_together(b"", b"", b"")) == [
        Fault("network.certificate", "no certificate in it", "expected a PEM file"),
        Fault("network.ca_certificate", "no certificate in it", "expected a PEM file"),
        Fault(
            "network.private_key",
            "no private key in it",
            "expected a PEM file with a key that needs no pass phrase",
        ),
    ]
    assert list(check_together(one, people.key_file("two"), one)) == [
        Fault(
            "network.private_key",
            "is the key of another certificate",
            "expected network.certificate's",
        )
    ]


VALID_NOW, MORE_DAYS = "expected one that is valid now", "expected more than 30 days"


@pytest.mark.parametrize(
    ("when", "found", "expected", "severity"),
    [
        ((2030, 4, 30, 23, 59, 59), "is not valid before 2030-05-01", VALID_NOW, Severity.ERROR),
        ((2030, 5, 1), "", "", None),
        ((2030, 6, 30, 23, 59, 59), "", "", None),
        ((2030, 7, 1), "expires on 2030-07-31", MORE_DAYS, Severity.WARNING),
        ((2030, 7, 30, 23, 59, 59), "expires on 2030-07-31", MORE_DAYS, Severity.WARNING),
        ((2030, 7, 31), "expired on 2030-07-31", VALID_NOW, Severity.ERROR),
    ],
)
def test_dates_are_checked_to_the_second(
    when: tuple[int, int, int], found: str, expected: str, severity: Severity
) -> None:
    """Those of our certificate and the CA's, in this order, without the others of a chain."""
    people = People()
    now = dt.datetime(*when, tzinfo=dt.UTC).timestamp()
    one = people.certificate("one", "ca")
    faults = [
        Fault(key, found, expected, severity)
        for key in ("network.certificate", "network.ca_certificate")
    ]

    assert list(check_dates(one + one, one, now)) == (faults if found else [])
    assert expires(one) == dt.datetime(2030, 7, 31, tzinfo=dt.UTC).timestamp()
