# SPDX-License-Identifier: GPL-2.0-or-later
"""Both ends of the dialogue against each other, without sockets; and what the fake lond answers."""

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
from lonc_gevent.fake_lond.commands import Commands, Manner
from lonc_gevent.fake_lond.faults import CATALOGUE, Fault, Scope, describe, parse_fault
from lonc_gevent.fake_lond.handshake import Dialogue
from lonc_gevent.protocol.cipher import Cipher, session_key
from lonc_gevent.protocol.handshake import Handshake

if TYPE_CHECKING:
    from lonc_gevent.protocol.handshake_tables import Negotiation

IDS = ("msul2", "msul2b")


def talk(manner: Manner, negotiation: Negotiation = "auto", server_id: str = "msul2") -> Handshake:
    """Let our handshake and the fake lond's dialogue talk until one of them has had enough."""
    client = Handshake(server_id=server_id, client_id="msul1", negotiation=negotiation)
    lond = Dialogue(manner, challenge=b"23171051600000", build_key=b"48213A0EAF")
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


def commands(manner: Manner | None = None) -> tuple[Commands, Cipher]:
    """Commands after the handshake, and the client's cipher."""
    made = Commands(manner or Manner(ids=IDS, client_id="msul1"), b"5A0")
    assert made.answer(b"ekey").line == b"5A0\n"
    return made, Cipher(session_key("msul2", "msul1", b"5A0"))


@pytest.mark.parametrize("negotiation", ["legacy", "modern", "auto"])
@pytest.mark.parametrize("server_id", IDS)
def test_a_modern_lond(negotiation: Negotiation, server_id: str) -> None:
    """A modern lond lets every negotiation in, and knows its version and hosts."""
    if negotiation == "legacy":
        server_id = "msul2"
    session = talk(Manner(ids=IDS), negotiation, server_id).session

    assert session.key == session_key(server_id, "msul1", b"48213A0EAF")
    assert session.host_set is (negotiation != "legacy")
    assert session.lond_version == (None if negotiation == "legacy" else 402)


@pytest.mark.parametrize("negotiation", ["legacy", "auto"])
def test_a_legacy_lond(negotiation: Negotiation) -> None:
    """A legacy lond lets in those that can do without version and sethost."""
    session = talk(Manner(ids=IDS, habit="legacy"), negotiation).session

    assert session.host_set is False
    assert session.lond_version is None


@pytest.mark.parametrize("habit", ["legacy", "modern"])
@pytest.mark.parametrize(
    "name", [name for name, entry in CATALOGUE.items() if entry.scope is not Scope.HANDSHAKE]
)
def test_faults_of_requests_leave_the_handshake_alone(
    habit: Literal["legacy", "modern"], name: str
) -> None:
    """A fault chosen for every request does not touch what comes before the key."""
    manner = Manner(ids=IDS, habit=habit, faults=(Fault(name, 1),))

    assert talk(manner).session.key == session_key("msul2", "msul1", b"48213A0EAF")


def test_a_legacy_lond_and_a_modern_client() -> None:
    """A client that insists on version does not get far with a legacy lond."""
    with pytest.raises(HandshakeGarbageError):
        talk(Manner(habit="legacy"), "modern")


def test_a_host_it_does_not_have() -> None:
    """A host that the fake lond does not serve cannot be set."""
    with pytest.raises(HostNotServedError):
        talk(Manner(ids=IDS), "modern", "elsewhere")


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
def test_faults_of_the_handshake(fault: str, error: type[LondError]) -> None:
    """Each fault of the handshake is met by the error made for it."""
    with pytest.raises(error) as caught:
        talk(Manner(ids=IDS, faults=(parse_fault(fault),)))

    if error is LondError:
        assert caught.value.kind == "handshake_lost"


def test_the_longest_challenge_that_will_do() -> None:
    """A challenge of just the limit is let pass, so the fault above is about its length."""
    lond = Dialogue(Manner(faults=(Fault("long-line", 4096),)), challenge=b"1", build_key=b"5A0")
    client = Handshake(server_id="msul1", client_id="msul1")

    line = lond.receive(client.start()[:-1]).line

    assert len(line) == 4096
    assert client.receive(line) == line


@pytest.mark.parametrize("line", [b"", b"ping", b"init:other", b"INIT", b"initial"])
def test_no_init(line: bytes) -> None:
    """Whatever else comes first is refused."""
    lond = Dialogue(Manner(), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(line)

    assert (answer.line, answer.close) == (b"refused\n", True)


def test_a_wrong_echo() -> None:
    """A challenge that comes back changed is refused."""
    lond = Dialogue(Manner(), challenge=b"123", build_key=b"5A0")
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
        (b"big:x", b"error:big:BYTES needs a whole number from 1 to 268435456"),
        (b"delay:5:now", b"now"),
        (b"pong", b"unknown_cmd"),
        (b"", b"unknown_cmd"),
        (b"fault:drip:2:tag", b"fault:drip:2:tag"),
        (b"fault:mute:tag", b"fault:mute:tag"),
        (b"fault:empty", b""),
        (b"fault:dripp", b"error:there is no fault 'dripp'; did you mean drip?"),
        (b"fault:close-after:2", b"error:close-after is a fault of a connection"),
        (b"fault:refuse", b"error:refuse is a fault of the handshake"),
        (b"fault:", b"error:there is no fault ''"),
    ],
)
def test_requests(request_: bytes, reply: bytes) -> None:
    """Each request has its reply, plain and encrypted, and goes on record in clear."""
    lond, cipher = commands()

    for text in (request_, cipher.seal(request_)):
        answer = lond.answer(text)
        assert answer.line == reply + b"\n"
        assert answer.request == request_


