# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's and the fake lond's handshake together, without sockets, and the fake's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from lonc_gevent.errors import (
    BadSealedReplyError,
    ChallengeFailedError,
    HandshakeGarbageError,
    HostNotServedError,
    LondError,
    RefusedError,
)
from lonc_gevent.fake_lond.commands import Commands, Profile
from lonc_gevent.fake_lond.faults import CATALOGUE, Fault, Scope, list_faults, parse_fault
from lonc_gevent.fake_lond.handshake import FakeHandshake
from lonc_gevent.protocol.cipher import Cipher, session_key
from lonc_gevent.protocol.handshake import Handshake

if TYPE_CHECKING:
    from lonc_gevent.protocol.handshake_tables import Negotiation

IDS = ("msul2", "msul2b")


def talk(
    profile: Profile, negotiation: Negotiation = "auto", server_id: str = "msul2"
) -> Handshake:
    """Pass lines between the two handshakes until one of them ends."""
    client = Handshake(server_id=server_id, client_id="msul1", negotiation=negotiation)
    lond = FakeHandshake(profile, challenge=b"23171051600000", build_key=b"48213A0EAF")
    said = client.start()
    while said:
        answer = lond.receive(said[:-1])
        if not answer.line:
            raise client.lost()
        assert answer.fault is None or answer.fault.name == "drip"
        assert answer.request is None
        said = client.receive(answer.line)
    assert lond.ready
    return client


def commands(profile: Profile | None = None) -> tuple[Commands, Cipher]:
    """Commands after the handshake, and the client's cipher."""
    made = Commands(profile or Profile(ids=IDS, client_id="msul1"), b"5A0")
    assert made.answer(b"ekey").line == b"5A0\n"
    return made, Cipher(session_key("msul2", "msul1", b"5A0"))


@pytest.mark.parametrize("negotiation", ["legacy", "modern", "auto"])
@pytest.mark.parametrize("server_id", IDS)
def test_a_modern_lond_accepts_every_negotiation(negotiation: Negotiation, server_id: str) -> None:
    if negotiation == "legacy":
        server_id = "msul2"
    session = talk(Profile(ids=IDS), negotiation, server_id).session

    assert session.key == session_key(server_id, "msul1", b"48213A0EAF")
    assert session.host_set is (negotiation != "legacy")
    assert session.lond_version == (None if negotiation == "legacy" else 402)


@pytest.mark.parametrize("negotiation", ["legacy", "auto"])
def test_a_legacy_lond_accepts_auto_and_legacy(negotiation: Negotiation) -> None:
    session = talk(Profile(ids=IDS, habit="legacy"), negotiation).session

    assert session.host_set is False
    assert session.lond_version is None


@pytest.mark.parametrize("habit", ["legacy", "modern"])
@pytest.mark.parametrize(
    "name", [name for name, entry in CATALOGUE.items() if entry.scope is not Scope.HANDSHAKE]
)
def test_faults_of_requests_do_not_affect_the_handshake(
    habit: Literal["legacy", "modern"], name: str
) -> None:
    profile = Profile(ids=IDS, habit=habit, faults=(Fault(name, 1),))

    assert talk(profile).session.key == session_key("msul2", "msul1", b"48213A0EAF")


def test_a_legacy_lond_fails_a_client_that_requires_version() -> None:
    with pytest.raises(HandshakeGarbageError):
        talk(Profile(habit="legacy"), "modern")


def test_sethost_of_another_host_is_refused() -> None:
    with pytest.raises(HostNotServedError):
        talk(Profile(ids=IDS), "modern", "elsewhere")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("refuse", RefusedError),
        ("close", RefusedError),
        ("bad-challenge", ChallengeFailedError),
        ("garbage", HandshakeGarbageError),
        ("garbage:2", ChallengeFailedError),
        ("garbage:3", HandshakeGarbageError),
        ("garbage:4", HandshakeGarbageError),
        ("garbage:5", HandshakeGarbageError),
        ("long-line", HandshakeGarbageError),
        ("long-line:4097", HandshakeGarbageError),
        ("drop-handshake:1", RefusedError),
        ("drop-handshake", LondError),
        ("drop-handshake:5", LondError),
        ("unable-to-set", HostNotServedError),
    ],
)
def test_each_fault_of_the_handshake_raises_its_error(fault: str, error: type[LondError]) -> None:
    with pytest.raises(error) as caught:
        talk(Profile(ids=IDS, faults=(parse_fault(fault),)))

    if error is LondError:
        assert caught.value.kind == "handshake_lost"


def test_a_challenge_of_the_longest_length_is_accepted() -> None:
    """So the fault long-line fails because of its length only."""
    lond = FakeHandshake(
        Profile(faults=(Fault("long-line", 4096),)), challenge=b"1", build_key=b"5A0"
    )
    client = Handshake(server_id="msul1", client_id="msul1")

    line = lond.receive(client.start()[:-1]).line

    assert len(line) == 4096
    assert client.receive(line) == line


