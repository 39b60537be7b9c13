# SPDX-License-Identifier: GPL-2.0-or-later
"""lond's side of the handshake (protocol.md, section 3a to 3d).

A table like the client's (protocol/handshake_tables.py): state -> kind of line -> next state and
line to send. A line without an entry is answered `refused`, and the connection is closed. The
faults of the handshake are a second table, which comes first. No sockets and no clock here: the
caller handles key files and TLS.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from .commands import Answer, Commands, Profile

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeState(enum.Enum):
    """State of the fake lond: the line it waits for, or what it does instead."""

    INIT = enum.auto()
    ECHO = enum.auto()
    TLS = enum.auto()
    COMMANDS = enum.auto()
    MUTE = enum.auto()
    CLOSED = enum.auto()


class FakeKind(enum.Enum):
    """FakeKind of a line of the handshake."""

    INIT = enum.auto()
    LOCAL = enum.auto()
    SSL = enum.auto()
    NOT_ALLOWED = enum.auto()
    ECHO = enum.auto()
    OTHER = enum.auto()


class FakeMove(NamedTuple):
    """Transition: the next state and the line to send."""

    to: FakeState
    send: bytes


class WrongMove(NamedTuple):
    """A fault of the handshake: the transition in place of the right one."""

    step: int | None
    """Number of the line that the client sent; None: the fault's number."""
    to: FakeState
    send: bytes = b""


_OPENING: Final[dict[FakeState, dict[FakeKind, FakeMove]]] = {
    FakeState.INIT: {
        FakeKind.INIT: FakeMove(FakeState.ECHO, b"%(challenge)s\n"),
        FakeKind.LOCAL: FakeMove(FakeState.COMMANDS, b"ok:local\n"),
        FakeKind.SSL: FakeMove(FakeState.TLS, b"ok:ssl\n"),
        FakeKind.NOT_ALLOWED: FakeMove(FakeState.CLOSED, b""),
    },
    FakeState.ECHO: {FakeKind.ECHO: FakeMove(FakeState.COMMANDS, b"ok\n")},
}

_WRONG: Final[dict[str, WrongMove]] = {
    "refuse": WrongMove(1, FakeState.CLOSED, b"refused\n"),
    "close": WrongMove(1, FakeState.CLOSED),
    "mute-handshake": WrongMove(1, FakeState.MUTE),
    "long-line": WrongMove(1, FakeState.MUTE, b"%(long)s\n"),
    "bad-challenge": WrongMove(2, FakeState.MUTE, b"no\n"),
    "garbage": WrongMove(None, FakeState.MUTE, b"ok:\x00\xff\x80 has no place\n"),
    "drop-handshake": WrongMove(None, FakeState.CLOSED),
    "no-tls": WrongMove(1, FakeState.MUTE, b"ok:ssl\nthis is not TLS\n"),
    "mute-tls": WrongMove(1, FakeState.MUTE, b"ok:ssl\n"),
}


class FakeHandshake:
    """The handshake of one connection. `challenge` and `build_key` are random bytes.

    `read_key` returns the key in the file that a client of this machine names, None if there is
    no such key file.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        challenge: bytes,
        build_key: bytes,
        read_key: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        self.state = FakeState.INIT
        self._profile = profile
        self._challenge = challenge
        self._commands = Commands(profile, build_key)
        self._read_key = read_key
        self._step = 0

    def __repr__(self) -> str:
        return f"<FakeHandshake {self.state.name}>"

    @property
    def ready(self) -> bool:
        """Whether the client has the key, so that requests follow."""
        return self._commands.has_key

    def complete_tls(self, key: bytes) -> None:
        """Continue after TLS, in which this key was sent."""
        self._commands.take_key(key)
        self.state = FakeState.COMMANDS

    def receive(self, text: bytes) -> Answer:
        r"""Answer one line, given without its `\n`."""
        if not self.ready:
            self._step += 1
            wrong = self._wrong()
            if wrong is not None:
                return wrong
        if self.state is FakeState.COMMANDS:
            was_ready = self.ready
            answer = self._commands.answer(text)
            return answer if was_ready else replace(answer, request=None)
        if self.state is FakeState.MUTE:
            return Answer()
        move = _OPENING.get(self.state, {}).get(
            self._kind(text), FakeMove(FakeState.CLOSED, b"refused\n")
        )
        return self._go(move.to, move.send % {b"challenge": self._challenge})

    def _kind(self, text: bytes) -> FakeKind:
        words = text.split(b":")
        if words[0] != b"init":
            return FakeKind.ECHO if text == self._challenge else FakeKind.OTHER
        way = words[1] if len(words) > 1 else b""
        version_at = 3 if way == b"local" else 2
        if self._profile.fault("wants-version") and len(words) <= version_at:
            return FakeKind.OTHER
        if way == b"local" and self._profile.habit == "modern":
            return self._kind_of_local(words)
        if way == b"ssl" and self._profile.tls is not None:
            return FakeKind.SSL
        # A lond without certificates treats init:ssl like init (protocol.md, section 3d).
        if way in (b"", b"ssl"):
            return FakeKind.INIT if self._profile.allow_insecure else FakeKind.NOT_ALLOWED
        return FakeKind.OTHER

    def _kind_of_local(self, words: list[bytes]) -> FakeKind:
        """Read the key file that the line names; without one the client is refused."""
        key = self._read_key(words[2]) if len(words) > 2 else None  # noqa: PLR2004 - as protocol.md
        if key is None:
            return FakeKind.NOT_ALLOWED
        self._commands.take_key(key)
        return FakeKind.LOCAL

    def _wrong(self) -> Answer | None:
        for name, number in self._profile.faults:
            wrong = _WRONG.get(name)
            if wrong is not None and self._step == (wrong.step or number):
                return self._go(wrong.to, wrong.send % {b"long": b"7" * (number - 1)})
        return None

    def _go(self, to: FakeState, line: bytes) -> Answer:
        self.state = to
        return Answer(
            line,
            fault=self._profile.fault("drip"),
            close=to is FakeState.CLOSED,
            start_tls=to is FakeState.TLS,
        )
