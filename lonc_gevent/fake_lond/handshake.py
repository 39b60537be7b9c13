# SPDX-License-Identifier: GPL-2.0-or-later
"""lond's side of the opening dialogue: protocol.md, section 3a to 3d.

A table like the client's: state -> kind of line -> next state and what to say. A missing entry is
answered `refused`, and the connection closed. The faults of the handshake are a second table,
which is looked at first. Key files and TLS are the caller's: no sockets and no clock in here.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from .commands import Answer, Commands, Manner

if TYPE_CHECKING:
    from collections.abc import Callable


class State(enum.Enum):
    """What lond waits for."""

    INIT = enum.auto()
    ECHO = enum.auto()
    TLS = enum.auto()
    COMMANDS = enum.auto()
    MUTE = enum.auto()
    CLOSED = enum.auto()


class Kind(enum.Enum):
    """What a line is, before there are commands."""

    INIT = enum.auto()
    LOCAL = enum.auto()
    SSL = enum.auto()
    NOT_ALLOWED = enum.auto()
    ECHO = enum.auto()
    OTHER = enum.auto()


class Move(NamedTuple):
    """An entry of the opening."""

    to: State
    say: bytes


class Wrong(NamedTuple):
    """A fault of the handshake: what it does, in place of the answer to that line."""

    step: int | None
    """The first line is 1; None: the fault's number says."""
    to: State
    say: bytes = b""


_OPENING: Final[dict[State, dict[Kind, Move]]] = {
    State.INIT: {
        Kind.INIT: Move(State.ECHO, b"%(challenge)s\n"),
        Kind.LOCAL: Move(State.COMMANDS, b"ok:local\n"),
        Kind.SSL: Move(State.TLS, b"ok:ssl\n"),
        Kind.NOT_ALLOWED: Move(State.CLOSED, b""),
    },
    State.ECHO: {Kind.ECHO: Move(State.COMMANDS, b"ok\n")},
}

_WRONG: Final[dict[str, Wrong]] = {
    "refuse": Wrong(1, State.CLOSED, b"refused\n"),
    "close": Wrong(1, State.CLOSED),
    "mute-handshake": Wrong(1, State.MUTE),
    "long-line": Wrong(1, State.MUTE, b"%(long)s\n"),
    "bad-challenge": Wrong(2, State.MUTE, b"no\n"),
    "garbage": Wrong(None, State.MUTE, b"ok:\x00\xff\x80 has no place\n"),
    "drop-handshake": Wrong(None, State.CLOSED),
    "no-tls": Wrong(1, State.MUTE, b"ok:ssl\nthis is not TLS\n"),
    "mute-tls": Wrong(1, State.MUTE, b"ok:ssl\n"),
}


class Dialogue:
    """One connection's dialogue. `challenge` and `build_key` are the caller's random bytes.

    `read_key` gives the key in the file whose path a client of this machine names, None if there
    is none.
    """

    def __init__(
        self,
        manner: Manner,
        *,
        challenge: bytes,
        build_key: bytes,
        read_key: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        self.state = State.INIT
        self._manner = manner
        self._challenge = challenge
        self._commands = Commands(manner, build_key)
        self._read_key = read_key
        self._step = 0

    def __repr__(self) -> str:
        return f"<Dialogue {self.state.name}>"

    @property
    def ready(self) -> bool:
        """Whether the client has asked for the key: what follows are requests."""
        return self._commands.has_key

    def key_handed_over(self, key: bytes) -> None:
        """Hear that TLS is done with, and this key was sent in it."""
        self._commands.take_key(key)
        self.state = State.COMMANDS

    def receive(self, text: bytes) -> Answer:
        r"""Answer one line, given without its `\n`."""
        if not self.ready:
            self._step += 1
            wrong = self._wrong()
            if wrong is not None:
                return wrong
        if self.state is State.COMMANDS:
            was_ready = self.ready
            answer = self._commands.answer(text)
            return answer if was_ready else replace(answer, request=None)
        if self.state is State.MUTE:
            return Answer()
        move = _OPENING.get(self.state, {}).get(self._kind(text), Move(State.CLOSED, b"refused\n"))
        return self._go(move.to, move.say % {b"challenge": self._challenge})

    def _kind(self, text: bytes) -> Kind:
        words = text.split(b":")
        if words[0] != b"init":
            return Kind.ECHO if text == self._challenge else Kind.OTHER
        way = words[1] if len(words) > 1 else b""
        version_at = 3 if way == b"local" else 2
        if self._manner.fault("wants-version") and len(words) <= version_at:
            return Kind.OTHER
        if way == b"local" and self._manner.habit == "modern":
            return self._kind_of_local(words)
        if way == b"ssl" and self._manner.tls is not None:
            return Kind.SSL
        # A lond without certificates takes init:ssl for init (protocol.md, section 3d).
        if way in (b"", b"ssl"):
            return Kind.INIT if self._manner.allow_insecure else Kind.NOT_ALLOWED
        return Kind.OTHER

    def _kind_of_local(self, words: list[bytes]) -> Kind:
        """Take the key from the file that is named: without one, the client is not let in."""
        key = self._read_key(words[2]) if len(words) > 2 else None  # noqa: PLR2004 - as protocol.md
        if key is None:
            return Kind.NOT_ALLOWED
        self._commands.take_key(key)
        return Kind.LOCAL

    def _wrong(self) -> Answer | None:
        for name, number in self._manner.faults:
            wrong = _WRONG.get(name)
            if wrong is not None and self._step == (wrong.step or number):
                return self._go(wrong.to, wrong.say % {b"long": b"7" * (number - 1)})
        return None

    def _go(self, to: State, line: bytes) -> Answer:
        self.state = to
        return Answer(
            line,
            fault=self._manner.fault("drip"),
            close=to is State.CLOSED,
            start_tls=to is State.TLS,
        )
