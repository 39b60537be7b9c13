# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of our certificate: `check`, the start and a session with a lond agree on each."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent
import msgspec
import pytest
from certificates import signed_with
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lonc_gevent.backend.connect import connect
from lonc_gevent.backend.tls import credentials_for
from lonc_gevent.configuration.problems import Severity
from lonc_gevent.daemon.requirements import examine
from lonc_gevent.errors import ConfigError, LondError
from lonc_gevent.eventloop import Stream
from lonc_gevent.fake_lond import FakeLond, Profile
from lonc_gevent.fake_lond.tls import TlsProfile

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network

DAY = dt.timedelta(days=1)
USAGES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class Kind:
    """A certificate of ours. `good`: whether a lond accepts it."""

    good: bool = True
    key: str = "rsa2048"
    signer: str = "ca"
    begins: int = -10
    ends: int = 100
    ca_ends: int = 200
    usage: str = ""
    chain: str = ""
    damage: str = ""
    minimum: str = "1.2"


KINDS = {
    "RSA 2,048": Kind(),
    "RSA 3,072": Kind(key="rsa3072"),
    "EC P-256": Kind(key="ec"),
    "Ed25519": Kind(key="ed25519"),
    "RSA 1,024": Kind(good=False, key="rsa1024"),
    "RSA 1,024 with TLS 1.0": Kind(key="rsa1024", minimum="1.0"),
    "RSA 2,048 with TLS 1.0": Kind(minimum="1.0"),
    "RSA 2,048 with TLS 1.3": Kind(minimum="1.3"),
    "EC with TLS 1.0": Kind(key="ec", minimum="1.0"),
    "expired": Kind(good=False, ends=-1),
    "expires soon": Kind(ends=2),
    "not valid yet": Kind(good=False, begins=2),
    "CA expired": Kind(good=False, ca_ends=-1),
    "of another CA": Kind(good=False, signer="other"),
    "signed by itself": Kind(good=False, signer="self"),
    "intermediate in the file": Kind(signer="middle", chain="middle"),
    "intermediate missing": Kind(good=False, signer="middle"),
    "intermediate and CA in the file": Kind(signer="middle", chain="middle ca"),
    "for clients": Kind(usage="client"),
    "for clients and servers": Kind(usage="client server"),
    "for servers only": Kind(good=False, usage="server"),
    "key of another certificate": Kind(good=False, damage="other key"),
    "key with a pass phrase": Kind(good=False, damage="pass phrase"),
    "no key in the file": Kind(good=False, damage="no key"),
    "no certificate in the file": Kind(good=False, damage="no certificate"),
    "certificate in DER": Kind(good=False, damage="der"),
    "no CA in the file": Kind(good=False, damage="no ca"),
    "text before the certificate": Kind(damage="text"),
}