def test_inline_sethost() -> None:
    """`sethost:ID:REQUEST` is sethost and then the request, sealed or not: the id stays."""
    lond, cipher = commands()

    assert lond.answer(b"sethost:msul2b:ping").line == b"msul2b\n"
    sealed = lond.answer(b"sethost:msul2b:" + cipher.seal(b"ping"))
    assert (sealed.line, sealed.request) == (b"msul2b\n", b"sethost:msul2b:ping")
    assert lond.answer(b"ping").line == b"msul2b\n"
    assert lond.answer(b"sethost:elsewhere:ping").line == b"unable_to_set\n"
    assert lond.answer(b"ping").line == b"msul2b\n"
    assert lond.answer(b"sethost:msul2").line == b"ok\n"
    assert lond.answer(b"ping").line == b"msul2\n"


def test_a_legacy_lond_knows_no_inline_sethost() -> None:
    """To a legacy lond, sethost is no command in any form."""
    lond, _ = commands(Manner(ids=IDS, habit="legacy"))

    for text in (b"version", b"sethost:msul2", b"sethost:msul2:ping"):
        assert lond.answer(text).line == b"unknown_cmd\n"


def test_encrypted_gets_are_sealed() -> None:
    """The reply to eget is sealed however it was asked for; others are plain."""
    lond, cipher = commands()

    for text in (b"eget:x", cipher.seal(b"eget:x"), b"secret:x"):
        assert cipher.open(lond.answer(text).line[:-1]) == b"x"
    assert lond.answer(cipher.seal(b"echo:x")).line == b"x\n"


def test_sealed_replies_by_option() -> None:
    """With `seal_replies`, every reply to an encrypted request is sealed, and no other."""
    lond, cipher = commands(Manner(ids=IDS, seal_replies=True))

    assert cipher.open(lond.answer(cipher.seal(b"echo:x")).line[:-1]) == b"x"
    assert lond.answer(b"echo:x").line == b"x\n"


@pytest.mark.parametrize("name", ["bad-seal", "bad-seal-hex", "bad-seal-lines"])
def test_bad_seals(name: str) -> None:
    """Each kind of bad sealed reply cannot be opened."""
    lond, cipher = commands()
    line = lond.answer(b"fault:" + name.encode()).line

    assert line.startswith(b"enc:")
    with pytest.raises(BadSealedReplyError):
        cipher.open(line[:-1])


def test_without_a_key() -> None:
    """Before ekey, nothing sealed is understood or made; nor is a badly sealed request later."""
    lond = Commands(Manner(), b"5A0")
    assert lond.answer(b"enc:4:857d0cb0e06dcedc").line == b"error:no_key\n"
    assert lond.answer(b"eget:x").line == b"error:no_key\n"

    lond.answer(b"ekey")
    assert lond.answer(b"enc:5:00").line == b"error:bad_seal\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("mute", Fault("mute")), ("drip", Fault("drip", 1)), ("drip:9", Fault("drip", 9))],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    """A fault is a name, with a number where it has one."""
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    ["", "drop", "mute:1", "drip:", "drip:0", "drip:x", "big", "big:268435457", "drip:\u0662"],
)
def test_faults_that_are_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"there is no fault|needs a whole number|takes no number"):
        parse_fault(text)


def test_all_faults_are_described() -> None:
    """The help lists every fault, with a blank before what it does."""
    lines = describe().splitlines()

    assert len(lines) == len(CATALOGUE) + len(Scope)
    for name, entry in CATALOGUE.items():
        assert any(line.split()[0].startswith(name) and f" {entry.does}" in line for line in lines)


KEY = bytes(range(16))


def test_local_with_the_key_in_our_file() -> None:
    """A client of this machine names a file; the key in it is the session's."""
    asked: list[bytes] = []

    def read_key(path: bytes) -> bytes:
        asked.append(path)
        return KEY

    lond = Dialogue(Manner(), challenge=b"1", build_key=b"5A0", read_key=read_key)

    assert lond.receive(b"init:local:/tmp/x:402").line == b"ok:local\n"
    assert asked == [b"/tmp/x"]
    assert lond.ready
    sealed = lond.receive(Cipher(KEY).seal(b"eget:x")).line
    assert Cipher(KEY).open(sealed[:-1]) == b"x"


@pytest.mark.parametrize("line", [b"init:local", b"init:local:", b"init:local:/none"])
def test_local_without_a_key(line: bytes) -> None:
    """Without a key in a file, lond closes without a line."""
    lond = Dialogue(Manner(), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(line)

    assert (answer.line, answer.close, lond.ready) == (b"", True, False)


def test_insecure_is_not_allowed() -> None:
    """A lond that takes ssl and local only closes without a line."""
    lond = Dialogue(Manner(allow_insecure=False), challenge=b"1", build_key=b"5A0")
    answer = lond.receive(b"init")

    assert (answer.line, answer.close) == (b"", True)
