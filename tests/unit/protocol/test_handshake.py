# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialogue that opens a lond connection, against protocol.md, section 3."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.errors import (
    ChallengeFailedError,
    HandshakeGarbageError,
    HandshakeLostError,
    HostNotServedError,
    LondError,
    RefusedError,
)
from lonc_gevent.protocol.cipher import session_key
from lonc_gevent.protocol.handshake import Handshake, LocalKey
from lonc_gevent.protocol.handshake_tables import (
    FIRST,
    MAX_LINE,
    OPENINGS,
    TABLES,
    Keep,
    Kind,
    Move,
    Negotiation,
    State,
    kind_of,
)

BUILD_KEY = b"48213A0EAF00000BCA790BA07734"
KEY = session_key("msul1", "nscll1", BUILD_KEY)
VERSION = b"version:$Revision: 1.402 $\n"
NEGOTIATIONS: list[Negotiation] = ["legacy", "modern", "auto"]


def begin(negotiation: Negotiation = "auto", *lines: bytes) -> Handshake:
    """Start a handshake and pass these lines to it."""
    handshake = Handshake(server_id="msul1", client_id="nscll1", negotiation=negotiation)
    assert handshake.start() == b"init\n"
    for line in lines:
        handshake.receive(line)
    return handshake


def test_legacy_handshake_is_challenge_ok_key() -> None:
    """The handshake of 2003, without version and sethost."""
    handshake = begin("legacy")

    assert handshake.receive(b"23171051600000\n") == b"23171051600000\n"
    assert handshake.receive(b"ok\n") == b"ekey\n"
    assert repr(handshake) == "<Handshake BUILD_KEY>"
    assert handshake.receive(BUILD_KEY + b"\n") == b""
    assert handshake.complete
    assert handshake.session.key == KEY
    assert handshake.session.lond_version is None
    assert handshake.session.host_set is False


@pytest.mark.parametrize("negotiation", ["modern", "auto"])
def test_modern_handshake_has_version_and_sethost(negotiation: Negotiation) -> None:
    """`auto` sends the same lines as long as lond knows them."""
    handshake = begin(negotiation)

    assert handshake.receive(b"23171051600000\n") == b"23171051600000\n"
    assert handshake.receive(b"ok\n") == b"version\n"
    assert handshake.receive(VERSION) == b"sethost:msul1\n"
    assert handshake.receive(b"ok\n") == b"ekey\n"
    assert handshake.receive(BUILD_KEY + b"\n") == b""
    assert handshake.complete
    assert handshake.session.key == KEY
    assert handshake.session.lond_version == 402
    assert handshake.session.host_set is True


@pytest.mark.parametrize(
    "answer", [b"unknown_cmd\n", b"error:what\n", b"whatever this may be\n", b"version:\n"]
)
def test_auto_completes_without_version_and_sethost(answer: bytes) -> None:
    """A very old lond knows neither, and serves one host only."""
    handshake = begin("auto", b"1\n", b"ok\n")

    assert handshake.receive(answer) == b"sethost:msul1\n"
    assert handshake.receive(b"unknown_cmd\n") == b"ekey\n"
    assert handshake.receive(BUILD_KEY + b"\n") == b""
    assert handshake.session.lond_version is None
    assert handshake.session.host_set is False


def test_auto_uses_sethost_without_a_version() -> None:
    handshake = begin("auto", b"1\n", b"ok\n", b"unknown_cmd\n", b"ok\n", BUILD_KEY + b"\n")

    assert handshake.session.lond_version is None
    assert handshake.session.host_set is True


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (b"version:$Revision: 1.1 $\n", 1),
        (b"version:$Revision: 1.321 $\n", 321),
        (b"$Revision: 1.402 $\n", 402),
        (b"version:Revision: 1.402.2.7\n", 402),
        (b"version:2.11\n", None),
        (b"version:$Revision: 2.402 $\n", None),
        (b"version:$Revision: 1.99999999999999999999 $\n", None),
    ],
)
def test_the_version_is_the_number_after_revision_1(line: bytes, version: int | None) -> None:
    handshake = begin("modern", b"1\n", b"ok\n", line, b"ok\n", BUILD_KEY + b"\n")

    assert handshake.session.lond_version == version


@given(challenge=st.binary(min_size=1, max_size=300))
def test_a_challenge_is_echoed_byte_for_byte(challenge: bytes) -> None:
    """Any text is a challenge and echoed exactly; any other kind of line is an error."""
    handshake = begin("auto")
    line = challenge + b"\n"
    if kind_of(line) is Kind.TEXT:
        assert handshake.receive(line) == line
        assert repr(handshake) == "<Handshake CHALLENGE_OK>"
    else:
        with pytest.raises(LondError):
            handshake.receive(line)


@pytest.mark.parametrize(
    "challenge", [b" 12 \r\n", b"%s%d\n", b"\xff\x00\x80\n", b"1" * 4095 + b"\n"]
)
def test_challenges_with_unusual_bytes_are_echoed(challenge: bytes) -> None:
    """Blanks, percent signs, bytes that are not text, the longest line."""
    assert begin().receive(challenge) == challenge


