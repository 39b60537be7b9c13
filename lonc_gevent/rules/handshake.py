# SPDX-License-Identifier: GPL-2.0-or-later
"""Our side of the dialogue that opens a lond connection (protocol.md, section 3).

The dialogue is a table: the state we wait in, the kind of line that arrives -> the next state,
what to say, what to keep. The rules:

1. All that can happen is in the tables. The code below looks lines up and knows no dialogue.
2. A missing entry IS the protocol error: what has no place in a state ends the handshake. The
   error is HandshakeGarbageError, but ChallengeFailedError where lond owes us its `ok`.
3. An error sticks. Whatever arrives afterwards raises it again; nothing is said any more.
4. lond speaks one line at a time, each an answer to ours. So `receive` takes one whole line and
   gives what to say next, and bytes that come with or after the last line belong to nobody.
5. A kind depends on the line alone, never on the state: `refused` is never taken for a challenge,
   nor `error:no_key` for a build key.

The insecure dialogue, and how the ways to negotiate differ:

    we say             lond answers       legacy    modern    auto
    init               <challenge>        yes       yes       yes
    <challenge>        ok                 yes       yes       yes
    version            version:...        -         yes       yes, or anything that is no version
    sethost:<id>       ok                 -         yes       yes, or unknown_cmd
    ekey               <build key>        yes       yes       yes

Another security mode is another opening line and further tables; see OPENINGS and TABLES.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lonc_gevent.errors import (
    ChallengeFailedError,
    HandshakeGarbageError,
    HandshakeLostError,
    HostNotServedError,
    LondError,
    RefusedError,
)
from lonc_gevent.rules.cipher import session_key

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE: Final = 4096
"""The longest line of a handshake in bytes, its newline included."""

_REVISION = re.compile(rb"Revision: 1\.([0-9]{1,9})(?![0-9])")


class State(enum.Enum):
    """What we wait for; the value ends the sentence `lond said ... in place of`."""

    NEW = "nothing: we have not begun"
    CHALLENGE = "the challenge"
    CHALLENGE_OK = "ok to the challenge"
    VERSION = "its version"
    HOST_OK = "ok to sethost"
    BUILD_KEY = "the build key"
    COMPLETE = "nothing: the handshake is complete"
    FAILED = "nothing: the handshake has failed"


class Kind(enum.Enum):
    """What a line is, by itself."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown_cmd"
    UNABLE = "unable_to_set"
    SECURE_OK = "ok:..."
    VERSION = "version:..."
    ERROR = "error:..."
    TEXT = "another line"
    UNFIT = "an empty, unended or over-long line"


class Say(enum.Enum):
    """What we say next: `%s` is the line just received or the server id, see `Handshake`."""

    ECHO = b"%s\n"
    VERSION = b"version\n"
    SETHOST = b"sethost:%s\n"
    EKEY = b"ekey\n"
    NOTHING = b""


class Keep(enum.Enum):
    """What the session keeps of an answer."""

    NOTHING = enum.auto()
    VERSION = enum.auto()
    HOST_SET = enum.auto()
    BUILD_KEY = enum.auto()


class Move(NamedTuple):
    """An entry of a table."""

    to: State
    say: Say = Say.NOTHING
    keep: Keep = Keep.NOTHING


Negotiation = Literal["auto", "legacy", "modern"]
Row = dict[Kind, Move | type[LondError]]
Table = dict[State, Row]

_CHALLENGE: Row = {
    Kind.TEXT: Move(State.CHALLENGE_OK, Say.ECHO),
    Kind.REFUSED: RefusedError,
}
_BUILD_KEY: Row = {
    Kind.TEXT: Move(State.COMPLETE, keep=Keep.BUILD_KEY),
    Kind.REFUSED: RefusedError,
}
_VERSION: Row = {
    Kind.VERSION: Move(State.HOST_OK, Say.SETHOST, Keep.VERSION),
    Kind.REFUSED: RefusedError,
}
_HOST_OK: Row = {
    Kind.OK: Move(State.BUILD_KEY, Say.EKEY, Keep.HOST_SET),
    Kind.UNABLE: HostNotServedError,
    Kind.REFUSED: RefusedError,
}
_VERY_OLD = Move(State.HOST_OK, Say.SETHOST)

_INSECURE_LEGACY: Table = {
    State.CHALLENGE: _CHALLENGE,
    State.CHALLENGE_OK: {
        Kind.OK: Move(State.BUILD_KEY, Say.EKEY),
        Kind.REFUSED: RefusedError,
    },
    State.BUILD_KEY: _BUILD_KEY,
}
_INSECURE_MODERN: Table = {
    State.CHALLENGE: _CHALLENGE,
    State.CHALLENGE_OK: {
        Kind.OK: Move(State.VERSION, Say.VERSION),
        Kind.REFUSED: RefusedError,
    },
    State.VERSION: _VERSION,
    State.HOST_OK: _HOST_OK,
    State.BUILD_KEY: _BUILD_KEY,
}
# A lond too old to know `version` may not know `sethost` either. It then goes on with the one
# host that it serves: the caller sees `host_set` and decides whether that will do.
_INSECURE_AUTO: Table = _INSECURE_MODERN | {
    State.VERSION: _VERSION
    | {Kind.UNKNOWN: _VERY_OLD, Kind.ERROR: _VERY_OLD, Kind.TEXT: _VERY_OLD},
    State.HOST_OK: _HOST_OK | {Kind.UNKNOWN: Move(State.BUILD_KEY, Say.EKEY)},
}

OPENINGS: Final[Mapping[str, bytes]] = {"insecure": b"init\n"}
"""The first line by security mode, in one place until a real peer has agreed to it."""

