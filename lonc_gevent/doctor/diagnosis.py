# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's diagnosis: which settings work with a lond, and what differs from protocol.md.

A `Trial` is one connection made with certain settings, and its result. `conclude` turns all trials
of a host into findings, each with the setting to change, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from lonc_gevent.printable import escape_bytes
from lonc_gevent.protocol.handshake import NO_SSL
from lonc_gevent.protocol.handshake_tables import INLINE_SETHOST, Kind, State, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PROBES: Final = ("ping", "sethost:ID:ping", "encrypt:ping", "sethost:ID:encrypt:ping")
"""Requests that are tried in a session, as the report shows them."""

PING, INLINE, SEALED, INLINE_SEALED = PROBES

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
_PUBLIC_LINES: Final = (b"init", b"version\n", b"sethost:", b"ekey\n")
_MAX_SHOWN: Final = 80
_TIMED_OUT: Final = "reply_timeout: "
_NO_CERTIFICATE_FAULTS: Final = ("not TLS", "inside TLS", "protocol", "record", "before its key")
_CHALLENGE_FOR_SSL: Final = f"lond sent {Kind.TEXT.value}, expected {State.SSL_OK.value}"


@dataclass(frozen=True, slots=True)
class Way:
    """Settings of a trial."""

    security: str
    negotiation: str = "auto"
    init_version: str = ""
    client_id: str = ""
    tls_close_notify: bool = False
    tls_minimum: str = "1.2"
    check_certificate_name: bool = True
    patience: int = 1
    """Factor of the timeouts."""
    check_certificate: bool = True
    """Only to look at lond's certificate is it False."""


@dataclass(slots=True)
class Trial:
    """One connection: its settings and its result."""

    way: Way
    error: str = ""
    """Kind of the error that ended the handshake; "" if it is complete."""
    detail: str = ""
    lond_version: int | None = None
    host_set: bool = False
    fell_back: str = ""
    replies: dict[str, str] = field(default_factory=dict)
    """By probe: `ok` if the reply was the host's id, else a description of it."""
    handshake_s: float = 0.0
    reply_s: float = 0.0
    """Seconds of the slowest reply."""
    tls_version: str = ""
    certificate: bytes = b""
    """lond's certificate in DER, if TLS was set up."""

    @property
    def timed_out(self) -> bool:
        """Whether the handshake or a reply took too long."""
        replies = self.replies.values()
        return self.error == "handshake_timeout" or any(_TIMED_OUT in reply for reply in replies)

    @property
    def has_bad_certificate(self) -> bool:
        """Whether TLS failed for a reason that a certificate can have."""
        return self.error == "tls_failed" and not any(
            text in self.detail for text in _NO_CERTIFICATE_FAULTS
        )

    @property
    def has_session(self) -> bool:
        """Whether the handshake was completed."""
        return not self.error

    @property
    def has_no_certificates(self) -> bool:
        """Whether lond answered init:ssl like init (protocol.md, 3d)."""
        return NO_SSL in (self.fell_back, self.detail) or self.detail == _CHALLENGE_FOR_SSL

    @property
    def works(self) -> bool:
        """Whether clear and sealed requests are answered."""
        return self.has_session and self.replies.get(PING) == self.replies.get(SEALED) == "ok"


class Finding(NamedTuple):
    """A result of the diagnosis; `setting` is the one to look at, or ""."""

    problem: bool
    setting: str
    text: str

    def __str__(self) -> str:
        mark = "!" if self.problem else "-"
        return f"{mark} {self.setting + ': ' if self.setting else ''}{self.text}"


def problem(setting: str, text: str) -> Finding:
    """Return a finding to act on."""
    return Finding(problem=True, setting=setting, text=text)


