# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor against the fake lond with each of its habits and faults.

The findings are in test_doctor.snapshots; PORT stands for the port of the fake lond.
"""

from __future__ import annotations

import datetime as dt
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from certificates import Authority, signed_with
from harness import free_port
from users import WEB, as_user, only_root

from lonc_gevent.configuration.files import load
from lonc_gevent.doctor.examination import Doctor
from lonc_gevent.fake_lond import FakeLond, Profile, parse_fault, server
from lonc_gevent.fake_lond.commands import Commands
from lonc_gevent.fake_lond.faults import CATALOGUE
from lonc_gevent.fake_lond.tls import TlsProfile, send_key

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network
    from snapshots import Snapshot

PROFILE = Profile(ids=("msul2",), client_id="msul1")


@pytest.fixture(autouse=True)
def no_late_greenlets() -> Any:
    """Let greenlets that a test killed end before the next one."""
    yield
    gevent.sleep(0)


def examine(
    net: Network, profile: Profile, timeout: float = 0.3, **settings: Any
) -> tuple[bool, list[str], list[str]]:
    """Examine a fake lond; return the verdict, the findings, and all lines."""
    net.sockets.mkdir(exist_ok=True)
    with FakeLond(profile) as lond:
        net.hosts["msul2"] = {"address": "127.0.0.1", "port": lond.port, **settings}
        net.write()
        configuration = load(net.config)
        host = next(host for host in configuration.hosts if host.id == "msul2")
        lines: list[str] = []
        well = Doctor(configuration, host, lines.append, timeout).examine()
    findings = [line for line in lines if line[:2] in ("! ", "- ")]
    return well, [line.replace(str(lond.port), "PORT") for line in findings], lines


def tls(directory: Path, host: str = "localhost", **changes: Any) -> tuple[TlsProfile, Authority]:
    """Return certificates of a CA for the fake lond, and the CA."""
    authority = Authority(directory)
    pair = authority.sign("lond", host)
    profile = TlsProfile(pair.certificate, pair.key, authority.certificate)
    return replace(profile, **changes), authority


def test_a_modern_lond_has_no_problem(net: Network) -> None:
    """Other settings that work are reported."""
    well, findings, lines = examine(net, PROFILE)

    assert well
    assert findings == [
        "- requests are answered with the configured settings",
        '- hosts.msul2.security: "local" also works and is more secure',
        "- lond is revision 1.402",
    ]
    assert lines[1].startswith("address      127.0.0.1")
    assert "TCP" in lines[2]
    assert "             sethost:ID:encrypt:ping: ok" in lines
    assert lines[-1] == "no problem found"


def test_a_legacy_lond_has_no_problem(net: Network) -> None:
    """Commands that a lond of 2003 does not know are reported."""
    well, findings, _ = examine(net, replace(PROFILE, habit="legacy"))

    assert well
    assert any("very old" in line for line in findings)
    assert any("not know sethost" in line for line in findings)


def test_modern_negotiation_with_a_legacy_lond_is_a_problem(net: Network) -> None:
    """The value that works is reported."""
    well, findings, _ = examine(net, replace(PROFILE, habit="legacy"), negotiation="modern")

    assert not well
    assert '! hosts.msul2.negotiation: works with "auto"' in findings


def test_legacy_negotiation_does_not_try_version_and_sethost(net: Network) -> None:
    well, findings, _ = examine(net, PROFILE, negotiation="legacy")

    assert well
    assert any("were not tried" in line for line in findings)


@pytest.mark.parametrize(
    ("revision", "inline", "differs"),
    [(321, False, False), (322, True, False), (402, False, True), (321, True, True)],
)
def test_inline_sethost_of_an_unexpected_revision_is_reported(
    net: Network, revision: int, inline: bool, differs: bool
) -> None:
    well, findings, _ = examine(net, replace(PROFILE, revision=revision, inline_sethost=inline))

    assert well is (inline or not differs)
    assert any("differs from protocol.md, 3e" in line for line in findings) is differs


def test_a_lond_that_seals_replies_has_no_problem(net: Network) -> None:
    assert examine(net, replace(PROFILE, seal_replies=True))[0]


def test_another_client_id_is_found(net: Network) -> None:
    """A lond that knows this server by another host id has another key."""
    net.hosts["msul7"] = {"address": "127.0.0.1", "port": 1}
    well, findings, lines = examine(net, replace(PROFILE, client_id="msul7"))

    assert not well
    assert '! hosts.msul2.client_id: works with "msul7"' in findings
    assert "             encrypt:ping: unknown_cmd" in lines


def test_an_unknown_client_id_is_a_problem(net: Network) -> None:
    well, findings, _ = examine(net, replace(PROFILE, client_id="elsewhere"))

    assert not well
    assert any("it has another key" in line for line in findings)


@pytest.mark.parametrize("close_notify", ["none", "send", "late"])
def test_ssl(net: Network, close_notify: str) -> None:
    """A lond that accepts ssl only has no problem with ssl."""
    profile, authority = tls(net.directory, close_notify=close_notify)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(PROFILE, tls=profile, allow_insecure=False), security="ssl"
    )

    assert well
    assert findings[0] == "- requests are answered with the configured settings"


def test_ssl_is_reported_if_it_is_all_that_works(net: Network) -> None:
    profile, authority = tls(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(net, replace(PROFILE, tls=profile, allow_insecure=False))

    assert not well
    assert '! hosts.msul2.security: works with "ssl"' in findings


def test_two_wrong_settings_are_both_found(net: Network) -> None:
    """A certificate with another name, and a close_notify that lond waits for."""
    profile, authority = tls(net.directory, "elsewhere.example", close_notify="both")
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(PROFILE, tls=profile, allow_insecure=False), timeout=1.0, security="ssl"
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
    profile, authority = tls(net.directory, close_notify=close_notify)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    net.tables["network"]["tls_close_notify"] = True
    well, findings, _ = examine(
        net, replace(PROFILE, tls=profile, allow_insecure=False), timeout=2.0, security=security
    )

    assert not well
    assert "! network.tls_close_notify: works with false" in findings


def test_a_lond_with_tls_1_0_only_is_found(net: Network) -> None:
    profile, authority = tls(net.directory, version="1.0")
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(
        net, replace(PROFILE, tls=profile, allow_insecure=False), security="ssl"
    )

    assert not well
    assert '! network.tls_minimum: works with "1.0"' in findings


def test_falling_back_each_time_is_a_problem(net: Network) -> None:
    """Even though requests are answered."""
    authority = Authority(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    well, findings, _ = examine(net, PROFILE, security="ssl-or-insecure")

    assert not well
    assert any("hosts.msul2.security" in line and "has no cert" in line for line in findings)


def test_ssl_is_not_tried_without_certificates(net: Network) -> None:
    _, _, lines = examine(net, PROFILE)

    assert any("ssl: not tried" in line for line in lines)


def test_a_certificate_of_another_ca_is_reported(net: Network) -> None:
    """With the text of OpenSSL."""
    profile, _ = tls(net.directory)
    other = Authority(net.directory, "other")
    net.tables["network"] = other.settings(other.sign("lonc"))
    well, findings, _ = examine(
        net, replace(PROFILE, tls=profile, allow_insecure=False), security="ssl"
    )

    assert not well
    assert any("tls_failed: lond's certificate" in line for line in findings), findings


TIMING: dict[str, str] = {
    "drop-handshake": "handshake_lost",
    "drop-after": "",
    "extra-line": "",
    "later-line": "",
    "unended": "reply",
    "endless": "reply",
    "idle-line": "",
    "close-after": "",
}
"""Faults whose findings depend on timing, and a word that is always in them."""


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_fault_has_findings(net: Network, snapshot: Snapshot, name: str) -> None:
    """The examination ends within a bounded time."""
    number = {"big": ":1000", "delay": ":1", "close-after": ":1"}.get(name, "")
    profile = replace(PROFILE, faults=(parse_fault(name + number),))
    timeout = 2.0 if name == "drip" else 0.3  # the whole handshake, byte by byte
    with gevent.Timeout(20):
        well, findings, lines = examine(net, profile, timeout)

    assert lines[-1].startswith("no problem" if well else "problems found")
    if name in TIMING:
        assert not well
        assert TIMING[name] in findings[0]
    else:
        snapshot("\n".join(findings))


@pytest.mark.parametrize("name", ["no-tls", "mute-tls", "bad-tls-key"])
def test_each_fault_of_tls_has_findings(net: Network, snapshot: Snapshot, name: str) -> None:
    profile, authority = tls(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    profile_ = replace(PROFILE, tls=profile, allow_insecure=False, faults=(parse_fault(name),))
    well, findings, _ = examine(net, profile_, security="ssl")

    assert not well
    snapshot("\n".join(findings))


def test_an_unreachable_port_is_reported(net: Network) -> None:
    net.add("msul2", start=False)
    net.hosts["msul2"]["port"] = free_port()
    net.write()

    result = net.command("doctor", "msul2")

    assert result.returncode == 4
    assert b"! hosts.msul2.port: unreachable" in result.stdout
    assert result.stderr == b""


def test_the_exit_codes(net: Network) -> None:
    """0 without problems, 2 for an unknown host."""
    net.add("msul2", "--client-id", "msul1")
    net.write()

    assert net.command("doctor", "msul2").returncode == 0
    result = net.command("doctor", "nowhere")
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_the_report_has_no_secret(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither challenge nor build key nor key file."""
    monkeypatch.setattr(FakeLond, "_challenge", lambda _: b"4711471147114711")
    monkeypatch.setattr(FakeLond, "_build_key", lambda _: b"C0FFEEC0FFEEC0FFEE")
    _, _, lines = examine(net, PROFILE)
    report = "\n".join(lines)

    assert "16 bytes, all digits" in report
    assert "<18 bytes>" in report
    for secret in ("4711", "C0FFEE", ".lonc-key"):
        assert secret not in report


