# SPDX-License-Identifier: GPL-2.0-or-later
"""Our side of the dialogue that opens a lond connection (protocol.md, section 3).

What can happen stands in the tables of dialogues.py. The rules of walking them:

1. All that can happen is in the tables. The code below looks lines up and knows no dialogue.
2. A missing entry IS the protocol error: what has no place in a state ends the handshake. The
   error is HandshakeGarbageError, but ChallengeFailedError where lond owes us its `ok`.
3. An error sticks. Whatever arrives afterwards raises it again; nothing is said any more.
4. lond speaks one line at a time, each an answer to ours. So `receive` takes one whole line and
   gives what to say next, and bytes that come with or after the last line belong to nobody.
5. A kind depends on the line alone, never on the state: `refused` is never taken for a challenge,
   nor `error:no_key` for a build key.
6. Where `wants_tls`, the next line comes inside TLS, and what is said to it is plain again.
7. Only `ssl-or-insecure` may end up without ssl, and the session then says so (`fell_back`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lonc_gevent.errors import HandshakeGarbageError, HandshakeLostError, LondError, RefusedError

from .cipher import key_from_digits, session_key
from .handshake_tables import (
    BUILD_KEY,
    FIRST,
    MISSING,
    OPENINGS,
    OPENINGS_WITH_VERSION,
    REVISION,
    TABLES,
    Keep,
    Kind,
    Move,
    Negotiation,
    Say,
    State,
    kind_of,
)

NO_SSL = "lond sent a challenge in place of ok:ssl: it has no certificates"
"""Why a session fell back, when that was lond's doing."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a complete handshake leaves behind."""

    key: bytes = field(repr=False)
    """The 16-byte session key."""
    lond_version: int | None
    """NNN of lond's `Revision: 1.NNN`; None if we did not ask or it is very old."""
    host_set: bool
    """Whether lond accepted our `sethost`; if not, it speaks for the one host that it has."""
    security: str = "insecure"
    """How its key came: insecure, local or ssl."""
    fell_back: str = ""
    """Why it is insecure although ssl was asked for first; "" if nothing of the kind."""


class LocalKey(NamedTuple):
    """For security local: the file that we wrote, and the key in it."""

    path: str
    key: bytes

    def __repr__(self) -> str:
        return f"<LocalKey {self.path}>"