def note(setting: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(problem=False, setting=setting, text=text)


def conclude(
    configured: Trial,
    others: Sequence[Trial],
    limits: tuple[float, float] = (0.0, 0.0),
    certificates: Iterable[tuple[str, str]] = (),
) -> Iterator[Finding]:
    """Yield the findings of all trials.

    configured    the one with the configured settings
    limits        the configured handshake_timeout and reply_timeout
    certificates  what is wrong with a certificate: its key in the configuration or "", and a text
    """
    working = [trial for trial in others if trial.works]
    for setting, text in certificates:
        yield problem(setting, text)
    if configured.works:
        yield note("", "requests are answered with the configured settings")
        yield from _better_security(configured, working)
    else:
        yield from _what_fails(configured, advise=not working)
        if not any(trial.way.security == configured.way.security for trial in working):
            yield from _wrong_key(configured)
        if working and working[0].way.patience > 1:
            yield from _slowness(working[0], limits)
        if working:
            yield from _differences(configured.way, working[0].way)
        else:
            yield problem("", "none of the other settings that were tried works")
    best = configured if configured.has_session else next(iter(working), configured)
    if best.has_session:
        yield from _about_lond(best)
    if any(trial.has_no_certificates for trial in (configured, *others)):
        yield note("", "lond answers init:ssl with a challenge, so it has no certificates")


def _slowness(trial: Trial, limits: tuple[float, float]) -> Iterator[Finding]:
    """Yield how slow a lond is that needed longer timeouts."""
    took = f"the handshake took {trial.handshake_s:.1f} s, the slowest reply {trial.reply_s:.1f} s"
    names = ("handshake_timeout", "reply_timeout")
    times = (trial.handshake_s, trial.reply_s)
    late = [n for n, took_, limit in zip(names, times, limits, strict=True) if took_ >= limit]
    for name in late:
        yield problem(f"hosts.ID.{name}", f"lond is slow: {took}; expected a longer time")
    if not late:
        yield problem("", f"lond is slow: {took}. The configured times are long enough")


def _what_fails(trial: Trial, *, advise: bool) -> Iterator[Finding]:
    if trial.error:
        is_tls = trial.error == "tls_failed"
        error = "tls_other" if is_tls and not trial.has_bad_certificate else trial.error
        yield problem(_SETTING_OF.get(error, ""), f"{trial.error}: {trial.detail}")
        advice = _ADVICE.get(error)
        if advice and advise:
            yield problem("", advice)
    elif trial.replies.get(PING) != "ok":
        text = f"the handshake succeeds, but the reply to ping is {trial.replies.get(PING)}"
        yield problem("", text)


def _wrong_key(trial: Trial) -> Iterator[Finding]:
    if trial.has_session and trial.replies.get(PING) == "ok" and trial.replies.get(SEALED) != "ok":
        text = (
            "lond cannot open sealed requests, so it has another key. It probably knows this server"
            " by another host id, but none that was tried works"
        )
        yield problem("hosts.ID.client_id", text)


_NAMES: Final = {
    "security": "security",
    "negotiation": "negotiation",
    "init_version": "init_version",
    "client_id": "client_id",
    "tls_close_notify": "network.tls_close_notify",
    "tls_minimum": "network.tls_minimum",
    "check_certificate_name": "network.check_certificate_name",
}


def differing(way: Way, better: Way) -> Iterator[tuple[str, object]]:
    """Yield the key and the value of each setting that is different in `better`."""
    for name, key in _NAMES.items():
        fit = getattr(better, name)
        if getattr(way, name) != fit:
            yield key, fit


def _differences(way: Way, better: Way) -> Iterator[Finding]:
    """Yield a finding for each setting in which a working trial differs."""
    for key, fit in differing(way, better):
        setting = key if "." in key else f"hosts.ID.{key}"
        name = key.rpartition(".")[2]
        shown = str(fit).lower() if isinstance(fit, bool) else f'"{fit}"'
        yield problem(setting, f"works with {shown}")
        if name == "tls_minimum" and fit == "1.0":
            yield note("", "this also accepts certificates with short keys and old signatures")
        if name == "check_certificate_name":
            yield note(
                "", "without this check any lond of the network can answer in place of this one"
            )


def _better_security(configured: Trial, working: Sequence[Trial]) -> Iterator[Finding]:
    if configured.fell_back:
        text = f"ssl is tried first and fails each time: {configured.fell_back}"
        yield problem("hosts.ID.security", text)
    elif configured.way.security == "insecure":
        better = next((t.way.security for t in working if t.way.security != "insecure"), "")
        if better:
            yield note("hosts.ID.security", f'"{better}" also works and is more secure')


def _about_lond(trial: Trial) -> Iterator[Finding]:
    """Yield how lond differs from protocol.md for its version."""
    version = trial.lond_version
    asked = trial.way.negotiation != "legacy"
    if not asked:
        yield note("", "version and sethost were not tried, as negotiation is legacy")
    elif version is None:
        text = "lond has no version command, so it is very old: use auto or legacy, not modern"
        yield note("hosts.ID.negotiation", text)
    else:
        yield note("", f"lond is revision 1.{version}")
    if trial.tls_version:
        yield note("", f"TLS is {trial.tls_version}")
    if asked and not trial.host_set:
        yield note("", "lond does not know sethost: it serves one host only")
    inline = trial.replies.get(INLINE) == "ok"
    was_tried = asked and INLINE in trial.replies
    if was_tried and version is not None and inline != (version >= INLINE_SETHOST):
        verb = "accepts" if inline else "does not accept"
        text = f"differs from protocol.md, 3e: 1.{version} {verb} sethost:ID:REQUEST in one line"
        yield Finding(problem=not inline, setting="", text=text)
    if inline and trial.works and trial.replies.get(INLINE_SEALED) != "ok":
        text = "differs from protocol.md, 3e: a sealed request after sethost:ID: is not accepted"
        yield problem("", text)


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
    "unresolvable": "correct the dns name in hosts.tab, or set an address for this host",
    "unreachable": "check that lond is running there, that the port is right, and the firewall",
    "connect_timeout": "a firewall may drop the packets, or the machine may be off",
    "handshake_timeout": (
        "lond did not answer in time: it may be overloaded, or another program has the port"
    ),
    "refused": (
        "lond identifies clients by address: check that this server's dns name resolves to its"
        " address there. It may also refuse this kind of init (londAllowInsecure)"
    ),
    "challenge_failed": "lond does not accept its own challenge: check that it is a lond",
    "host_not_served": "the lond at this address serves other host ids: correct hosts.tab",
    "handshake_garbage": "lond sent another line than this handshake expects: see the lines above",
    "handshake_lost": "lond closed the connection during the handshake: see its log",
    "key_file": "the key file must be in a directory that both programs can use",
    "tls_other": "TLS fails for another reason than a certificate: see the log of that lond",
    "tls_failed": "the network's CA must have signed the certificates of this server and of lond",
}


