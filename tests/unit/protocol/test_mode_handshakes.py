# SPDX-License-Identifier: GPL-2.0-or-later
"""Handshakes of `local`, `ssl` and `ssl-or-insecure` (protocol.md, 3c and 3d)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lonc_gevent.errors import (
    ChallengeFailedError,
    HandshakeGarbageError,
    HandshakeLostError,
    HostNotServedError,
    LondError,
    RefusedError,
    TlsFailedError,
)
from lonc_gevent.protocol.cipher import session_key
from lonc_gevent.protocol.handshake import NO_SSL, Handshake, LocalKey

if TYPE_CHECKING:
    from lonc_gevent.protocol.handshake_tables import Negotiation

DIGITS = b"00112233445566778899aabbccddeeff"
KEY = bytes.fromhex(DIGITS.decode())
VERSION = b"version:$Revision: 1.402 $\n"
NEGOTIATIONS: list[Negotiation] = ["auto", "legacy", "modern"]


def begin(security: str, *lines: bytes, negotiation: Negotiation = "auto") -> Handshake:
    """Start a handshake in that mode and pass these lines to it."""
    local = LocalKey("/keys/one", KEY) if security == "local" else None
    handshake = Handshake(
        server_id="msul1",
        client_id="nscll1",
        negotiation=negotiation,
        security=security,
        local=local,
    )
    opening = b"init:local:/keys/one\n" if local else b"init:ssl\n"
    assert handshake.start() == opening
    for line in lines:
        handshake.receive(line)
    return handshake


@pytest.mark.parametrize("negotiation", NEGOTIATIONS)
def test_local_takes_the_key_of_the_file(negotiation: Negotiation) -> None:
    """Version and sethost are sent, whatever the negotiation."""
    handshake = begin("local", negotiation=negotiation)

    assert handshake.receive(b"ok:local\n") == b"version\n"
    assert handshake.receive(VERSION) == b"sethost:msul1\n"
    assert handshake.receive(b"ok\n") == b""
    session = handshake.session
    assert session.key == KEY
    assert session.security == "local"
    assert session.host_set


@pytest.mark.parametrize("line", [b"ok\n", b"ok:ssl\n", b"12345\n", b"error:no\n", b"ok:local2\n"])
def test_local_accepts_ok_local_only(line: bytes) -> None:
    handshake = begin("local")

    with pytest.raises(HandshakeGarbageError, match="expected ok:local"):
        handshake.receive(line)
    assert not handshake.may_fall_back


@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
@pytest.mark.parametrize("negotiation", NEGOTIATIONS)
def test_ssl_takes_the_key_sent_inside_tls(negotiation: Negotiation, security: str) -> None:
    """Version and sethost are sent, whatever the negotiation."""
    handshake = begin(security, negotiation=negotiation)

    assert handshake.receive(b"ok:ssl\n") == b""
    assert handshake.wants_tls is True
    assert handshake.receive(DIGITS + b"\n") == b"version\n"
    assert handshake.receive(VERSION) == b"sethost:msul1\n"
    assert handshake.receive(b"ok\n") == b""
    session = handshake.session
    assert session.key == KEY
    assert session.security == "ssl"
    assert session.fell_back == ""
    assert session.lond_version == 402


@pytest.mark.parametrize("security", ["local", "ssl", "ssl-or-insecure"])
@pytest.mark.parametrize("answers", [(b"unknown_cmd\n",), (VERSION, b"unknown_cmd\n")])
def test_unknown_cmd_from_a_lond_of_local_or_ssl_is_an_answer_to_another_line(
    security: str, answers: tuple[bytes, ...]
) -> None:
    """Each of those londs knows version and sethost, so its replies are shifted."""
    opening = (b"ok:local\n",) if security == "local" else (b"ok:ssl\n", DIGITS + b"\n")
    handshake = begin(security, *opening, *answers[:-1])

    with pytest.raises(HandshakeGarbageError, match="unknown_cmd"):
        handshake.receive(answers[-1])
    assert not handshake.may_fall_back


def test_unable_to_set_over_ssl_is_no_reason_to_fall_back() -> None:
    handshake = begin("ssl-or-insecure", b"ok:ssl\n", DIGITS + b"\n", VERSION)

    with pytest.raises(HostNotServedError):
        handshake.receive(b"unable_to_set\n")
    assert not handshake.may_fall_back


@pytest.mark.parametrize("security", ["ssl", "ssl-or-insecure"])
@pytest.mark.parametrize(
    "line", [b"0" * 31 + b"\n", b"0" * 33 + b"\n", b"0" * 31 + b"g\n", b"0" * 31 + b"\r\n"]
)
def test_a_key_that_is_not_32_hex_digits_is_garbage(security: str, line: bytes) -> None:
    """The error shows no part of the line."""
    handshake = begin(security, b"ok:ssl\n")

    with pytest.raises(HandshakeGarbageError, match="a key") as caught:
        handshake.receive(line)
    assert "00" not in str(caught.value)
    assert handshake.may_fall_back is (security == "ssl-or-insecure")


def test_ssl_refuses_a_challenge() -> None:
    """A lond without certificates sends one."""
    with pytest.raises(HandshakeGarbageError, match="expected ok:ssl"):
        begin("ssl", b"12345\n")


@pytest.mark.parametrize("negotiation", NEGOTIATIONS)
def test_ssl_or_insecure_continues_with_a_challenge_as_insecure(negotiation: Negotiation) -> None:
    """The session has the reason in `fell_back`."""
    handshake = begin("ssl-or-insecure", negotiation=negotiation)

    assert handshake.receive(b"12345\n") == b"12345\n"
    said = handshake.receive(b"ok\n")
    if negotiation != "legacy":
        assert said == b"version\n"
        assert handshake.receive(VERSION) == b"sethost:msul1\n"
        said = handshake.receive(b"ok\n")
    assert said == b"ekey\n"
    assert handshake.receive(b"5A0\n") == b""
    session = handshake.session
    assert session.key == session_key("msul1", "nscll1", b"5A0")
    assert session.security == "insecure"
    assert session.fell_back == NO_SSL


@pytest.mark.parametrize(
    ("lines", "falls_back"),
    [
        ((), True),
        ((b"ok:ssl\n",), True),
        ((b"1\n",), False),
        ((b"ok:ssl\n", DIGITS + b"\n"), False),
    ],
)
def test_may_fall_back_only_after_a_failure_of_optional_ssl(
    lines: tuple[bytes, ...], falls_back: bool
) -> None:
    for security in ("ssl-or-insecure", "ssl"):
        if security == "ssl" and lines == (b"1\n",):
            continue
        handshake = begin(security, *lines)
        error = handshake.lost()
        assert isinstance(error, HandshakeLostError if lines else RefusedError)
        assert handshake.may_fall_back is (falls_back and security == "ssl-or-insecure")


def test_a_failure_reported_by_the_io_is_final() -> None:
    handshake = begin("ssl-or-insecure", b"ok:ssl\n")
    assert type(handshake.failed(TlsFailedError, "certificate has expired")) is TlsFailedError
    assert handshake.may_fall_back
    with pytest.raises(TlsFailedError, match="expired"):
        handshake.receive(DIGITS + b"\n")


def test_refused_raises_in_every_mode() -> None:
    """Inside TLS too."""
    for security, lines in (("local", ()), ("ssl", ()), ("ssl", (b"ok:ssl\n",))):
        with pytest.raises(RefusedError):
            begin(security, *lines).receive(b"refused\n")


def test_after_falling_back_the_errors_of_insecure_apply() -> None:
    handshake = begin("ssl-or-insecure", b"12345\n")

    with pytest.raises(ChallengeFailedError):
        handshake.receive(b"no\n")
    assert not handshake.may_fall_back


@pytest.mark.parametrize(
    ("security", "local"),
    [
        ("local", None),
        ("ssl", LocalKey("/x", KEY)),
        ("local", LocalKey("/a:b", KEY)),
        ("local", LocalKey("/a\nb", KEY)),
    ],
)
def test_key_files_of_other_modes_or_with_unfit_paths_are_refused(
    security: str, local: LocalKey | None
) -> None:
    with pytest.raises(ValueError, match="key file"):
        Handshake(server_id="msul1", client_id="nscll1", security=security, local=local)


def test_reprs_show_no_key() -> None:
    for shown in (LocalKey("/x", KEY), begin("ssl", b"ok:ssl\n")):
        assert KEY.hex() not in repr(shown)
        assert repr(KEY)[2:-1] not in repr(shown)


def test_errors_of_the_modes_are_lond_errors() -> None:
    assert issubclass(TlsFailedError, LondError)
    assert TlsFailedError.kind == "tls_failed"


@pytest.mark.parametrize(
    ("security", "opening"),
    [
        ("insecure", b"init::402\n"),
        ("local", b"init:local:/keys/one:402\n"),
        ("ssl", b"init:ssl:402\n"),
        ("ssl-or-insecure", b"init:ssl:402\n"),
    ],
)
def test_the_opening_names_a_configured_version(security: str, opening: bytes) -> None:
    local = LocalKey("/keys/one", KEY) if security == "local" else None
    handshake = Handshake(
        server_id="msul1",
        client_id="nscll1",
        security=security,
        local=local,
        init_version="402",
    )

    assert handshake.start() == opening
