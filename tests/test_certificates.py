# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates before they are used: check, the warning in time, and who can get at the files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority, Pair
from cryptography.hazmat.primitives import serialization as pem

from lonc_gevent.expiry import DAY, warn
from lonc_gevent.permissions import readers, writers
from lonc_gevent.rules.certificates import SOON, check_dates, check_together, expires

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


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
    """The key of another certificate is told."""
    one, two = authority.sign("one"), authority.sign("two")

    assert faults(Pair(one.certificate, two.key), authority) == [
        ("network.private_key", "is the key of another certificate")
    ]


def test_another_ca(tmp_path: Path, authority: Authority) -> None:
    """A CA of the same name that did not sign it is told, too."""
    (tmp_path / "x").mkdir()

    assert faults(Authority(tmp_path / "x").sign("one"), authority) == [
        ("network.certificate", "is not signed by the CA")
    ]


def test_an_encrypted_key(authority: Authority) -> None:
    """A key with a pass phrase cannot be used, as nobody is there to type it."""
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
    """Files with anything else in them are told, each by its key."""
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
    """Too early, too late, and soon too late are told with the day."""
    content = authority.sign("one", days=100).certificate.read_bytes()
    ca = authority.certificate.read_bytes()
    end = expires(content)
    assert end is not None

    def found(now: float) -> list[str]:
        told = check_dates(content, ca, now)
        return [fault.found for fault in told if fault.key == "network.certificate"]

    assert found(end - SOON - 10) == []
    assert found(end - SOON + 10)[0].startswith("expires on 2")
    assert found(end)[0].startswith("expired on 2")
    assert found(0)[0].startswith("is not valid before 2")


class Events:
    """Notes what is logged."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Note a warning."""
        self.seen.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        """Note an error."""
        self.seen.append(("error", event, fields))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (31, []),
        (29.5, [("warning", "certificate_expires", 29)]),
        (0.5, [("warning", "certificate_expires", 0)]),
        (-1, [("error", "certificate_expired", None)]),
    ],
)
def test_the_warning(left: float, expected: list[tuple[str, str, int | None]]) -> None:
    """From 30 days before the end on it is a warning, after it an error."""
    events = Events()
    warn(1.9e9, 1.9e9 - left * DAY, events)  # type: ignore[arg-type]

    assert [(level, name, f.get("days_left")) for level, name, f in events.seen] == expected
    assert all(f["expires"] == "2030-03-17" for _, _, f in events.seen)


def test_the_daemon_warns(net: Network) -> None:
    """A certificate with less than 30 days to go is an event at the start."""
    authority = Authority(net.directory)
    net.add("msul2", *authority.lond_options(authority.sign("lond")), security="ssl")
    net.tables["network"] = authority.settings(authority.sign("lonc", "msul1", days=12.5))
    net.start()

    assert net.wait_for("certificate_expires")["days_left"] == 12


def test_check_looks_at_dates_and_modes(net: Network) -> None:
    """`check` does not pass an expired certificate, nor a key that others can read."""
    authority = Authority(net.directory)
    net.add("msul2", start=False, security="ssl")
    pair = authority.sign("lonc", "msul1", days=-1)
    pair.key.chmod(0o644)
    net.tables["network"] = authority.settings(pair)
    net.write()

    result = net.command("check")

    lines = result.stderr.decode().splitlines()
    assert result.returncode == 2
    assert "network.certificate: expired on" in lines[0]
    assert "network.private_key" in lines[1]
    assert "everybody can read it" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, ""), (0o640, ""), (0o660, "group 4321"), (0o606, "everybody")]
)
def test_who_can_write(tmp_path: Path, mode: int, expected: str) -> None:
    """Neither root nor we are anybody else."""
    path = tmp_path / "file"
    path.touch()
    if os.geteuid() == 0:
        os.chown(path, -1, 4321)
    else:
        expected = expected.replace("4321", str(os.getegid()))
    path.chmod(mode)

    assert writers(path) == expected
    assert writers(tmp_path / "none") == ""


def test_who_can_read(tmp_path: Path) -> None:
    """A secret is for us alone."""
    path = tmp_path / "file"
    path.touch(0o600)
    assert readers(path) == ""
    path.chmod(0o604)
    assert readers(path) == "everybody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_owner(tmp_path: Path) -> None:
    """The owner of a file can write to it, whatever its mode."""
    path = tmp_path / "file"
    path.touch(0o400)
    os.chown(path, 4321, -1)

    assert writers(path) == "uid 4321"


def test_a_sticky_directory(tmp_path: Path) -> None:
    """Where others can add but not replace, as in /tmp, our files are safe."""
    tmp_path.chmod(0o777)
    assert writers(tmp_path) == "everybody"
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    assert writers(tmp_path) == ""


def test_the_daemon_tells_what_is_too_open(net: Network) -> None:
    """What others can write to is a warning event at the start."""
    net.add("msul2")
    net.write()
    (net.directory / "hosts.tab").chmod(0o666)
    net.write = lambda: None  # type: ignore[method-assign]
    net.start()

    told = net.wait_for("too_open", key="network.hosts_tab")
    assert told["level"] == "warning"
    assert told["who"] == "everybody can write to it"
    assert not net.find("too_open", key="sockets.directory")
