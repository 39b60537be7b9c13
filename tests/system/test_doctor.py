# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor against the fake lond in each of its habits and faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from certificates import Authority
from harness import free_port

from lonc_gevent.configuration.files import load
from lonc_gevent.doctor.examination import Doctor
from lonc_gevent.fake_lond import FakeLond, Manner, parse_fault
from lonc_gevent.fake_lond.faults import CATALOGUE, Scope
from lonc_gevent.fake_lond.tls import TlsManner

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network

MANNER = Manner(ids=("msul2",), client_id="msul1")


@pytest.fixture(autouse=True)
def no_late_greenlets() -> Any:
    """Let greenlets that a test killed end before the next one."""
    yield
    gevent.sleep(0)


def examine(
    net: Network, manner: Manner, timeout: float = 0.3, **settings: Any
) -> tuple[bool, list[str], list[str]]:
    """Examine a fake lond; give the verdict, the findings, and all lines."""
    net.sockets.mkdir(exist_ok=True)
    with FakeLond(manner) as lond:
        net.hosts["msul2"] = {"address": "127.0.0.1", "port": lond.port, **settings}
        net.write()
        configuration = load(net.config)
        host = next(host for host in configuration.hosts if host.id == "msul2")
        lines: list[str] = []
        well = Doctor(configuration, host, lines.append, timeout).examine()
    return well, [line for line in lines if line[:2] in ("! ", "- ")], lines


def tls(directory: Path, host: str = "localhost", **changes: Any) -> tuple[TlsManner, Authority]:
    """Give the fake lond certificates of a CA."""
    authority = Authority(directory)
    pair = authority.sign("lond", host)
    manner = TlsManner(pair.certificate, pair.key, authority.certificate)
    return replace(manner, **changes), authority


def test_a_modern_lond(net: Network) -> None:
    """With settings that fit, all is well; what works besides is told."""
    well, findings, lines = examine(net, MANNER)

    assert well
    assert findings == [
        "- with the settings as they are, requests are answered",
        '- hosts.msul2.security: "local" works, too, and is safer',
        "- lond is revision 1.402",
    ]
    assert lines[1].startswith("address      127.0.0.1")
    assert "TCP" in lines[2]
    assert "             sethost:ID:encrypt:ping: ok" in lines
    assert lines[-1] == "all is well"


def test_a_legacy_lond(net: Network) -> None:
    """A lond of 2003 is well, too, and what it does not know is told."""
    well, findings, _ = examine(net, replace(MANNER, habit="legacy"))

    assert well
    assert any("very old" in line for line in findings)
    assert any("no sethost" in line for line in findings)


def test_a_legacy_lond_and_modern_settings(net: Network) -> None:
    """A setting that asks too much of an old lond is named, with the one that fits."""
    well, findings, _ = examine(net, replace(MANNER, habit="legacy"), negotiation="modern")

    assert not well
    assert '! hosts.msul2.negotiation: works with "auto"' in findings


def test_legacy_settings(net: Network) -> None:
    """With legacy, version and sethost are not tried, and that is told."""
    well, findings, _ = examine(net, MANNER, negotiation="legacy")

    assert well
    assert any("were not tried" in line for line in findings)


@pytest.mark.parametrize(
    ("revision", "inline", "differs"),
    [(321, False, False), (322, True, False), (402, False, True), (321, True, True)],
)
def test_inline_sethost(net: Network, revision: int, inline: bool, differs: bool) -> None:
    """Where inline sethost works for another revision than expected, that is told."""
    well, findings, _ = examine(net, replace(MANNER, revision=revision, inline_sethost=inline))

    assert well is (inline or not differs)
    assert any("differs from protocol.md, 3e" in line for line in findings) is differs


def test_sealed_replies(net: Network) -> None:
    """A lond that seals each reply to a sealed request is as good."""
    assert examine(net, replace(MANNER, seal_replies=True))[0]


def test_another_client_id(net: Network) -> None:
    """That lond takes us for another of our ids shows in the key, and the id is found."""
    net.hosts["msul7"] = {"address": "127.0.0.1", "port": 1}
    well, findings, lines = examine(net, replace(MANNER, client_id="msul7"))

    assert not well
    assert '! hosts.msul2.client_id: works with "msul7"' in findings
    assert "             encrypt:ping: unknown_cmd" in lines


def test_a_client_id_that_nobody_knows(net: Network) -> None:
    """Where no id of ours fits, that is told, too."""
    well, findings, _ = examine(net, replace(MANNER, client_id="elsewhere"))

    assert not well
    assert any("the key is another" in line for line in findings)


@pytest.mark.parametrize("close_notify", ["none", "send", "late"])
def test_ssl(net: Network, close_notify: str) -> None:
    """A lond that takes ssl only is well with ssl."""
    manner, authority = tls(net.directory, close_notify=close_notify)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(MANNER, tls=manner, allow_insecure=False), security="ssl"
    )

    assert well
    assert findings[0] == "- with the settings as they are, requests are answered"


def test_ssl_is_what_works(net: Network) -> None:
    """Where only ssl is let in, that is the setting that is named."""
    manner, authority = tls(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(net, replace(MANNER, tls=manner, allow_insecure=False))

    assert not well
    assert '! hosts.msul2.security: works with "ssl"' in findings


def test_several_settings_at_once(net: Network) -> None:
    """A name that does not fit and a close_notify that lond waits for are both found."""
    manner, authority = tls(net.directory, "elsewhere.example", close_notify="both")
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(MANNER, tls=manner, allow_insecure=False), timeout=1.0, security="ssl"
    )

    assert not well
    assert "! network.tls_close_notify: works with true" in findings
    assert "! network.check_certificate_name: works with false" in findings