# -- what differs little ----------------------------------------------------------------------


def test_ok_is_not_the_right_reply_to_a_ping(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lond that ignores the rest of `sethost:ID:...` answers `ok` (protocol.md, section 8)."""
    take = Commands._sethost

    def ignore_rest(self: Commands, text: bytes, whole: bytes) -> Any:
        return take(self, text.split(b":", 1)[0], whole)

    monkeypatch.setattr(Commands, "_sethost", ignore_rest)
    well, findings, lines = examine(net, PROFILE)
    assert not well
    assert '             sethost:ID:ping: the line "ok"' in lines
    assert any("does not accept sethost:ID:REQUEST in one line" in line for line in findings)


@pytest.mark.parametrize("step", ["handshake", "reply"])
def test_slow_lond_is_reported_as_slow_with_its_times(net: Network, step: str) -> None:
    """No other mode is advised, though another trial may be answered in time."""
    fault = "drip:8" if step == "handshake" else "delay:500"
    well, findings, _ = examine(net, replace(PROFILE, faults=(parse_fault(fault),)))
    assert not well
    assert any("lond is slow: the handshake took " in line for line in findings), findings
    assert not any("works with" in line for line in findings)


@pytest.mark.parametrize(("only", "advice"), [("1.2", "1.2"), ("1.0", "1.0")])
def test_least_lax_version_of_tls_is_advised(net: Network, only: str, advice: str) -> None:
    profile, authority = tls(net.directory, version=only)
    net.tables["network"] = authority.settings(authority.sign("lonc")) | {"tls_minimum": "1.3"}
    profile_ = replace(PROFILE, tls=profile, allow_insecure=False)
    well, findings, _ = examine(net, profile_, security="ssl")
    assert not well
    assert f'! network.tls_minimum: works with "{advice}"' in findings
    assert any(f"TLS is TLSv1{'.2' if only == '1.2' else ''}" in line for line in findings)


@pytest.mark.parametrize("days", [-1, 1])
def test_expired_certificate_is_named_with_its_date(net: Network, days: int) -> None:
    """Ours, and not lond's, or the other way round."""
    authority = Authority(net.directory)
    ours = authority.sign("lonc", days=-days)
    theirs = authority.sign("lond", days=days)
    profile = TlsProfile(theirs.certificate, theirs.key, authority.certificate)
    net.tables["network"] = authority.settings(ours)
    profile_ = replace(PROFILE, tls=profile, allow_insecure=False)
    well, findings, _ = examine(net, profile_, security="ssl")
    date = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date()
    assert not well
    assert (f"! lond's certificate expired on {date}" in findings) is (days < 0)
    assert (f"! network.certificate: expired on {date}" in findings) is (days > 0)


@pytest.mark.parametrize(
    ("digest", "bits", "fault"),
    [("sha1", 2048, "is signed with SHA1"), ("sha256", 1024, "has an RSA key of 1024 bits")],
)
def test_weak_certificate_of_lond_is_named(
    net: Network, digest: str, bits: int, fault: str
) -> None:
    files = signed_with(net.directory, digest, bits=bits)
    certificate, key, ca = (net.directory / name for name in files.values())
    profile = TlsProfile(certificate, key, ca, version="1.0")
    net.tables["network"] = {**files, "check_certificate_name": False, "tls_minimum": "1.0"}
    profile_ = replace(PROFILE, tls=profile, allow_insecure=False)
    _, findings, _ = examine(net, profile_, security="ssl")
    assert f"! lond's certificate {fault}" in findings
    assert "- requests are answered with the configured settings" in findings


def test_key_of_too_many_digits_is_not_a_certificate_problem(
    net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile, authority = tls(net.directory)
    net.tables["network"] = authority.settings(authority.sign("lonc"))
    monkeypatch.setattr(
        server, "send_key", lambda sock, tls, _, rest: send_key(sock, tls, b"0" * 80 + b"\n", rest)
    )
    profile_ = replace(PROFILE, tls=profile, allow_insecure=False)
    well, findings, _ = examine(net, profile_, security="ssl")
    assert not well
    assert not any("network.certificate" in line or "CA" in line for line in findings), findings


# -- all hosts, and this machine --------------------------------------------------------------


def test_all_hosts_are_a_table_and_the_tables_that_fit(net: Network) -> None:
    """The running lonc is not needed: a rehearsal before it is replaced."""
    net.add("msul2", "--client-id", "msul1")
    net.add("old", "--client-id", "msul1", "--habit", "legacy", negotiation="modern")
    net.add("down", start=False)
    net.write()

    result = net.command("doctor", "--all", "--timeout", "2")

    head, first, second, third, count, *toml = result.stdout.decode().splitlines()
    assert result.returncode == 4
    assert head.split() == ["HOST", "MODE", "NEGOTIATION", "LOND", "TIME", "TO", "SET"]
    assert first.split()[:4] == ["msul2", "insecure", "auto", "1.402"]
    assert second.split()[:4] == ["old", "insecure", "auto", "-"]
    assert second.endswith('negotiation = "auto"')
    assert third.split()[0] == "down"
    assert "connected" in third
    assert count == "1 of 3 hosts answer with the configured settings"
    assert toml == ["[hosts.old]", 'negotiation = "auto"']


def test_this_machine_is_examined(net: Network) -> None:
    net.add("msul1")
    net.write()
    without = net.command("doctor")
    assert without.returncode == 4
    assert b"no daemon answers" in without.stdout

    net.run()
    text = net.command("doctor").stdout.decode()
    assert "- daemon " in text
    assert "descriptors are in use" in text
    assert "localhost leads to 127.0.0.1, and that back to localhost" in text
    assert "- 2 names looked up" in text or "- 1 names looked up" in text
    (net.sockets / "msul1").unlink()


@only_root
@pytest.mark.parametrize("security", ["local", "insecure"])
def test_local_with_a_lond_of_another_user_is_said_to_be_impossible(
    net: Network, security: str
) -> None:
    """Where it is not configured, it is not tried and not advised either."""
    with as_user(WEB):
        listener = socket.create_server(("127.0.0.1", 0))
    with listener:  # accepts, and never answers
        net.hosts["msul2"] = {
            "address": "127.0.0.1",
            "port": listener.getsockname()[1],
            "security": security,
        }
        net.sockets.mkdir()
        net.write()
        text = net.command("doctor", "--timeout", "0.2", "msul2").stdout.decode()
    assert f"is of uid {WEB}, this user is uid 0" in text
    impossible = "! hosts.msul2.security: the lond on port" in text
    assert impossible is (security == "local")
    assert 'works with "local"' not in text
