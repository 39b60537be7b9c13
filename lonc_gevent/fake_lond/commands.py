# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of the fake lond to commands after the handshake.

A table of verbs; any other verb is answered `unknown_cmd`. A legacy lond is one without `version`
and `sethost`. No sockets and no clock here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lonc_gevent.errors import BadSealedReplyError
from lonc_gevent.protocol.cipher import Cipher, session_key
from lonc_gevent.protocol.handshake_tables import INLINE_SETHOST

from .faults import CATALOGUE, Fault, Scope, fault_of_request, parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tls import TlsProfile


@dataclass(frozen=True, slots=True)
class Profile:
    """Identity and behaviour of a fake lond."""

    ids: tuple[str, ...] = ("msul1",)
    """Host ids that it serves; the first is its id before any `sethost`."""
    client_id: str = "msul1"
    """Host id of every client; the session key depends on it."""
    habit: Literal["legacy", "modern"] = "modern"
    revision: int = 402
    inline_sethost: bool | None = None
    """Whether it accepts `sethost:ID:REQUEST`; None: as a lond of that revision."""
    seal_replies: bool = False
    """Whether it seals the reply to every encrypted request, not only to eget and secret."""
    delay_ms: tuple[float, float] = (0, 0)
    """Limits of a random delay of each reply."""
    allow_insecure: bool = True
    """Whether it accepts insecure clients; if not, it closes the connection without a line."""
    tls: TlsProfile | None = None
    """None: it has no certificates, and treats init:ssl like init."""
    faults: tuple[Fault, ...] = ()
    """Faults of every connection and request."""

    def fault(self, name: str) -> Fault | None:
        """Return the fault of that name, if it applies to all."""
        return next((fault for fault in self.faults if fault.name == name), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of one line."""

    line: bytes = b""
    r"""Line to send, with its `\n`; b"": none."""
    request: bytes | None = None
    """The request in clear, for the record; None for a line of the handshake."""
    fault: Fault | None = None
    """Fault of its delivery."""
    close: bool = False
    start_tls: bool = False
    """Whether TLS with the key follows the line."""


_CONTENT: Final = {
    "empty": b"",
    "bad-seal": b"enc:99:0123456789abcdef",
    "bad-seal-hex": b"enc:4:0123456789abcdeg",
}


def _get(rest: bytes) -> bytes:
    """Answer `get:DOMAIN:USER:NAMESPACE:KEY&KEY` with the values in the order of the keys.

    Every user exists, with the same few keys in the namespace `environment`.
    """
    domain, user, namespace, keys, *_ = [*rest.split(b":"), b"", b"", b"", b""]
    if not (domain and user and keys):
        return b"refused"
    values = {
        b"firstname": user.capitalize(),
        b"lastname": b"Example",
        b"permanentemail": b"%s%%40%s%%2eexample" % (user, domain),
        b"languages": b"en%2c%20de",
    }
    found = values if namespace == b"environment" else {}
    return b"&".join(found.get(key, b"") for key in keys.split(b"&"))


class Commands:
    """The commands of one connection. `build_key` is the answer to `ekey`."""

    def __init__(self, profile: Profile, build_key: bytes) -> None:
        self._profile = profile
        self._build_key = build_key
        self._id = profile.ids[0]
        self._cipher: Cipher | None = None
        of_requests = (f for f in profile.faults if CATALOGUE[f.name].scope is Scope.REQUEST)
        self._fault = next(of_requests, None)
        self._session: dict[bytes, Callable[[], bytes]] = {b"ekey": self._ekey, b"init": self._init}
        self._verbs: dict[bytes, Callable[[bytes], bytes]] = {
            b"ping": lambda _: self._id.encode("utf-8", "surrogateescape"),
            b"load": lambda _: b"0.12",
            b"echo": lambda rest: rest,
            b"eget": lambda rest: rest,
            b"secret": lambda rest: rest,
            b"get": _get,
            b"put": lambda _: b"ok",
        }
        if profile.habit == "modern":
            version = b"version:$Revision: 1.%d $" % profile.revision
            self._session[b"version"] = lambda: version
            self._verbs[b"version"] = lambda _: version

    @property
    def has_key(self) -> bool:
        """Whether the client has the key, and has so completed the handshake."""
        return self._cipher is not None

    def answer(self, text: bytes, prefix: bytes = b"") -> Answer:
        r"""Answer one command, given without its `\n`.

        `prefix` is the part before it, for the record.
        """
        return self._change_session(text, prefix) or self._request(text, prefix)

    def take_key(self, key: bytes) -> None:
        """Set the key of a session of ssl or local."""
        self._cipher = Cipher(key)

    def _ekey(self) -> bytes:
        self.take_key(session_key(self._id, self._profile.client_id, self._build_key))
        return self._build_key

    def _init(self) -> bytes:
        """Begin another session, which has no key yet."""
        self._cipher = None
        return b"ok"

    def _change_session(self, text: bytes, prefix: bytes) -> Answer | None:
        """Answer a command that concerns the session; None if the text is no such command.

        It counts inside `enc:` and behind `sethost:ID:`, too. Blanks and carriage returns are
        dropped from the command word, as lond drops one of them, and case is ignored.
        """
        word, colon, rest = text.partition(b":")
        word = b"".join(word.split()).lower()
        if word == b"exit":
            return Answer(b"bye\n", prefix + text, close=True)
        if word in self._session and not colon:
            return Answer(self._session[word]() + b"\n", fault=self._profile.fault("drip"))
        if self._profile.habit == "modern" and word == b"sethost" and colon:
            return self._sethost(rest, prefix + text)
        return None

    def _sethost(self, text: bytes, whole: bytes) -> Answer:
        """Answer `sethost:ID` or `sethost:ID:REQUEST`; both change the id of the connection."""
        takes_inline = self._profile.inline_sethost
        if takes_inline is None:
            takes_inline = self._profile.revision >= INLINE_SETHOST
        name, *inline = text.split(b":", 1) if takes_inline else [text]
        host = name.replace(b"\r", b"").decode("utf-8", "surrogateescape")
        if host not in self._profile.ids or self._profile.fault("unable-to-set"):
            return Answer(b"unable_to_set\n", request=whole if inline else None)
        self._id = host
        if not inline:
            return Answer(b"ok\n", fault=self._profile.fault("drip"))
        return self.answer(inline[0], whole[: len(whole) - len(inline[0])])

    def _request(self, text: bytes, prefix: bytes) -> Answer:
        """Answer a request, sealed or not."""
        sealed = text.startswith(b"enc:")
        if sealed:
            if self._cipher is None:
                return Answer(b"error:no_key\n", prefix + text)
            try:
                text = self._cipher.open(text)
            except BadSealedReplyError:
                return Answer(b"error:bad_seal\n", prefix + text)
            if answer := self._change_session(text, prefix):
                return answer
        try:
            fault, reply = self._run(text)
        except ValueError as error:
            return Answer(b"error:%s\n" % str(error).encode(), prefix + text)
        if fault is not None and fault.name == "big":
            reply = b"b" * fault.number
        if text.startswith((b"eget:", b"secret:")) or (sealed and self._profile.seal_replies):
            reply = self._cipher.seal(reply) if self._cipher else b"error:no_key"
        if fault is not None:
            reply = self._with_fault(fault, reply)
        return Answer(reply + b"\n", prefix + text, fault)

    def _run(self, text: bytes) -> tuple[Fault | None, bytes]:
        """Return the reply in clear, and its fault."""
        verb, _, rest = text.partition(b":")
        if verb == b"fault":
            return fault_of_request(text), text
        if verb == b"delay":
            number, _, reply = rest.partition(b":")
            return parse_fault("delay:" + number.decode("ascii", "replace")), reply
        if verb == b"big":
            return parse_fault("big:" + rest.decode("ascii", "replace")), b""
        command = self._verbs.get(verb)
        reply = b"unknown_cmd" if command is None else command(rest)
        # Without a key this is still the handshake, even if the answer is unknown_cmd.
        return (self._fault if self.has_key else None), reply

    def _with_fault(self, fault: Fault, reply: bytes) -> bytes:
        """Return the reply with the fault of its content."""
        if fault.name == "bad-seal-lines" and self._cipher is not None:
            return self._cipher.seal(b"one\ntwo")
        return _CONTENT.get(fault.name, reply)
