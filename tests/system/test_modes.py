# SPDX-License-Identifier: GPL-2.0-or-later
"""The security modes on the wire: the real daemon and fake londs with real certificates."""

from __future__ import annotations

from socket import AF_INET
from typing import TYPE_CHECKING, Any
from unittest import mock

import gevent
import pytest
from certificates import Authority
from harness import free_port, wait_until

from lonc_gevent.backend.dial import candidates
from lonc_gevent.backend.resolver import Address, resolver_of
from lonc_gevent.configuration.files import load
from lonc_gevent.errors import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Lond, Network


@pytest.fixture
def authority(short_path: Path) -> Authority:
    """Make the network's CA."""
    return Authority(short_path)


def secure(
    net: Network, authority: Authority, *options: str, security: str = "ssl", **network: Any
) -> Lond:
    """Add a host with a lond that has certificates, and give us ours."""
    lond = net.add(
        "msul2",
        "--client-id",
        "msul1",
        *authority.lond_options(authority.sign("lond")),
        *options,
        security=security,
    )
    net.tables["network"] = {**authority.settings(authority.sign("lonc", "msul1")), **network}
    return lond


def works(net: Network) -> None:
    """See that requests are answered, those with the session key too."""
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        assert client.ask(b"encrypt:eget:hidden") == b"hidden"
        assert client.ask(b"sethost:msul2:encrypt:echo:there") == b"there"


