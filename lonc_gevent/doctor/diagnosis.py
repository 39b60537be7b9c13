# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor saw, put into words: which settings fit, and what differs from protocol.md.

A `Trial` is one connection made with certain settings, and how far it came. `conclude` reads all
trials of a host and tells findings; each names the setting to change, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from lonc_gevent.printable import escape_bytes
from lonc_gevent.protocol.handshake import NO_SSL
from lonc_gevent.protocol.handshake_tables import INLINE_SETHOST, Kind, State, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PING, INLINE, SEALED, INLINE_SEALED = (
    "ping",
    "sethost:ID:ping",
    "encrypt:ping",
    "sethost:ID:encrypt:ping",
)
PROBES: Final = (PING, INLINE, SEALED, INLINE_SEALED)
"""The requests that are tried on a connection that is made, in words."""

_SHOWN_WHOLE: Final = frozenset(
    {
        Kind.OK,
        Kind.REFUSED,
        Kind.UNKNOWN,
        Kind.UNABLE,
        Kind.LOCAL_OK,
        Kind.SSL_OK,
        Kind.VERSION,
    }
)
_OURS: Final = (b"init", b"version\n", b"sethost:", b"ekey\n")
_SHOWN: Final = 80
_CHALLENGE_FOR_SSL: Final = f"lond sent {Kind.TEXT.value}, expected {State.SSL_OK.value}"


@dataclass(frozen=True, slots=True)
class Way:
    """The settings of a trial."""

    security: str
    negotiation: str = "auto"
    init_version: str = ""
    client_id: str = ""
    tls_close_notify: bool = False
    tls_minimum: str = "1.2"
    check_certificate_name: bool = True


@dataclass(slots=True)
class Trial:
    """One connection: the way it was made, and what came of it."""

    way: Way
    error: str = ""
    """Kind of the error that ended the handshake; "" if there is a session."""
    detail: str = ""
    lond_version: int | None = None
    host_set: bool = False
    fell_back: str = ""
    replies: dict[str, str] = field(default_factory=dict)
    """By probe: `ok` if the reply was the host's id, else what it was in words."""

    @property
    def has_session(self) -> bool:
        """Whether the handshake was done."""
        return not self.error

    @property
    def has_no_certificates(self) -> bool:
        """Whether lond answered init:ssl as if it were init (protocol.md, 3d)."""
        return NO_SSL in (self.fell_back, self.detail) or self.detail == _CHALLENGE_FOR_SSL

    @property
    def works(self) -> bool:
        """Whether requests are answered, in clear and sealed."""
        return self.has_session and self.replies.get(PING) == self.replies.get(SEALED) == "ok"


class Finding(NamedTuple):
    """A thing to tell: is it a problem, the setting it is about ("" if none), the words."""

    problem: bool
    setting: str
    words: str


def _problem(setting: str, words: str) -> Finding:
    return Finding(problem=True, setting=setting, words=words)


def _note(setting: str, words: str) -> Finding:
    return Finding(problem=False, setting=setting, words=words)


def conclude(configured: Trial, others: Sequence[Trial]) -> Iterator[Finding]:
    """Tell what follows from the trials. `configured` was made as the configuration says."""
    working = [trial for trial in others if trial.works]
    if configured.works:
        yield _note("", "with the settings as they are, requests are answered")
        yield from _better_security(configured, working)
    else:
        yield from _what_fails(configured)
        if not any(trial.way.security == configured.way.security for trial in working):
            yield from _wrong_key(configured)
        if working:
            yield from _differences(configured.way, working[0].way)
        else:
            yield _problem("", "no other way that was tried works either")
    best = configured if configured.has_session else next(iter(working), configured)
    if best.has_session:
        yield from _about_lond(best)
    if any(trial.has_no_certificates for trial in (configured, *others)):
        yield _note("", "lond answers init:ssl with a challenge: it has no certificates")


def _what_fails(trial: Trial) -> Iterator[Finding]:
    if trial.error:
        yield _problem(_SETTING_OF.get(trial.error, ""), f"{trial.error}: {trial.detail}")
        advice = _ADVICE.get(trial.error)
        if advice:
            yield _problem("", advice)
    elif trial.replies.get(PING) != "ok":
        words = f"a session is made, but ping is answered with {trial.replies.get(PING)}"
        yield _problem("", words)


def _wrong_key(trial: Trial) -> Iterator[Finding]:
    if trial.has_session and trial.replies.get(PING) == "ok" and trial.replies.get(SEALED) != "ok":
        words = (
            "sealed requests are not understood, so the key is another than lond's; it may take"
            " us for another of our ids, and none that was tried fits"
        )
        yield _problem("hosts.ID.client_id", words)


_NAMES: Final = {
    "security": "security",
    "negotiation": "negotiation",
    "init_version": "init_version",
    "client_id": "client_id",
    "tls_close_notify": "network.tls_close_notify",
    "tls_minimum": "network.tls_minimum",
    "check_certificate_name": "network.check_certificate_name",
}