@pytest.mark.parametrize("close_notify", ["send", "unread"])
@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
def test_close_notify_that_lond_does_not_read(
    net: Network, close_notify: str, security: str
) -> None:
    """The setting that sends one is named."""
    manner, authority = tls(net.directory, close_notify=close_notify)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    net.tables["network"]["tls_close_notify"] = True
    well, findings, _ = examine(
        net, replace(MANNER, tls=manner, allow_insecure=False), timeout=2.0, security=security
    )

    assert not well
    assert "! network.tls_close_notify: works with false" in findings


def test_an_old_tls(net: Network) -> None:
    """A lond that knows TLS 1.0 only is found out."""
    manner, authority = tls(net.directory, version="1.0")
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(MANNER, tls=manner, allow_insecure=False), security="ssl"
    )

    assert not well
    assert '! network.tls_minimum: works with "1.0"' in findings


def test_falling_back(net: Network) -> None:
    """That ssl-or-insecure falls back each time is not well, though requests are answered."""
    authority = Authority(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(net, MANNER, security="ssl-or-insecure")

    assert not well
    assert any("hosts.msul2.security" in line and "has no cert" in line for line in findings)


def test_ssl_without_files(net: Network) -> None:
    """Without certificates of ours, ssl is not tried, and that is told."""
    _, _, lines = examine(net, MANNER)

    assert any("ssl: not tried" in line for line in lines)


def test_a_wrong_ca(net: Network) -> None:
    """A certificate of another CA is told in OpenSSL's words."""
    manner, _ = tls(net.directory)
    other = Authority(net.directory, "other")
    net.tables["network"] = other.settings(other.sign("lonc"))
    well, findings, _ = examine(
        net, replace(MANNER, tls=manner, allow_insecure=False), security="ssl"
    )

    assert not well
    assert any("tls_failed: lond's certificate" in line for line in findings), findings


EXPECTED = {
    "refuse": "refused",
    "close": "without a line",
    "mute-handshake": "handshake_timeout",
    "bad-challenge": "challenge_failed",
    "garbage": "handshake_garbage",
    "long-line": "handshake_garbage",
    "drop-handshake": "handshake_lost",
    "unable-to-set": "mend hosts.tab",
    "wants-version": 'hosts.msul2.init_version: works with "1"',
    "no-tls": "handshake_garbage",
    "mute-tls": "handshake_garbage",
    "bad-tls-key": "",
    "drop-before": "connection_lost",
    "drop-middle": "connection_lost",
    "drop-after": "",
    "drip": "",
    "extra-line": "",
    "later-line": "",
    "mute": "reply_timeout",
    "half-open": "reply_timeout",
    "big": "another line of 1000 bytes",
    "unended": "reply_timeout",
    "endless": "reply",
    "empty": "ping is answered with another line of 0 bytes",
    "bad-seal": "bad_sealed_reply",
    "bad-seal-hex": "bad_sealed_reply",
    "bad-seal-lines": "bad_sealed_reply",
    "delay": "",
    "idle-line": "",
    "close-after": "",
}
"""Words of a finding that each fault leads to; "": see the test."""

HARMLESS = {"bad-tls-key", "drip", "delay"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_fault(net: Network, name: str) -> None:
    """Each fault is met: not well, and told in words; and it takes a bounded time."""
    number = {"big": ":1000", "delay": ":1", "close-after": ":1"}.get(name, "")
    manner = replace(MANNER, faults=(parse_fault(name + number),))
    with gevent.Timeout(20):
        well, findings, lines = examine(net, manner)

    assert well is (name in HARMLESS), lines
    assert any(EXPECTED[name] in line for line in findings), findings
    assert lines[-1].startswith("all is well" if well else "not all is well")


@pytest.mark.parametrize("name", ["no-tls", "mute-tls", "bad-tls-key"])
def test_faults_of_tls(net: Network, name: str) -> None:
    """Faults in TLS are met, too."""
    manner, authority = tls(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    manner_ = replace(MANNER, tls=manner, allow_insecure=False, faults=(parse_fault(name),))
    well, findings, _ = examine(net, manner_, security="ssl")

    assert not well
    words = {"no-tls": "tls_failed", "mute-tls": "TLS_KEY", "bad-tls-key": "hex digits"}
    assert any(words[name] in line for line in findings), findings


def test_nobody_there(net: Network) -> None:
    """A port that nobody listens on: told at once, with what to look at."""
    net.add("msul2", start=False)
    net.hosts["msul2"]["port"] = free_port()
    net.write()

    result = net.command("doctor", "msul2")

    assert result.returncode == 4
    assert b"! hosts.msul2.port: unreachable" in result.stdout
    assert result.stderr == b""


def test_the_exit_codes(net: Network) -> None:
    """Well is 0; a host that there is not is bad usage."""
    net.add("msul2", "--client-id", "msul1")
    net.write()

    assert net.command("doctor", "msul2").returncode == 0
    result = net.command("doctor", "nowhere")
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_no_secret_is_shown(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Challenge, build key and key file do not show in the report."""
    monkeypatch.setattr(FakeLond, "_challenge", lambda _: b"4711471147114711")
    monkeypatch.setattr(FakeLond, "_build_key", lambda _: b"C0FFEEC0FFEEC0FFEE")
    _, _, lines = examine(net, MANNER)
    report = "\n".join(lines)

    assert "16 bytes, all digits" in report
    assert "<18 bytes>" in report
    for secret in ("4711", "C0FFEE", ".lonc-key"):
        assert secret not in report


def test_every_fault_is_expected() -> None:
    """The table above knows each fault of the catalogue."""
    assert set(EXPECTED) == set(CATALOGUE)
    assert {entry.scope for entry in CATALOGUE.values()} == set(Scope)