@pytest.mark.parametrize("build_key", [b"5", b"5a0", b"F" * 4095])
def test_a_build_key_of_any_length_gives_a_key(build_key: bytes) -> None:
    handshake = begin("legacy", b"1\n", b"ok\n", build_key + b"\n")

    assert handshake.session.key == session_key("msul1", "nscll1", build_key)


@pytest.mark.parametrize(
    ("negotiation", "steps"),
    [("legacy", steps) for steps in range(3)]
    + [("modern", steps) for steps in range(5)]
    + [("auto", steps) for steps in range(5)],
)
def test_refused_raises_refused_error_in_every_state(negotiation: Negotiation, steps: int) -> None:
    """`refused` is never taken for a challenge, a version or a key."""
    lines = [b"1\n", b"ok\n", VERSION, b"ok\n", BUILD_KEY + b"\n"]
    if negotiation == "legacy":
        lines = [b"1\n", b"ok\n", BUILD_KEY + b"\n"]
    handshake = begin(negotiation, *lines[:steps])

    with pytest.raises(RefusedError):
        handshake.receive(b"refused\n")


@pytest.mark.parametrize(
    "line",
    [b"no\n", b"OK\n", b"ok \n", b"ok\r\n", b"unknown_cmd\n", b"ok:ssl\n", b"error:x\n", VERSION],
)
def test_any_line_but_ok_to_the_challenge_raises_challenge_failed(line: bytes) -> None:
    handshake = begin("auto", b"1\n")

    with pytest.raises(ChallengeFailedError, match="expected ok to the challenge"):
        handshake.receive(line)


@pytest.mark.parametrize("negotiation", ["modern", "auto"])
def test_unable_to_set_raises_host_not_served(negotiation: Negotiation) -> None:
    handshake = begin(negotiation, b"1\n", b"ok\n", VERSION)

    with pytest.raises(HostNotServedError):
        handshake.receive(b"unable_to_set\n")


@pytest.mark.parametrize(
    "answers", [(b"unknown_cmd\n",), (b"what?\n",), (VERSION, b"unknown_cmd\n")]
)
def test_modern_requires_version_and_sethost(answers: tuple[bytes, ...]) -> None:
    handshake = begin("modern", b"1\n", b"ok\n", *answers[:-1])

    with pytest.raises(HandshakeGarbageError):
        handshake.receive(answers[-1])


@pytest.mark.parametrize("line", [b"error:no_key\n", b"unknown_cmd\n", b"ok\n", b"ok:local\n"])
def test_an_error_line_is_not_taken_for_the_build_key(line: bytes) -> None:
    """It would give a key that lond does not have."""
    handshake = begin("legacy", b"1\n", b"ok\n")

    with pytest.raises(HandshakeGarbageError):
        handshake.receive(line)
    assert not handshake.complete


@pytest.mark.parametrize("line", [b"lond is busy\n", b"msul2\n", b"5A0\r\n", b"-5A0\n"])
def test_line_in_front_of_the_build_key_ends_the_handshake(line: bytes) -> None:
    """Taken for the build key, it would leave the real one before the first reply."""
    handshake = begin("legacy", b"1\n", b"ok\n")

    with pytest.raises(HandshakeGarbageError, match="build key"):
        handshake.receive(line)


UNFIT = [b"", b"\n", b"ok", b"1" * MAX_LINE + b"\n", b"ok\nok\n", b"\n\n", b"ok\n1"]


@pytest.mark.parametrize("line", UNFIT)
@pytest.mark.parametrize("steps", range(5))
def test_unfit_lines_are_garbage_in_every_state(line: bytes, steps: int) -> None:
    """An empty, incomplete, double or too long line."""
    lines = [b"1\n", b"ok\n", VERSION, b"ok\n"]
    handshake = begin("auto", *lines[:steps])

    with pytest.raises(HandshakeGarbageError):
        handshake.receive(line)


def test_a_line_after_the_last_fails_a_complete_handshake() -> None:
    handshake = begin("legacy", b"1\n", b"ok\n", BUILD_KEY + b"\n")

    with pytest.raises(HandshakeGarbageError):
        handshake.receive(b"hello\n")
    assert not handshake.complete
    with pytest.raises(RuntimeError):
        _ = handshake.session


def test_a_line_before_the_start_is_an_error() -> None:
    handshake = Handshake(server_id="msul1", client_id="nscll1")

    with pytest.raises(HandshakeGarbageError):
        handshake.receive(b"1\n")


def test_an_error_is_raised_again_by_every_later_call() -> None:
    """Valid lines and the loss of the connection give that error again."""
    handshake = begin("auto", b"1\n")
    with pytest.raises(ChallengeFailedError) as first:
        handshake.receive(b"no\n")

    with pytest.raises(ChallengeFailedError) as second:
        handshake.receive(b"ok\n")
    assert first.value is not second.value
    assert str(first.value) == str(second.value)
    assert isinstance(handshake.lost(), ChallengeFailedError)
    assert handshake.state is State.FAILED
    assert not handshake.complete