def _differences(way: Way, better: Way) -> Iterator[Finding]:
    """Name each setting in which a way that works differs from the configured one."""
    for name, key in _NAMES.items():
        now, fit = getattr(way, name), getattr(better, name)
        if now == fit:
            continue
        setting = key if "." in key else f"hosts.ID.{key}"
        shown = str(fit).lower() if isinstance(fit, bool) else f'"{fit}"'
        yield _problem(setting, f"works with {shown}")
        if name == "check_certificate_name":
            yield _note("", "that gives up knowing which lond of the network it is")


def _better_security(configured: Trial, working: Sequence[Trial]) -> Iterator[Finding]:
    if configured.fell_back:
        words = f"ssl is tried first and fails each time: {configured.fell_back}"
        yield _problem("hosts.ID.security", words)
    elif configured.way.security == "insecure":
        better = next((t.way.security for t in working if t.way.security != "insecure"), "")
        if better:
            yield _note("hosts.ID.security", f'"{better}" works, too, and is safer')


def _about_lond(trial: Trial) -> Iterator[Finding]:
    """Tell how lond differs from what protocol.md expects of its age."""
    version = trial.lond_version
    asked = trial.way.negotiation != "legacy"
    if not asked:
        yield _note("", "version and sethost were not tried (negotiation legacy)")
    elif version is None:
        words = "lond tells no version: it is very old; negotiation auto and legacy fit, not modern"
        yield _note("hosts.ID.negotiation", words)
    else:
        yield _note("", f"lond is revision 1.{version}")
    if asked and not trial.host_set:
        yield _note("", "lond knows no sethost: it speaks for the one host that it has")
    inline = trial.replies.get(INLINE) == "ok"
    if asked and version is not None and inline != (version >= INLINE_SETHOST):
        word = "takes" if inline else "does not take"
        words = f"differs from protocol.md, 3e: 1.{version} {word} sethost:ID:REQUEST in one line"
        yield Finding(problem=not inline, setting="", words=words)
    if inline and trial.works and trial.replies.get(INLINE_SEALED) != "ok":
        words = "differs from protocol.md, 3e: a sealed request behind sethost:ID: is not taken"
        yield _problem("", words)


_SETTING_OF: Final = {
    "unresolvable": "hosts.ID.address",
    "unreachable": "hosts.ID.port",
    "connect_timeout": "hosts.ID.address",
    "handshake_timeout": "hosts.ID.handshake_timeout",
    "refused": "hosts.ID.security",
    "host_not_served": "hosts.ID",
    "key_file": "network.key_directory",
    "tls_failed": "network.certificate",
}

_ADVICE: Final = {
    "unresolvable": "mend the dns name in hosts.tab, or set an address for this host",
    "unreachable": "is lond running there, is this its port, does a firewall let us through?",
    "connect_timeout": "a firewall that drops packets, or a machine that is off",
    "handshake_timeout": "something takes the connection and says nothing: is it a lond at all?",
    "refused": (
        "lond goes by our address: is it the one that our dns name has there? It may also allow"
        " other ways to say init only (londAllowInsecure)"
    ),
    "challenge_failed": "lond does not take its own challenge back: is it a lond at all?",
    "host_not_served": "the lond at this address serves other host ids: mend hosts.tab",
    "handshake_garbage": "lond speaks another dialogue than this one; see the lines above",
    "handshake_lost": "lond went away in the middle; its log may say why",
    "key_file": "the file for lond must be made in a directory that both can use",
    "tls_failed": "our certificate, lond's, and the CA of the network must fit together",
}


def masked(line: bytes, *, ours: bool) -> str:
    """Show a line of the handshake without anything in it that should stay secret.

    Challenges, build keys, keys and names of key files are told by their length alone.
    """
    if ours:
        if line.startswith(b"init:local:"):
            return "init:local:<a key file>" + (":<version>" if line.count(b":") > 2 else "")  # noqa: PLR2004
        known = line.startswith(_OURS)
    else:
        known = kind_of(line) in _SHOWN_WHOLE
    text = line.rstrip(b"\n")
    if known and text.isascii():
        return escape_bytes(text[:_SHOWN])
    return f"<{len(text)} bytes{', all digits' if text.isdigit() else ''}>"


def reply_in_words(reply: bytes, host_id: str) -> str:
    """Say what a reply to ping was: `ok` if it is the host's id, never what is in it."""
    text = reply.rstrip(b"\n")
    if text == host_id.encode("utf-8", "surrogateescape"):
        return "ok"
    kind = kind_of(text + b"\n")
    if kind in _SHOWN_WHOLE:
        return escape_bytes(text[:_SHOWN])
    return "error:..." if kind is Kind.ERROR else f"another line of {len(text)} bytes"