def masked(line: bytes, *, ours: bool) -> str:
    """Return a line of the handshake as it may be shown; `ours` are the lines that lonc sends.

    Of challenges, build keys, keys and names of key files only the length is shown.
    """
    if ours:
        if line.startswith(b"init:local:"):
            return "init:local:<a key file>" + (":<version>" if line.count(b":") > 2 else "")  # noqa: PLR2004
        known = line.startswith(_PUBLIC_LINES)
    else:
        known = kind_of(line) in _SHOWN_WHOLE
    text = line.rstrip(b"\n")
    if known and text.isascii():
        return escape_bytes(text[:_MAX_SHOWN])
    return f"<{len(text)} bytes{', all digits' if text.isdigit() else ''}>"


def describe_reply(reply: bytes, host_id: str) -> str:
    """Describe a reply to ping: `ok` if it is the host's id, else its kind, not its content."""
    text = reply.rstrip(b"\n")
    if text == host_id.encode("utf-8", "surrogateescape"):
        return "ok"
    kind = kind_of(text + b"\n")
    if kind in _SHOWN_WHOLE:
        return 'the line "ok"' if kind is Kind.OK else escape_bytes(text[:_MAX_SHOWN])
    return "error:..." if kind is Kind.ERROR else f"another line of {len(text)} bytes"
