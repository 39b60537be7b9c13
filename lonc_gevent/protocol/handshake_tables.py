# SPDX-License-Identifier: GPL-2.0-or-later
"""Transition tables of the handshakes of a lond connection (protocol.md, section 3).

An entry maps a state and the kind of the line received to the next state, the line to send and
what to keep. handshake.py is the state machine. Each line that either side sends is written here
once, so that it can be corrected in one place. The negotiations differ so:

    lonc sends         lond answers       legacy    modern    auto
    <opening>          by mode, below     yes       yes       yes
    version            version:...        -         yes       yes, or any line but a version
    sethost:<id>       ok                 -         yes       yes, or unknown_cmd
    ekey               <build key>        insecure  insecure  insecure

and the security modes in the opening:

    insecure           init               <challenge>; lonc echoes it; ok      3a, 3b
    local              init:local:<file>  ok:local; the key is in the file     3c
    ssl                init:ssl           ok:ssl; TLS, and in it <key>         3d
    ssl-or-insecure    init:ssl           as ssl, or a <challenge>: as insecure

Every lond with local or ssl knows version and sethost (3d). So after those openings `modern`
applies, whatever the negotiation: `unknown_cmd` there means that lond has read something other than
the lines of lonc, such as a close_notify of TLS, and its replies may be shifted by one.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from lonc_gevent.errors import ChallengeFailedError, HostNotServedError, LondError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINE: Final = 4096
"""Bytes of the longest line of a handshake, with its newline."""

REVISION: Final = re.compile(rb"Revision: 1\.([0-9]{1,9})(?![0-9])")

BUILD_KEY: Final = re.compile(rb"[0-9A-Fa-f]+")
"""lond's answer to `ekey` (protocol.md, section 4). Any other line was sent before the build key,
and taking it for the key would shift every reply by one."""

INLINE_SETHOST: Final = 322
"""The first revision 1.N of lond that takes `sethost:ID:REQUEST` in one line (3e)."""


class State(enum.Enum):
    """What the client waits for. The value ends the sentence `lond sent ..., expected`."""

    NEW = "nothing: the handshake has not begun"
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
    """Kind of a line, which depends on the line alone. The value is for error texts."""

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
    UNFIT = "an empty, incomplete or too long line"


class Send(enum.Enum):
    """Line to send next: `%s` is the line just received or the server id, see `Handshake`."""

    ECHO = b"%s\n"
    VERSION = b"version\n"
    SETHOST = b"sethost:%s\n"
    EKEY = b"ekey\n"
    NOTHING = b""


class Keep(enum.Enum):
    """What is kept of an answer."""

    NOTHING = enum.auto()
    VERSION = enum.auto()
    HOST_SET = enum.auto()
    BUILD_KEY = enum.auto()
    LOCAL_KEY = enum.auto()
    TLS_KEY = enum.auto()
    NO_SSL = enum.auto()


class Move(NamedTuple):
    """Transition: the next state, the line to send, what to keep of the line received."""

    to: State
    send: Send = Send.NOTHING
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
"""First line by security mode; `path` is the path of the key file."""

OPENINGS_WITH_VERSION: Final[Mapping[str, bytes]] = {
    "insecure": b"init::%(version)s\n",
    "local": b"init:local:%(path)s:%(version)s\n",
    "ssl": b"init:ssl:%(version)s\n",
    "ssl-or-insecure": b"init:ssl:%(version)s\n",
}
"""First line for a lond that requires a version (`network.init_version`)."""

FIRST: Final[Mapping[str, State]] = {
    "insecure": State.CHALLENGE,
    "local": State.LOCAL_OK,
    "ssl": State.SSL_OK,
    "ssl-or-insecure": State.SSL_OK,
}
"""State after the first line."""

OF_SSL: Final = frozenset({State.SSL_OK, State.TLS_KEY})
"""States of an ssl handshake that ssl-or-insecure may follow with an insecure one."""

AFTER_TLS: Final = frozenset({State.VERSION, State.HOST_OK})
"""States that wait for one of the first plain lines after TLS, if the security is ssl."""

_REFUSED: Row = {Kind.REFUSED: RefusedError}
_CHALLENGE: Row = _REFUSED | {Kind.TEXT: Move(State.CHALLENGE_OK, Send.ECHO)}
_BUILD_KEY: Row = _REFUSED | {Kind.TEXT: Move(State.COMPLETE, keep=Keep.BUILD_KEY)}


def _version_and_host(negotiation: Negotiation, to: State, send: Send = Send.NOTHING) -> Table:
    """Return the rows for version and sethost, which lead to the state `to`."""
    if negotiation == "legacy":
        return {}
    version = _REFUSED | {Kind.VERSION: Move(State.HOST_OK, Send.SETHOST, Keep.VERSION)}
    host_ok = _REFUSED | {Kind.OK: Move(to, send, Keep.HOST_SET), Kind.UNABLE: HostNotServedError}
    if negotiation == "auto":
        # A lond too old for `version` may not know `sethost` either, and serves one host only.
        # The caller checks `host_set` and decides whether that is enough.
        very_old = Move(State.HOST_OK, Send.SETHOST)
        version |= {Kind.UNKNOWN: very_old, Kind.ERROR: very_old, Kind.TEXT: very_old}
        host_ok |= {Kind.UNKNOWN: Move(to, send)}
    return {State.VERSION: version, State.HOST_OK: host_ok}


def _insecure(negotiation: Negotiation) -> Table:
    accepted = (
        Move(State.BUILD_KEY, Send.EKEY)
        if negotiation == "legacy"
        else Move(State.VERSION, Send.VERSION)
    )
    return {
        State.CHALLENGE: _CHALLENGE,
        State.CHALLENGE_OK: _REFUSED | {Kind.OK: accepted},
        **_version_and_host(negotiation, State.BUILD_KEY, Send.EKEY),
        State.BUILD_KEY: _BUILD_KEY,
    }


def _local(_: Negotiation) -> Table:
    answers = _version_and_host("modern", State.COMPLETE)
    opening = Move(State.VERSION, Send.VERSION, Keep.LOCAL_KEY)
    return {State.LOCAL_OK: _REFUSED | {Kind.LOCAL_OK: opening}, **answers}


def _ssl(_: Negotiation) -> Table:
    answers = _version_and_host("modern", State.COMPLETE)
    key = Move(State.VERSION, Send.VERSION, Keep.TLS_KEY)
    return {
        State.SSL_OK: _REFUSED | {Kind.SSL_OK: Move(State.TLS_KEY)},
        State.TLS_KEY: _REFUSED | {Kind.TEXT: key},
        **answers,
    }


def _ssl_or_insecure(negotiation: Negotiation) -> Table:
    """Return the table of ssl, plus the challenge that a lond without certificates sends."""
    table = _ssl(negotiation)
    no_ssl = Move(State.CHALLENGE_OK, Send.ECHO, Keep.NO_SSL)
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
"""Tables by security mode and negotiation. After Keep.NO_SSL the table of insecure applies."""

UNEXPECTED_LINE_ERRORS: Final[Mapping[State, type[LondError]]] = {
    State.CHALLENGE_OK: ChallengeFailedError
}
"""Errors for lines that are not expected, by state, where not HandshakeGarbageError."""

_EXACT_LINES: Final[Mapping[bytes, Kind]] = {
    b"ok": Kind.OK,
    b"refused": Kind.REFUSED,
    b"unknown_cmd": Kind.UNKNOWN,
    b"unable_to_set": Kind.UNABLE,
    b"ok:local": Kind.LOCAL_OK,
    b"ok:ssl": Kind.SSL_OK,
}


def kind_of(line: bytes) -> Kind:
    """Return the kind of a line, given with its newline."""
    if not 1 < len(line) <= MAX_LINE or line.find(b"\n") != len(line) - 1:
        return Kind.UNFIT
    text = line[:-1]
    if text in _EXACT_LINES:
        return _EXACT_LINES[text]
    if text.startswith(b"ok:"):
        return Kind.OTHER_OK
    if text.startswith(b"error:"):
        return Kind.ERROR
    if text.startswith(b"version:") or REVISION.search(text):
        return Kind.VERSION
    return Kind.TEXT
