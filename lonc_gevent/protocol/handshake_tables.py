# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialogues that open a lond connection, as tables (protocol.md, section 3).

The state we wait in, the kind of line that arrives -> the next state, what to say, what to keep;
handshake.py walks them. Every line that either side says stands here once, so that the capture of
a real session can correct it in one place. How the ways to negotiate differ:

    we say             lond answers       legacy    modern    auto
    <opening>          by mode, below     yes       yes       yes
    version            version:...        -         yes       yes, or anything that is no version
    sethost:<id>       ok                 -         yes       yes, or unknown_cmd
    ekey               <build key>        insecure  insecure  insecure

and the openings, by security mode:

    insecure           init               <challenge>; we echo it; ok          3a, 3b
    local              init:local:<file>  ok:local; the key is in the file     3c
    ssl                init:ssl           ok:ssl; TLS, and in it <key>         3d
    ssl-or-insecure    init:ssl           as ssl, or a <challenge>: as insecure

Every lond that has local or ssl knows version and sethost (3d). So after those openings `modern`
holds whatever the negotiation: `unknown_cmd` there means that lond has read something else than
our lines, such as a close_notify of TLS, and its replies may be shifted by one.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lonc_gevent.errors import ChallengeFailedError, HostNotServedError, LondError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE: Final = 4096
"""The longest line of a handshake in bytes, its newline included."""

REVISION: Final = re.compile(rb"Revision: 1\.([0-9]{1,9})(?![0-9])")

BUILD_KEY: Final = re.compile(rb"[0-9A-Fa-f]+")
"""What lond answers to `ekey` (protocol.md, section 4). Anything else is another line, which came
in front of the build key and would shift every reply by one."""

INLINE_SETHOST: Final = 322
"""The first revision 1.N of lond that takes `sethost:ID:REQUEST` in one line (3e)."""


class State(enum.Enum):
    """What we wait for; the value ends the sentence `lond said ... in place of`."""

    NEW = "nothing: we have not begun"
    CHALLENGE = "the challenge"
    CHALLENGE_OK = "ok to the challenge"
    LOCAL_OK = "ok:local"
    SSL_OK = "ok:ssl"
    TLS_KEY = "the key inside TLS"
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
    LOCAL_OK = "ok:local"
    SSL_OK = "ok:ssl"
    OTHER_OK = "ok:..."
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
    LOCAL_KEY = enum.auto()
    TLS_KEY = enum.auto()
    NO_SSL = enum.auto()


class Move(NamedTuple):
    """An entry of a table."""

    to: State
    say: Say = Say.NOTHING
    keep: Keep = Keep.NOTHING


Negotiation = Literal["auto", "legacy", "modern"]
Row = dict[Kind, Move | type[LondError]]
Table = dict[State, Row]

OPENINGS: Final[Mapping[str, bytes]] = {
    "insecure": b"init\n",
    "local": b"init:local:%(path)s\n",
    "ssl": b"init:ssl\n",
    "ssl-or-insecure": b"init:ssl\n",
}
"""The first line by security mode; `path` is that of the key file."""

OPENINGS_WITH_VERSION: Final[Mapping[str, bytes]] = {
    "insecure": b"init::%(version)s\n",
    "local": b"init:local:%(path)s:%(version)s\n",
    "ssl": b"init:ssl:%(version)s\n",
    "ssl-or-insecure": b"init:ssl:%(version)s\n",
}
"""The same for a lond that wants to hear a version (`network.init_version`)."""

FIRST: Final[Mapping[str, State]] = {
    "insecure": State.CHALLENGE,
    "local": State.LOCAL_OK,
    "ssl": State.SSL_OK,
    "ssl-or-insecure": State.SSL_OK,
}
"""What we wait for after it."""

_REFUSED: Row = {Kind.REFUSED: RefusedError}
_CHALLENGE: Row = _REFUSED | {Kind.TEXT: Move(State.CHALLENGE_OK, Say.ECHO)}
_BUILD_KEY: Row = _REFUSED | {Kind.TEXT: Move(State.COMPLETE, keep=Keep.BUILD_KEY)}


