# SPDX-License-Identifier: GPL-2.0-or-later
"""A session change that a client requests holds for that client alone, in each spelling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lonc_gevent.backend.lond import Lond
from lonc_gevent.errors import ReplyLostError
from lonc_gevent.fake_lond.commands import Commands, Profile
from lonc_gevent.protocol.cipher import session_key
from lonc_gevent.protocol.handshake import Session
from lonc_gevent.protocol.lines import SPECIAL_FIRST, changes_session

OWN, OTHER = "msul2", "msul2b"
BUILD_KEY = b"48213A0EAF"

BLANKS = st.sampled_from(["", "", "", "\r", " ", "\t", "\r\r"])
PREFIXES = st.sampled_from(
    ["encrypt:", f"sethost:{OWN}:", f"sethost:{OTHER}:", "sethost:nowhere:", "sethost::"]
)
COMMANDS = st.sampled_from(
    ["ping", "echo:x", "ekey", "init", "exit", f"sethost:{OTHER}", f"sethost:{OWN}", "sethost:", ""]
)


@st.composite
def respelt(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Draw a text, and change the spelling of the command word at its beginning."""
    word, colon, rest = draw(texts).partition(":")
    if draw(st.booleans()):
        return word + colon + rest
    if draw(st.booleans()):
        word = word.upper()
    return draw(BLANKS) + "".join(letter + draw(BLANKS) for letter in word) + colon + rest


REQUESTS = st.builds(
    lambda prefixes, command: ("".join(prefixes) + command + "\n").encode(),
    st.lists(respelt(PREFIXES), max_size=4),
    respelt(COMMANDS),
)


class FakeStream:
    """A stream whose other end is a fake lond in this process."""

    hub = None
    sent = 0
    deadline = 0.0

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._replies: list[bytes] = []

    def write(self, wire: bytes) -> None:
        """Have the lond answer the line at once."""
        self.sent = len(wire)
        answer = self._commands.answer(bytes(wire[:-1]))
        self._replies.append(answer.line)
        if answer.close:
            self._replies.append(b"")

    def read(self) -> bytes:
        """Return the next reply."""
        return self._replies.pop(0)

    def has_input(self) -> bool:
        """Return whether there is a reply that was not read."""
        return bool(self._replies)


def connection(profile: Profile) -> Lond:
    """Return a handshaken connection to a fake lond in this process."""
    commands = Commands(profile, BUILD_KEY)
    commands.answer(b"ekey")
    modern = profile.habit == "modern"
    session = Session(
        session_key(OWN, "msul1", BUILD_KEY), profile.revision if modern else None, modern
    )
    stream: Any = FakeStream(commands)
    return Lond(stream, session, OWN, 1000)


@settings(deadline=None)
@given(
    request=REQUESTS,
    revision=st.sampled_from([300, 402]),
    habit=st.sampled_from(["modern", "legacy"]),
)
@example(request=b"encrypt:sethost:msul2b\n", revision=402, habit="modern")
@example(request=b"sethost\r:msul2b\n", revision=402, habit="modern")
@example(request=b"\rsethost:msul2b:ping\n", revision=300, habit="modern")
@example(request=b"ek\rey\n", revision=402, habit="legacy")
@example(request=b"sethost:msul2b:sethost:msul2:ekey\n", revision=402, habit="modern")
@example(request=b"encrypt:exit\n", revision=402, habit="modern")
def test_request_of_another_client_after_any_request_runs_as_if_alone(
    request: bytes, revision: int, habit: Any
) -> None:
    """Either the connection is closed, or the next request finds it as it was."""
    lond = connection(Profile(ids=(OWN, OTHER), client_id="msul1", habit=habit, revision=revision))
    try:
        lond.exchange(request)
    except ReplyLostError:
        return  # its connection is closed
    if lond.is_spent:
        return

    for asked, reply in (
        (b"ping\n", b"msul2\n"),
        (b"encrypt:echo:sealed\n", b"sealed\n"),
        (b"encrypt:eget:x\n", b"x\n"),
        (b"sethost:msul2:ping\n", b"msul2\n"),
        (b"ping\n", b"msul2\n"),
    ):
        assert lond.exchange(asked) == reply
        assert not lond.is_spent


@pytest.mark.parametrize(
    "request_line",
    [
        b"ping\n",
        b"get:msu:smith:environment:ekey\n",
        b"eget:sethost:x\n",
        b"encrypt:eget:x\n",
        b"sethost:msul2b:ping\n",
        b"sethost:msul2b:encrypt:ping\n",
        b"initiate_not:x\n"[2:],
        b"store:init\n",
        b"\n",
    ],
)
def test_connection_after_an_ordinary_request_is_kept(request_line: bytes) -> None:
    """What changes nothing costs no connection."""
    lond = connection(Profile(ids=(OWN, OTHER), client_id="msul1"))

    lond.exchange(request_line)

    assert not lond.is_spent


@pytest.mark.parametrize("revision", [300, 402])
def test_host_id_of_any_length_does_not_stay_in_memory(revision: int) -> None:
    """A client could have each connection of each host keep as much as a request may have."""
    lond = connection(Profile(ids=(OWN, OTHER), client_id="msul1", revision=revision))

    assert lond.exchange(b"sethost:" + b"x" * 256 + b":ping\n") == b"unable_to_set\n"

    assert lond.is_spent


@given(st.binary(max_size=40))
def test_first_byte_of_a_session_change_is_special(text: bytes) -> None:
    """The check of one byte that each request passes overlooks no session change."""
    assert not changes_session(text, 0) or text[0] in SPECIAL_FIRST


@pytest.mark.parametrize("word", [b"", b"s", b"sethost"])
def test_text_that_begins_with_a_long_run_of_skipped_bytes_may_change_the_session(
    word: bytes,
) -> None:
    """The run is not searched to its end, which would block the event loop."""
    assert changes_session(word[:3] + b"\r" * 1000 + word[3:], 0)
    assert not changes_session(b"\r" * 100, 0)
    assert not changes_session(b"pi" + b"\r" * 1000 + b"ng", 0)