def test_a_disconnect_before_any_line_is_refused() -> None:
    handshake = begin()

    assert type(handshake.lost()) is RefusedError
    assert handshake.state is State.FAILED
    with pytest.raises(RefusedError):
        handshake.receive(b"1\n")


@pytest.mark.parametrize("steps", range(1, 5))
def test_a_disconnect_after_a_line_is_handshake_lost(steps: int) -> None:
    handshake = begin("auto", *[b"1\n", b"ok\n", VERSION, b"ok\n"][:steps])

    assert type(handshake.lost()) is HandshakeLostError


def test_a_second_start_raises() -> None:
    handshake = begin()

    with pytest.raises(RuntimeError, match="started before"):
        handshake.start()


def test_session_raises_before_the_handshake_is_complete() -> None:
    handshake = begin("auto", b"1\n", b"ok\n")

    with pytest.raises(RuntimeError, match="<Handshake VERSION> has no session"):
        _ = handshake.session


def test_settings_without_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="no handshake for security 'none'"):
        Handshake(server_id="msul1", client_id="nscll1", security="none")
    with pytest.raises(ValueError, match="newline"):
        Handshake(server_id="msul1\nping", client_id="nscll1")


def test_reprs_and_errors_show_no_secrets() -> None:
    """Challenges, build keys and session keys are in neither."""
    handshake = begin("legacy", b"424242\n")
    assert repr(handshake) == "<Handshake CHALLENGE_OK>"
    with pytest.raises(ChallengeFailedError) as caught:
        handshake.receive(b"434343\n")
    assert "4" not in str(caught.value)

    session = begin("legacy", b"1\n", b"ok\n", BUILD_KEY + b"\n").session
    assert KEY.hex() not in repr(session)
    assert repr(session).startswith("Session(lond_version=None, host_set=False,")


@pytest.mark.parametrize("mode", TABLES, ids=map(str, TABLES))
def test_each_table_is_connected_and_complete(mode: tuple[str, Negotiation]) -> None:
    """Every state is reached and left, the end is reached, no row accepts an unfit line."""
    table = TABLES[mode]
    moves = [entry for row in table.values() for entry in row.values() if isinstance(entry, Move)]
    # The way out of ssl leads into the table of insecure.
    reached = {move.to for move in moves if move.keep is not Keep.NO_SSL}

    assert reached | {FIRST[mode[0]]} == set(table) | {State.COMPLETE}
    assert all(Kind.UNFIT not in row for row in table.values())
    assert all(row.get(Kind.REFUSED) is RefusedError for row in table.values())


def test_each_security_mode_has_an_opening_and_tables() -> None:
    assert {security for security, _ in TABLES} == set(OPENINGS) == set(FIRST)


@given(
    negotiation=st.sampled_from(NEGOTIATIONS),
    lines=st.lists(
        st.sampled_from([b"ok\n", b"1\n", VERSION, b"unknown_cmd\n", b"unable_to_set\n", b"\n"])
        | st.binary(max_size=20).map(lambda text: text + b"\n"),
        max_size=8,
    ),
)
def test_any_lines_give_a_session_or_one_final_error(
    negotiation: Negotiation, lines: list[bytes]
) -> None:
    """Any lines lead to a session, to a wait, or to one final error, never to another exception."""
    handshake = begin(negotiation)
    failed: type[LondError] | None = None
    for line in lines:
        try:
            said = handshake.receive(line)
        except LondError as error:
            again = failed in (None, type(error))
            failed = type(error) if again else LondError
        else:
            assert failed is None
            assert (said == b"") is handshake.complete
            assert said == b"" or said.endswith(b"\n")
    assert failed is not LondError
    assert handshake.complete is (handshake.state is State.COMPLETE)


def test_the_error_for_a_disconnect_names_the_expected_line() -> None:
    handshake = Handshake(server_id="msul2", client_id="msul1")
    handshake.start()
    assert str(handshake.lost()) == "lond closed the connection without sending a line"

    handshake = Handshake(server_id="msul2", client_id="msul1")
    handshake.start()
    handshake.receive(b"123\n")
    assert str(handshake.lost()) == "lond closed the connection, expected ok to the challenge"


def test_a_server_id_that_is_not_utf8_is_sent_unchanged() -> None:
    """Bytes of hosts.tab that are not UTF-8 are the same bytes in `sethost`."""
    handshake = Handshake(server_id="m\udcff", client_id="msul1", negotiation="modern")
    handshake.start()
    handshake.receive(b"123\n")
    handshake.receive(b"ok\n")

    assert handshake.receive(b"version:$Revision: 1.402 $\n") == b"sethost:m\xff\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_id": "a\nb"}, "a server id cannot contain a newline"),
        (
            {"local": LocalKey("/k", bytes(16))},
            "expected a key file if and only if security is 'local'",
        ),
        ({"security": "local"}, "expected a key file if and only if security is 'local'"),
        (
            {"security": "local", "local": LocalKey("/a:b", bytes(16))},
            "the path of a key file cannot contain a newline or a colon",
        ),
    ],
)
def test_the_error_for_contradictory_settings_names_the_setting(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        Handshake(**{"server_id": "msul1", "client_id": "nscll1", **changes})