def _version_and_host(negotiation: Negotiation, to: State, say: Say = Say.NOTHING) -> Table:
    """Make the rows for version and sethost; after them comes `to`."""
    if negotiation == "legacy":
        return {}
    version = _REFUSED | {Kind.VERSION: Move(State.HOST_OK, Say.SETHOST, Keep.VERSION)}
    host_ok = _REFUSED | {Kind.OK: Move(to, say, Keep.HOST_SET), Kind.UNABLE: HostNotServedError}
    if negotiation == "auto":
        # A lond too old to know `version` may not know `sethost` either. It then goes on with
        # the one host that it serves: the caller sees `host_set` and decides whether that will do.
        very_old = Move(State.HOST_OK, Say.SETHOST)
        version |= {Kind.UNKNOWN: very_old, Kind.ERROR: very_old, Kind.TEXT: very_old}
        host_ok |= {Kind.UNKNOWN: Move(to, say)}
    return {State.VERSION: version, State.HOST_OK: host_ok}


def _insecure(negotiation: Negotiation) -> Table:
    accepted = (
        Move(State.BUILD_KEY, Say.EKEY)
        if negotiation == "legacy"
        else Move(State.VERSION, Say.VERSION)
    )
    return {
        State.CHALLENGE: _CHALLENGE,
        State.CHALLENGE_OK: _REFUSED | {Kind.OK: accepted},
        **_version_and_host(negotiation, State.BUILD_KEY, Say.EKEY),
        State.BUILD_KEY: _BUILD_KEY,
    }


def _local(_: Negotiation) -> Table:
    answers = _version_and_host("modern", State.COMPLETE)
    opening = Move(State.VERSION, Say.VERSION, Keep.LOCAL_KEY)
    return {State.LOCAL_OK: _REFUSED | {Kind.LOCAL_OK: opening}, **answers}


def _ssl(_: Negotiation) -> Table:
    answers = _version_and_host("modern", State.COMPLETE)
    key = Move(State.VERSION, Say.VERSION, Keep.TLS_KEY)
    return {
        State.SSL_OK: _REFUSED | {Kind.SSL_OK: Move(State.TLS_KEY)},
        State.TLS_KEY: _REFUSED | {Kind.TEXT: key},
        **answers,
    }


def _ssl_or_insecure(negotiation: Negotiation) -> Table:
    """Make the table of ssl, and a way out of it: a lond without certificates sends a challenge."""
    table = _ssl(negotiation)
    no_ssl = Move(State.CHALLENGE_OK, Say.ECHO, Keep.NO_SSL)
    return table | {State.SSL_OK: table[State.SSL_OK] | {Kind.TEXT: no_ssl}}


_MODES: Final = {
    "insecure": _insecure,
    "local": _local,
    "ssl": _ssl,
    "ssl-or-insecure": _ssl_or_insecure,
}
_NEGOTIATIONS: Final[tuple[Negotiation, ...]] = ("auto", "legacy", "modern")

TABLES: Final[Mapping[tuple[str, Negotiation], Table]] = {
    (security, negotiation): table(negotiation)
    for security, table in _MODES.items()
    for negotiation in _NEGOTIATIONS
}
"""What may happen, by security mode and negotiation. After Keep.NO_SSL, that of insecure holds."""

MISSING: Final[Mapping[State, type[LondError]]] = {State.CHALLENGE_OK: ChallengeFailedError}
"""The error for what has no place in a state, where it is not HandshakeGarbageError."""

_WORDS: Final[Mapping[bytes, Kind]] = {
    b"ok": Kind.OK,
    b"refused": Kind.REFUSED,
    b"unknown_cmd": Kind.UNKNOWN,
    b"unable_to_set": Kind.UNABLE,
    b"ok:local": Kind.LOCAL_OK,
    b"ok:ssl": Kind.SSL_OK,
}


def kind_of(line: bytes) -> Kind:
    """Tell the kind of one line, its newline included."""
    if not 1 < len(line) <= MAX_LINE or line.find(b"\n") != len(line) - 1:
        return Kind.UNFIT
    text = line[:-1]
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith(b"ok:"):
        return Kind.OTHER_OK
    if text.startswith(b"error:"):
        return Kind.ERROR
    if text.startswith(b"version:") or REVISION.search(text):
        return Kind.VERSION
    return Kind.TEXT