@pytest.mark.parametrize("close_notify", ["none", "send", "late", "both"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_ssl(net: Network, authority: Authority, version: str, close_notify: str) -> None:
    """The key comes inside TLS, whichever version it is and however lond leaves it."""
    options = ("--no-insecure", "--tls-version", version, "--close-notify", close_notify)
    secure(net, authority, *options, tls_close_notify=close_notify == "both")
    net.start()

    works(net)
    net.wait_for("connection_made", host="msul2", security="ssl")
    assert not net.find("connection_lost")
    assert not net.find("session_not_encrypted")


@pytest.mark.parametrize("close_notify", ["send", "unread"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("negotiation", ["auto", "legacy"])
@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
def test_close_notify_that_lond_reads_as_plain_text_ends_the_handshake(
    net: Network,
    authority: Authority,
    version: str,
    close_notify: str,
    negotiation: str,
    security: str,
) -> None:
    """No service rather than replies of other requests, and the setting is named."""
    options = ("--tls-version", version, "--close-notify", close_notify)
    lond = secure(net, authority, *options, security=security, tls_close_notify=True)
    net.hosts["msul2"]["negotiation"] = negotiation
    net.start()

    failed = net.wait_for("connection_failed", host="msul2", error="handshake_garbage")
    assert "network.tls_close_notify = false" in failed["detail"]
    assert net.ask("msul2", b"echo:x") == b"con_lost"
    assert not net.find("connection_made")
    assert b"echo:x" not in lond.received


def test_ssl_with_an_old_lond(net: Network, authority: Authority) -> None:
    """TLS 1.0 is spoken where it is asked for, and only there."""
    secure(net, authority, "--no-insecure", "--tls-version", "1.0", tls_minimum="1.0")
    net.start()
    works(net)
    assert net.daemon
    net.daemon.end()
    net.daemon.close()

    net.tables["network"]["tls_minimum"] = "1.2"
    net.start(ready=False)
    failed = net.wait_for("connection_failed", host="msul2")
    assert failed["error"] == "tls_failed"


def test_local(net: Network) -> None:
    """The key goes through a file that is gone afterwards."""
    net.add("msul2", "--no-insecure", security="local")
    net.start()

    works(net)
    net.wait_for("connection_made", security="local")
    assert not list(net.sockets.glob(".lonc-key*"))


def test_local_refused(net: Network) -> None:
    """A key file that lond did not take is removed by us."""
    net.add("msul2", "--habit", "legacy", security="local")
    net.start()

    assert net.wait_for("connection_failed", host="msul2")["error"] == "refused"
    assert not list(net.sockets.glob(".lonc-key*"))


def test_local_without_a_place_for_the_file(net: Network) -> None:
    """Without a key file there is no session, and no fall-back."""
    net.add("msul2", security="local")
    net.tables["network"] = {"key_directory": str(net.directory / "nowhere")}
    net.start()

    failed = net.wait_for("connection_failed", host="msul2")
    assert failed["error"] == "key_file"
    assert net.ask("msul2", b"ping") == b"con_lost"


def test_key_files_of_a_killed_daemon(net: Network) -> None:
    """What a killed daemon left is removed at the start."""
    net.add("msul2", security="local")
    net.sockets.mkdir()
    (net.sockets / ".lonc-key.0123").write_text("0" * 32)
    net.start()

    wait_until(lambda: net.find("connection_made"), "connected")
    assert not list(net.sockets.glob(".lonc-key*"))


BAD = ["other CA", "expired", "other name", "other client CA"]


@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
@pytest.mark.parametrize("fault", BAD)
def test_certificates_that_are_no_good(
    net: Network, authority: Authority, fault: str, security: str
) -> None:
    """Ssl refuses, with words for it; ssl-or-insecure goes on without, and warns."""
    other = Authority(net.directory, "other")
    ours = authority.sign("lonc", "msul1")
    theirs = {
        "other CA": lambda: other.sign("lond"),
        "expired": lambda: authority.sign("lond", days=-1),
        "other name": lambda: authority.sign("lond", "elsewhere.example"),
        "other client CA": lambda: authority.sign("lond"),
    }[fault]()
    trusts = other if fault == "other client CA" else authority
    net.add("msul2", *trusts.lond_options(theirs), security=security)
    net.tables["network"] = authority.settings(ours)
    net.start()

    words = {
        "other CA": "unable to get local issuer certificate",
        "expired": "certificate has expired",
        "other name": "ostname mismatch",
        "other client CA": "unknown ca",
    }[fault]
    if security == "ssl":
        failed = net.wait_for("connection_failed", host="msul2")
        assert failed["error"] == "tls_failed"
        assert words in failed["detail"]
        assert net.ask("msul2", b"ping") == b"con_lost"
        assert not net.find("session_not_encrypted")
        assert net.londs["msul2"].received == []
    else:
        warned = net.wait_for("session_not_encrypted", host="msul2")
        assert warned["level"] == "warning"
        assert words in warned["detail"]
        works(net)


def test_certificate_of_another_name_is_accepted_without_the_check(
    net: Network, authority: Authority
) -> None:
    """The name in lond's certificate does not matter without check_certificate_name."""
    theirs = authority.sign("lond", "elsewhere.example")
    net.add("msul2", *authority.lond_options(theirs), security="ssl")
    ours = authority.settings(authority.sign("lonc", "msul1"))
    net.tables["network"] = {**ours, "check_certificate_name": False}
    net.start()

    works(net)


def test_a_lond_without_certificates(net: Network, authority: Authority) -> None:
    """A lond without certificates sends a challenge: only ssl-or-insecure answers it."""
    net.add("msul2", security="ssl-or-insecure")
    net.add("msul3", security="ssl")
    net.tables["network"] = authority.settings(authority.sign("lonc", "msul1"))
    net.start()

    works(net)
    assert "challenge" in net.wait_for("session_not_encrypted", host="msul2")["detail"]
    failed = net.wait_for("connection_failed", host="msul3")
    assert failed["error"] == "handshake_garbage"
    assert not net.find("session_not_encrypted", host="msul3")


def test_each_fall_back_is_a_warning(net: Network, authority: Authority) -> None:
    """Every session that is not encrypted is warned of, not only the first."""
    net.add("msul2", "--fault", "no-tls", security="ssl-or-insecure")
    # The fault is of the first line, whatever it is: this lond never gets as far as a key.
    net.tables["network"] = authority.settings(authority.sign("lonc", "msul1"))
    net.hosts["msul3"] = {
        "address": "127.0.0.1",
        "port": net.add("msul4", security="ssl-or-insecure").port,
        "security": "ssl-or-insecure",
    }
    net.start()

    net.wait_for("session_not_encrypted", host="msul4")
    with net.client("msul4") as client:
        assert client.ask(b"fault:drop-before") == b"con_lost"
        assert client.ask(b"echo:again") == b"again"
    net.wait_for("session_not_encrypted", times=2, host="msul4")
    assert net.wait_for("connection_failed", host="msul2")["error"] == "handshake_garbage"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("no-tls", "tls_failed"),
        ("bad-tls-key", "handshake_garbage"),
        ("mute-tls", "handshake_timeout"),
    ],
)
def test_faults_of_tls(net: Network, authority: Authority, fault: str, error: str) -> None:
    """A lond that says ok:ssl and then does something else is left."""
    net.pool["handshake_timeout"] = 0.5
    secure(net, authority, "--fault", fault)
    net.start()

    assert net.wait_for("connection_failed", host="msul2")["error"] == error
    assert net.ask("msul2", b"ping") == b"con_lost"


def test_a_key_that_is_not_the_certificates(net: Network, authority: Authority) -> None:
    """With another's key the daemon does not start, and says which files do not fit."""
    secure(net, authority)
    net.tables["network"]["private_key"] = str(authority.sign("third", "msul1").key)
    net.start(ready=False)
    assert net.daemon

    assert net.daemon.process.wait(15) == 2
    assert "private_key" in net.daemon.stderr
    net.daemon.close()
    net.daemon = None


def test_only_the_host_that_wants_it(net: Network, authority: Authority) -> None:
    """Each host has its own mode."""
    secure(net, authority)
    net.add("msul3")
    net.hosts["msul9"] = {"address": "127.0.0.1", "port": free_port(), "security": "local"}
    net.start()

    works(net)
    assert net.ask("msul3", b"ping") == b"msul3"
    net.wait_for("connection_made", host="msul3", security="insecure")


def test_local_is_for_this_machine(net: Network) -> None:
    """A lond elsewhere proves nothing by a file: a name that leads there is refused."""
    net.add("msul2", start=False, security="local")
    net.hosts["msul2"]["address"] = "elsewhere.invalid"
    net.write()
    host = next(host for host in load(net.config).hosts if host.id == "msul2")
    there = Address(AF_INET, ("192.0.2.7", 5663))
    hub = gevent.get_hub()

    with (
        mock.patch.object(resolver_of(hub), "addresses", return_value=[there]),
        pytest.raises(UnreachableError, match=r"192\.0\.2\.7 port 5663: security local requires"),
    ):
        candidates(host, hub)