@pytest.mark.parametrize("line", [b"", b"ping", b"init:other", b"INIT", b"initial"])
def test_any_other_first_line_is_refused(line: bytes) -> None:
    lond = FakeHandshake(Profile(), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(line)

    assert (answer.line, answer.close) == (b"refused\n", True)


def test_a_wrong_echo_of_the_challenge_is_refused() -> None:
    lond = FakeHandshake(Profile(), challenge=b"123", build_key=b"5A0")
    assert lond.receive(b"init").line == b"123\n"
    answer = lond.receive(b"124")

    assert (answer.line, answer.close) == (b"refused\n", True)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"ping", b"msul2"),
        (b"load", b"0.12"),
        (b"echo:a:b c", b"a:b c"),
        (b"echo:", b""),
        (b"big:3", b"bbb"),
        (b"big:x", b"error:big:BYTES: expected a whole number from 1 to 268435456"),
        (b"delay:5:now", b"now"),
        (b"pong", b"unknown_cmd"),
        (b"", b"unknown_cmd"),
        (b"fault:drip:2:tag", b"fault:drip:2:tag"),
        (b"fault:mute:tag", b"fault:mute:tag"),
        (b"fault:empty", b""),
        (b"fault:dripp", b"error:unknown fault 'dripp'; did you mean drip?"),
        (b"fault:close-after:2", b"error:close-after is a fault of a connection"),
        (b"fault:refuse", b"error:refuse is a fault of the handshake"),
        (b"fault:", b"error:unknown fault ''"),
    ],
)
def test_each_request_has_its_reply(request_: bytes, reply: bytes) -> None:
    """In clear and sealed; the record has it in clear."""
    lond, cipher = commands()

    for text in (request_, cipher.seal(request_)):
        answer = lond.answer(text)
        assert answer.line == reply + b"\n"
        assert answer.request == request_


def test_inline_sethost_answers_the_request_and_keeps_the_id() -> None:
    lond, cipher = commands()

    assert lond.answer(b"sethost:msul2b:ping").line == b"msul2b\n"
    sealed = lond.answer(b"sethost:msul2b:" + cipher.seal(b"ping"))
    assert (sealed.line, sealed.request) == (b"msul2b\n", b"sethost:msul2b:ping")
    assert lond.answer(b"ping").line == b"msul2b\n"
    assert lond.answer(b"sethost:elsewhere:ping").line == b"unable_to_set\n"
    assert lond.answer(b"ping").line == b"msul2b\n"
    assert lond.answer(b"sethost:msul2").line == b"ok\n"
    assert lond.answer(b"ping").line == b"msul2\n"


def test_a_legacy_lond_does_not_know_sethost() -> None:
    lond, _ = commands(Profile(ids=IDS, habit="legacy"))

    for text in (b"version", b"sethost:msul2", b"sethost:msul2:ping"):
        assert lond.answer(text).line == b"unknown_cmd\n"


def test_the_reply_to_eget_is_always_sealed() -> None:
    """Other replies are plain."""
    lond, cipher = commands()

    for text in (b"eget:x", cipher.seal(b"eget:x"), b"secret:x"):
        assert cipher.open(lond.answer(text).line[:-1]) == b"x"
    assert lond.answer(cipher.seal(b"echo:x")).line == b"x\n"


def test_seal_replies_seals_every_reply_to_a_sealed_request() -> None:
    lond, cipher = commands(Profile(ids=IDS, seal_replies=True))

    assert cipher.open(lond.answer(cipher.seal(b"echo:x")).line[:-1]) == b"x"
    assert lond.answer(b"echo:x").line == b"x\n"


@pytest.mark.parametrize("name", ["bad-seal", "bad-seal-hex", "bad-seal-lines"])
def test_badly_sealed_replies_cannot_be_opened(name: str) -> None:
    lond, cipher = commands()
    line = lond.answer(b"fault:" + name.encode()).line

    assert line.startswith(b"enc:")
    with pytest.raises(BadSealedReplyError):
        cipher.open(line[:-1])


def test_sealing_before_the_key_is_an_error() -> None:
    """And so is a badly sealed request after it."""
    lond = Commands(Profile(), b"5A0")
    assert lond.answer(b"enc:4:857d0cb0e06dcedc").line == b"error:no_key\n"
    assert lond.answer(b"eget:x").line == b"error:no_key\n"

    lond.answer(b"ekey")
    assert lond.answer(b"enc:5:00").line == b"error:bad_seal\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("mute", Fault("mute")), ("drip", Fault("drip", 1)), ("drip:9", Fault("drip", 9))],
)
def test_a_fault_is_a_name_with_a_number(text: str, fault: Fault) -> None:
    """If it has one."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    ["", "drop", "mute:1", "drip:", "drip:0", "drip:x", "big", "big:268435457", "drip:\u0662"],
)
def test_unknown_faults_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown fault|expected a whole number|has no number"):
        parse_fault(text)


def test_the_help_lists_every_fault() -> None:
    lines = list_faults().splitlines()

    assert len(lines) == len(CATALOGUE) + len(Scope)
    for name, entry in CATALOGUE.items():
        assert any(line.split()[0].startswith(name) and f" {entry.does}" in line for line in lines)


KEY = bytes(range(16))


def test_local_uses_the_key_in_the_named_file() -> None:
    asked: list[bytes] = []

    def read_key(path: bytes) -> bytes:
        asked.append(path)
        return KEY

    lond = FakeHandshake(Profile(), challenge=b"1", build_key=b"5A0", read_key=read_key)

    assert lond.receive(b"init:local:/tmp/x:402").line == b"ok:local\n"
    assert asked == [b"/tmp/x"]
    assert lond.ready
    sealed = lond.receive(Cipher(KEY).seal(b"eget:x")).line
    assert Cipher(KEY).open(sealed[:-1]) == b"x"


@pytest.mark.parametrize("line", [b"init:local", b"init:local:", b"init:local:/none"])
def test_local_without_a_key_file_is_closed_without_a_line(line: bytes) -> None:
    lond = FakeHandshake(Profile(), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(line)

    assert (answer.line, answer.close, lond.ready) == (b"", True, False)


def test_init_is_closed_without_a_line_if_insecure_is_not_allowed() -> None:
    lond = FakeHandshake(Profile(allow_insecure=False), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(b"init")

    assert (answer.line, answer.close) == (b"", True)