TABLES: Final[Mapping[tuple[str, Negotiation], Table]] = {
    ("insecure", "legacy"): _INSECURE_LEGACY,
    ("insecure", "modern"): _INSECURE_MODERN,
    ("insecure", "auto"): _INSECURE_AUTO,
}

_MISSING: Final[Mapping[State, type[LondError]]] = {State.CHALLENGE_OK: ChallengeFailedError}

_WORDS: Final[Mapping[bytes, Kind]] = {
    b"ok": Kind.OK,
    b"refused": Kind.REFUSED,
    b"unknown_cmd": Kind.UNKNOWN,
    b"unable_to_set": Kind.UNABLE,
}


def kind_of(line: bytes) -> Kind:
    """Tell the kind of one line, its newline included."""
    if not 1 < len(line) <= MAX_LINE or line.find(b"\n") != len(line) - 1:
        return Kind.UNFIT
    text = line[:-1]
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith(b"ok:"):
        return Kind.SECURE_OK
    if text.startswith(b"error:"):
        return Kind.ERROR
    if text.startswith(b"version:") or _REVISION.search(text):
        return Kind.VERSION
    return Kind.TEXT


@dataclass(frozen=True, slots=True)
class Session:
    """What a complete handshake leaves behind."""

    key: bytes = field(repr=False)
    """The 16-byte session key."""
    lond_version: int | None
    """NNN of lond's `Revision: 1.NNN`; None if we did not ask or it is very old."""
    host_set: bool
    """Whether lond accepted our `sethost`; if not, it speaks for the one host that it has."""


class Handshake:
    """One handshake with the lond of `server_id`, which knows us as `client_id`.

    Say what `start` returns, then feed each line to `receive` and say what that returns, until
    `complete`. Raises ValueError if there is no dialogue for these settings.
    """

    __slots__ = (
        "_client_id",
        "_failure",
        "_host_set",
        "_opening",
        "_server_id",
        "_session",
        "_table",
        "_version",
        "state",
    )

    def __init__(
        self,
        *,
        server_id: str,
        client_id: str,
        negotiation: Negotiation = "auto",
        security: str = "insecure",
    ) -> None:
        table = TABLES.get((security, negotiation))
        if table is None:
            raise ValueError(f"no dialogue for security {security!r}, negotiation {negotiation!r}")
        if "\n" in server_id:
            raise ValueError("a server id cannot hold a newline")
        self.state = State.NEW
        self._table = table
        self._opening = OPENINGS[security]
        self._server_id = server_id
        self._client_id = client_id
        self._version: int | None = None
        self._host_set = False
        self._session: Session | None = None
        self._failure: tuple[type[LondError], str] | None = None

    def __repr__(self) -> str:
        return f"<Handshake {self.state.name}>"

    @property
    def complete(self) -> bool:
        """Whether the connection is ready for requests."""
        return self.state is State.COMPLETE

    @property
    def session(self) -> Session:
        """What was agreed. Raises RuntimeError before the handshake is complete."""
        if self._session is None or not self.complete:
            raise RuntimeError(f"{self!r} has no session")
        return self._session

    def start(self) -> bytes:
        """Give the first bytes to send. Raises RuntimeError if it was called before."""
        if self.state is not State.NEW:
            raise RuntimeError(f"{self!r} was started before")
        self.state = State.CHALLENGE
        return self._opening

    def receive(self, line: bytes) -> bytes:
        r"""Take one line of lond, with its `\n`; returns what to send, b"" once complete.

        Raises RefusedError, ChallengeFailedError, HostNotServedError or HandshakeGarbageError,
        and the same one again ever after. No part of the line is in an error's text.
        """
        if self._failure is not None:
            raise self._again(*self._failure)
        kind = kind_of(line)
        entry = self._table.get(self.state, {}).get(kind)
        if entry is None:
            entry = HandshakeGarbageError
            if kind is not Kind.UNFIT:
                entry = _MISSING.get(self.state, HandshakeGarbageError)
        if not isinstance(entry, Move):
            raise self._fail(entry, f"lond said {kind.value} in place of {self.state.value}")
        text = line[:-1]
        self._remember(entry.keep, text)
        self.state = entry.to
        return self._words(entry.say, text)

    def lost(self) -> LondError:
        """Tell what it means that lond closed the connection now; the handshake has then failed.

        A lond that does not want us may close without a line (protocol.md, section 3a): so
        RefusedError if nothing was received, and HandshakeLostError later. After an error: that.
        """
        if self._failure is not None:
            return self._again(*self._failure)
        if self.state in (State.NEW, State.CHALLENGE):
            return self._fail(RefusedError, "lond closed the connection without a line")
        return self._fail(HandshakeLostError, f"lond went away in place of {self.state.value}")

    def _remember(self, keep: Keep, text: bytes) -> None:
        if keep is Keep.VERSION:
            found = _REVISION.search(text)
            self._version = int(found[1]) if found else None
        elif keep is Keep.HOST_SET:
            self._host_set = True
        elif keep is Keep.BUILD_KEY:
            key = session_key(self._server_id, self._client_id, text)
            self._session = Session(key, self._version, self._host_set)

    def _words(self, say: Say, text: bytes) -> bytes:
        words: bytes = say.value
        if say is Say.ECHO:
            return words % text
        if say is Say.SETHOST:
            return words % self._server_id.encode("utf-8", "surrogateescape")
        return words

    def _fail(self, error: type[LondError], reason: str) -> LondError:
        self.state = State.FAILED
        self._session = None
        self._failure = (error, reason)
        return error(reason)

    @staticmethod
    def _again(error: type[LondError], reason: str) -> LondError:
        """Give a failure again, as a new exception: a raised one collects tracebacks."""
        return error(reason)