class Handshake:
    """One handshake with the lond of `server_id`, which knows us as `client_id`.

    Say what `start` returns, then feed each line to `receive` and say what that returns, until
    `complete`. `fell_back` tells why this one is insecure, if it stands in for another that
    failed. Raises ValueError if there is no dialogue for these settings.
    """

    __slots__ = (
        "_client_id",
        "_failed_in",
        "_failure",
        "_fell_back",
        "_host_set",
        "_init_version",
        "_key",
        "_local",
        "_negotiation",
        "_security",
        "_server_id",
        "_table",
        "_version",
        "state",
    )

    def __init__(  # noqa: PLR0913 - each a fact of the session, and given by name
        self,
        *,
        server_id: str,
        client_id: str,
        negotiation: Negotiation = "auto",
        security: str = "insecure",
        local: LocalKey | None = None,
        init_version: str = "",
        fell_back: str = "",
    ) -> None:
        table = TABLES.get((security, negotiation))
        if table is None:
            raise ValueError(f"no dialogue for security {security!r}, negotiation {negotiation!r}")
        if "\n" in server_id:
            raise ValueError("a server id cannot hold a newline")
        if (security == "local") != (local is not None):
            raise ValueError("a key file belongs to security 'local'")
        if local is not None and {"\n", ":"} & set(local.path):
            raise ValueError("the path of a key file cannot hold a newline or a colon")
        self.state = State.NEW
        self._table = table
        self._negotiation = negotiation
        self._security = security
        self._server_id = server_id
        self._client_id = client_id
        self._local = local
        self._init_version = init_version
        self._fell_back = fell_back
        self._version: int | None = None
        self._host_set = False
        self._key = b""
        self._failure: tuple[type[LondError], str] | None = None
        self._failed_in = State.NEW

    def __repr__(self) -> str:
        return f"<Handshake {self.state.name}>"

    @property
    def complete(self) -> bool:
        """Whether the connection is ready for requests."""
        return self.state is State.COMPLETE

    @property
    def wants_tls(self) -> bool:
        """Whether lond agreed to TLS: the next line comes inside of it."""
        return self.state is State.TLS_KEY

    @property
    def may_fall_back(self) -> bool:
        """Whether, having failed, it may be tried again as `insecure` on a new connection.

        Only ssl-or-insecure may, and only for a failure of the ssl part (protocol.md, 3d).
        """
        return self._security == "ssl-or-insecure" and self._failed_in in (
            State.SSL_OK,
            State.TLS_KEY,
        )

    @property
    def failed_after_tls(self) -> bool:
        """Whether it failed at the first plain lines after TLS."""
        return self._security.startswith("ssl") and self._failed_in in (
            State.VERSION,
            State.HOST_OK,
        )

    @property
    def session(self) -> Session:
        """What was agreed. Raises RuntimeError before the handshake is complete."""
        if not self.complete:
            raise RuntimeError(f"{self!r} has no session")
        security = "ssl" if self._security == "ssl-or-insecure" else self._security
        return Session(self._key, self._version, self._host_set, security, self._fell_back)

    def start(self) -> bytes:
        """Give the first bytes to send. Raises RuntimeError if it was called before."""
        if self.state is not State.NEW:
            raise RuntimeError(f"{self!r} was started before")
        self.state = FIRST[self._security]
        openings = OPENINGS_WITH_VERSION if self._init_version else OPENINGS
        path = self._local.path.encode() if self._local else b""
        version = self._init_version.encode()
        return openings[self._security] % {b"path": path, b"version": version}

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
                entry = MISSING.get(self.state, HandshakeGarbageError)
        if not isinstance(entry, Move):
            raise self.failed(entry, f"lond said {kind.value} in place of {self.state.value}")
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
        if self.state is State.NEW or self.state is FIRST[self._security]:
            return self.failed(RefusedError, "lond closed the connection without a line")
        return self.failed(HandshakeLostError, f"lond went away in place of {self.state.value}")

    def failed(self, error: type[LondError], reason: str) -> LondError:
        """Note that the handshake has failed; return the error to raise, now and ever after."""
        self._failed_in = self.state
        self.state = State.FAILED
        self._key = b""
        self._failure = (error, reason)
        return error(reason)

    def _remember(self, keep: Keep, text: bytes) -> None:
        if keep is Keep.VERSION:
            found = REVISION.search(text)
            self._version = int(found[1]) if found else None
        elif keep is Keep.HOST_SET:
            self._host_set = True
        elif keep is Keep.BUILD_KEY:
            if not BUILD_KEY.fullmatch(text):
                raise self.failed(HandshakeGarbageError, "lond's build key is not all hex digits")
            self._key = session_key(self._server_id, self._client_id, text)
        elif keep is Keep.LOCAL_KEY and self._local is not None:
            self._key = self._local.key
        elif keep is Keep.NO_SSL:
            self._security = "insecure"
            self._table = TABLES["insecure", self._negotiation]
            self._fell_back = NO_SSL
        elif keep is Keep.TLS_KEY:
            try:
                self._key = key_from_digits(text)
            except ValueError as error:
                raise self.failed(HandshakeGarbageError, str(error)) from None

    def _words(self, say: Say, text: bytes) -> bytes:
        words: bytes = say.value
        if say is Say.ECHO:
            return words % text
        if say is Say.SETHOST:
            return words % self._server_id.encode("utf-8", "surrogateescape")
        return words

    @staticmethod
    def _again(error: type[LondError], reason: str) -> LondError:
        """Give a failure again, as a new exception: a raised one collects tracebacks."""
        return error(reason)
