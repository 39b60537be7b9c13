# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's side of the handshake of a lond connection, without I/O (protocol.md, section 3).

`Handshake` is a state machine over the tables of handshake_tables.py. Its rules:

1. All transitions are in the tables. The code below only looks up the line that was received.
2. A missing entry is a protocol error: a line that is not expected in a state ends the handshake
   with HandshakeGarbageError, or with ChallengeFailedError where lond must send its `ok`.
3. An error is final. Each later line raises it again, and nothing more is sent.
4. lond sends one line for each line of the client. So `receive` takes one whole line and returns
   the line to send next, and bytes after the last line are an error.
5. The kind of a line depends on the line alone, never on the state: `refused` is never taken for a
   challenge, nor `error:no_key` for a build key.
6. While `wants_tls`, the next line arrives inside TLS, and the line sent after it is plain again.
7. Only `ssl-or-insecure` may end without ssl, and the session then has the reason (`fell_back`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from lonc_gevent.errors import HandshakeGarbageError, HandshakeLostError, LondError, RefusedError

from .cipher import key_from_digits, session_key
from .handshake_tables import (
    AFTER_TLS,
    BUILD_KEY,
    FIRST,
    OF_SSL,
    OPENINGS,
    OPENINGS_WITH_VERSION,
    REVISION,
    TABLES,
    UNEXPECTED_LINE_ERRORS,
    Keep,
    Kind,
    Move,
    Negotiation,
    Send,
    State,
    kind_of,
)

NO_SSL = "lond sent a challenge, expected ok:ssl: it has no certificates"
"""`fell_back` of a session with a lond without certificates."""


@dataclass(frozen=True, slots=True)
class Session:
    """Result of a complete handshake."""

    key: bytes = field(repr=False)
    """The 16-byte session key."""
    lond_version: int | None
    """NNN of lond's `Revision: 1.NNN`; None if it was not asked for, or lond is very old."""
    host_set: bool
    """Whether lond accepted `sethost`; if not, it serves one host only."""
    security: str = "insecure"
    """How the key was exchanged: insecure, local or ssl."""
    fell_back: str = ""
    """Why the session is insecure although ssl was tried first; "" if it was not."""


class LocalKey(NamedTuple):
    """Key file of security local: its path, and the key in it."""

    path: str
    key: bytes

    def __repr__(self) -> str:
        return f"<LocalKey {self.path}>"


class Handshake:
    """One handshake with the lond of `server_id`, which knows this client as `client_id`.

    Send what `start` returns, then pass each line to `receive` and send what that returns, until
    `complete`. `fell_back` is the reason if this insecure handshake follows a failed one with ssl.
    Raises ValueError if there is no table for these settings.
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
            raise ValueError(f"no handshake for security {security!r}, negotiation {negotiation!r}")
        if "\n" in server_id:
            raise ValueError("a server id cannot contain a newline")
        if (security == "local") != (local is not None):
            raise ValueError("expected a key file if and only if security is 'local'")
        if local is not None and {"\n", ":"} & set(local.path):
            raise ValueError("the path of a key file cannot contain a newline or a colon")
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
        """Whether lond agreed to TLS: the next line arrives inside it."""
        return self.state is State.TLS_KEY

    @property
    def may_fall_back(self) -> bool:
        """Whether a failed handshake may be followed by an `insecure` one on a new connection.

        True only for ssl-or-insecure, and only if the ssl part failed (protocol.md, 3d).
        """
        return self._security == "ssl-or-insecure" and self._failed_in in OF_SSL

    @property
    def failed_after_tls(self) -> bool:
        """Whether the handshake failed at one of the first plain lines after TLS."""
        return self._security.startswith("ssl") and self._failed_in in AFTER_TLS

    @property
    def session(self) -> Session:
        """The resulting session. Raises RuntimeError before the handshake is complete."""
        if not self.complete:
            raise RuntimeError(f"{self!r} has no session")
        security = "ssl" if self._security == "ssl-or-insecure" else self._security
        return Session(self._key, self._version, self._host_set, security, self._fell_back)

    def start(self) -> bytes:
        """Return the first line to send. Raises RuntimeError if it was called before."""
        if self.state is not State.NEW:
            raise RuntimeError(f"{self!r} was started before")
        self.state = FIRST[self._security]
        openings = OPENINGS_WITH_VERSION if self._init_version else OPENINGS
        path = self._local.path.encode() if self._local else b""
        version = self._init_version.encode()
        return openings[self._security] % {b"path": path, b"version": version}

    def receive(self, line: bytes) -> bytes:
        r"""Process one line of lond, with its `\n`; return the line to send, b"" once complete.

        Raises RefusedError, ChallengeFailedError, HostNotServedError or HandshakeGarbageError, and
        the same error in every later call. Error texts never contain a part of the line.
        """
        if self._failure is not None:
            raise self._again(*self._failure)
        kind = kind_of(line)
        entry = self._table.get(self.state, {}).get(kind)
        if entry is None:
            entry = HandshakeGarbageError
            if kind is not Kind.UNFIT:
                entry = UNEXPECTED_LINE_ERRORS.get(self.state, HandshakeGarbageError)
        if not isinstance(entry, Move):
            raise self.failed(entry, f"lond sent {kind.value}, expected {self.state.value}")
        text = line[:-1]
        self._remember(entry.keep, text)
        self.state = entry.to
        return self._line_to_send(entry.send, text)

    def lost(self) -> LondError:
        """Mark the handshake as failed since lond closed the connection; return the error.

        A lond that refuses a client may close without a line (protocol.md, section 3a), so this is
        RefusedError if no line was received, else HandshakeLostError. After an error: that error.
        """
        if self._failure is not None:
            return self._again(*self._failure)
        if self.state is State.NEW or self.state is FIRST[self._security]:
            return self.failed(RefusedError, "lond closed the connection without sending a line")
        return self.failed(
            HandshakeLostError, f"lond closed the connection, expected {self.state.value}"
        )

    def failed(self, error: type[LondError], reason: str) -> LondError:
        """Mark the handshake as failed; return the error to raise, now and in later calls."""
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

    def _line_to_send(self, send: Send, text: bytes) -> bytes:
        line: bytes = send.value
        if send is Send.ECHO:
            return line % text
        if send is Send.SETHOST:
            return line % self._server_id.encode("utf-8", "surrogateescape")
        return line

    @staticmethod
    def _again(error: type[LondError], reason: str) -> LondError:
        """Return a new exception for a failure: raising one again would extend its traceback."""
        return error(reason)