def make_key(kind: str) -> Any:
    """Make a private key."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def named(name: str) -> x509.Name:
    """Make a distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def sign(
    name: str, key: Any, issuer: str, by: Any, days: tuple[int, int], usage: str = ""
) -> bytes:
    """Sign a certificate; return it in PEM."""
    now = dt.datetime.now(dt.UTC)
    begins, ends = days
    is_ca = name in ("ca", "middle", "other")
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + (min(begins, ends - 1) * DAY))
        .not_valid_after(now + ends * DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    if usage:
        kinds = [USAGES[word] for word in usage.split()]
        builder = builder.add_extension(x509.ExtendedKeyUsage(kinds), critical=False)
    digest = None if isinstance(by, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(by, digest).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    """Make the keys of the authorities, once."""
    return {name: make_key("rsa2048") for name in ("ca", "middle", "other", "lond")}


def write(directory: Path, kind: Kind, keys: dict[str, Any]) -> TlsProfile:
    """Write our three files, and those of a lond of the same network; return its profile."""
    ours = make_key(kind.key)
    signers = keys | {"self": ours}
    authorities = {
        "ca": sign("ca", keys["ca"], "ca", keys["ca"], (-20, kind.ca_ends)),
        "middle": sign("middle", keys["middle"], "ca", keys["ca"], (-20, 150)),
    }
    issuer = "us" if kind.signer == "self" else kind.signer
    own = sign("us", ours, issuer, signers[kind.signer], (kind.begins, kind.ends), kind.usage)
    chain = b"".join(authorities[name] for name in kind.chain.split())
    secret = make_key(kind.key) if kind.damage == "other key" else ours
    lock = BestAvailableEncryption(b"x") if kind.damage == "pass phrase" else NoEncryption()
    der = x509.load_pem_x509_certificate(own).public_bytes(Encoding.DER)
    files = {
        "us.pem": {"no certificate": b"", "der": der, "text": b"Our own:\n" + own}.get(
            kind.damage, own + chain
        ),
        "us.key": b"-"
        if kind.damage == "no key"
        else secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock),
        "ca.pem": b"" if kind.damage == "no ca" else authorities["ca"],
        "lond-ca.pem": authorities["ca"],
        "lond.pem": sign("lond", keys["lond"], "ca", keys["ca"], (-10, 100)),
        "lond.key": keys["lond"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name, content in files.items():
        (directory / name).touch(0o600)
        (directory / name).write_bytes(content)
    lond, key, ca = (directory / name for name in ("lond.pem", "lond.key", "lond-ca.pem"))
    return TlsProfile(lond, key, ca, version="1.0" if kind.minimum == "1.0" else "")


def is_session(net: Network, profile: TlsProfile) -> str:
    """Start with the configuration and connect once; return the error, "" if there is none."""
    hub = gevent.get_hub()
    plain = Profile(ids=("msul2",), client_id="msul1", tls=profile, allow_insecure=False)
    with FakeLond(plain) as lond:
        configuration = examine(net.config, to_start=False).configuration
        assert configuration is not None
        stream = Stream(hub)
        try:
            credentials = credentials_for(configuration)
            host = replace_port(configuration.hosts[0], lond.port)
            with gevent.Timeout(5):
                connect(host, hub, stream, credentials)
        except (LondError, ConfigError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            stream.close()
    return ""


def replace_port(host: Any, port: int) -> Any:
    """Return the host with the port of the fake lond."""
    return msgspec.structs.replace(host, port=port)


def errors_of(net: Network) -> list[str]:
    """Return the errors of `check` that concern certificates."""
    return [
        str(problem)
        for problem in examine(net.config).problems
        if problem.severity is not Severity.WARNING and "network." in problem.where
    ]


@pytest.mark.parametrize("name", KINDS)
def test_check_and_session_agree_on_a_kind_of_certificate(
    net: Network, keys: dict[str, Any], name: str
) -> None:
    kind = KINDS[name]
    profile = write(net.directory, kind, keys)
    net.tables["network"] = {
        "security": "ssl",
        "tls_minimum": kind.minimum,
        "certificate": "us.pem",
        "private_key": "us.key",
        "ca_certificate": "ca.pem",
    }
    net.hosts["msul2"] = {"address": "127.0.0.1"}
    net.write()
    errors = errors_of(net)
    error = is_session(net, profile)
    assert (not errors, not error) == (kind.good, kind.good), (errors, error)


@pytest.mark.parametrize("minimum", ["1.0", "1.2"])
@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_signature_of_the_early_years_needs_tls_1_0(
    net: Network, digest: str, minimum: str
) -> None:
    files = signed_with(net.directory, digest)
    net.tables["network"] = {
        "security": "ssl",
        "tls_minimum": minimum,
        "check_certificate_name": False,
        **files,
    }
    net.hosts["msul2"] = {"address": "127.0.0.1"}
    net.write()
    certificate, key, ca = (net.directory / name for name in files.values())
    errors, error = errors_of(net), is_session(net, TlsProfile(certificate, key, ca, version="1.0"))
    assert (not errors, not error) == (minimum == "1.0", minimum == "1.0"), (errors, error)
    assert minimum == "1.0" or "too weak" in errors[0]


def test_revoked_certificate_is_refused(net: Network, keys: dict[str, Any]) -> None:
    """An expired list refuses all; `check` reports it."""
    profile = write(net.directory, Kind(), keys)
    theirs = x509.load_pem_x509_certificate((net.directory / "lond.pem").read_bytes())
    now = dt.datetime.now(dt.UTC)

    def revoke(*serials: int, ends: int = 9) -> str:
        builder = x509.CertificateRevocationListBuilder().issuer_name(named("ca"))
        builder = builder.last_update(now - 20 * DAY).next_update(now + ends * DAY)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(revoked.revocation_date(now - DAY).build())
        signed = builder.sign(keys["ca"], hashes.SHA256())
        (net.directory / "crl.pem").write_bytes(signed.public_bytes(Encoding.PEM))
        return is_session(net, profile)

    names = {"certificate": "us.pem", "private_key": "us.key", "ca_certificate": "ca.pem"}
    net.tables["network"] = {"security": "ssl", "crl": "crl.pem", **names}
    net.hosts["msul2"] = {"address": "127.0.0.1"}
    net.write()
    assert revoke(4711) == ""
    assert "certificate revoked" in revoke(theirs.serial_number)
    assert "CRL has expired" in revoke(ends=-1)
    assert any("network.crl: expired on" in error for error in errors_of(net))
    (net.directory / "crl.pem").write_text("no list")
    assert any("network.crl" in error for error in errors_of(net))
