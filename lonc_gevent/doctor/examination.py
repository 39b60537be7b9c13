# SPDX-License-Identifier: GPL-2.0-or-later
"""Tries a real lond step by step, as the daemon would, and tells what it sees.

All is done with the daemon's own rooms (dial, session, lond), on connections of its own. Lines
are told as they go over the wire, with all secrets masked (doctor/diagnosis.py).
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import msgspec

from lonc_gevent.backend.dial import dial, resolve
from lonc_gevent.backend.handshake_io import FallBackError, shake_hands
from lonc_gevent.backend.lond import Lond
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.errors import ConfigError, LondError
from lonc_gevent.eventloop.stream import Stream
from lonc_gevent.eventloop.turns import Turns
from lonc_gevent.protocol.handshake_tables import State

from .diagnosis import (
    INLINE,
    INLINE_SEALED,
    PING,
    SEALED,
    Finding,
    Trial,
    Way,
    conclude,
    masked,
    reply_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lonc_gevent.configuration.settings import Configuration, HostSettings
    from lonc_gevent.protocol.lines import Line

SWEEP = 0.02
"""Seconds between two looks at the deadline."""

MAX_CLIENT_IDS = 20
"""Other ids of ours that are tried for the key."""

SOME_VERSION = "1"
"""What is tried where lond may want to hear a version in the first line."""

MAX_CHANGES = 4
"""Settings that are changed at the same time."""

_EARLY = ("refused", "handshake_lost", "handshake_garbage", "challenge_failed")
_AFTER_TLS = (State.VERSION.value, State.VERSION.name)


class Doctor:
    """Examines one host. `say` gets each line of the report; `timeout` is for each wait."""

    def __init__(
        self,
        configuration: Configuration,
        host: HostSettings,
        say: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._configuration = configuration
        self._network = configuration.settings.network
        limits = {
            name: min(timeout, getattr(host.pool, name))
            for name in ("connect_timeout", "handshake_timeout", "reply_timeout")
        }
        pool = msgspec.structs.replace(host.pool, **limits)
        self._host = msgspec.structs.replace(host, pool=pool)
        self._say = say
        self._hub = gevent.get_hub()
        self._turns = Turns(self._hub)
        self._stream: Stream | None = None

    def examine(self) -> bool:
        """Do all of it; return whether all is well."""
        host = self._host
        network = self._network
        self._say(f"host {host.id}, as {host.client_id} sees it; challenges and keys are masked")
        sweeper = gevent.spawn(self._sweep)
        try:
            if not self._reachable():
                return False
            way = Way(
                security=host.security,
                negotiation=host.negotiation,
                init_version=host.init_version,
                client_id=host.client_id,
                tls_close_notify=network.tls_close_notify,
                tls_minimum=network.tls_minimum,
                check_certificate_name=network.check_certificate_name,
            )
            configured = self._try(way, "as configured")
            others = list(self._try_others(configured))
        finally:
            sweeper.kill()
        return self._tell(conclude(configured, others))

    def _tell(self, findings: Iterator[Finding]) -> bool:
        self._say("")
        well = True
        for finding in findings:
            well = well and not finding.problem
            setting = finding.setting.replace("hosts.ID", f"hosts.{self._host.id}")
            mark = "!" if finding.problem else "-"
            self._say(f"{mark} {setting + ': ' if setting else ''}{finding.words}")
        self._say("all is well" if well else "not all is well; lines with ! say what to change")
        return well

    def _reachable(self) -> bool:
        """Tell address and TCP by themselves: without them nothing else can be seen."""
        host = self._host
        try:
            addresses = resolve(host, self._hub, host.pool.connect_timeout)
            found = ", ".join(str(address.sockaddr[0]) for address in addresses)
            self._say(f"address      {host.address or host.dns_name}: {found}")
            started = monotonic()
            self._stream = stream = Stream(self._turns)
            dial(host, self._hub, stream)
        except LondError as error:
            return self._tell(conclude(Trial(self._bare(), error.kind, str(error)), []))
        stream.close()
        took = (monotonic() - started) * 1000
        self._say(f"TCP          port {host.port} takes the connection, in {took:.1f} ms")
        return True

    def _bare(self) -> Way:
        return Way(self._host.security, client_id=self._host.client_id)

    # -- which ways are tried ----------------------------------------------------------------

    def _try_others(self, configured: Trial) -> Iterator[Trial]:
        """Try each other way to say init, and what may mend the configured one."""
        if not configured.works:
            yield from self._mend(configured)
        for security in ("ssl", "local", "insecure"):
            if security != configured.way.security:
                way = _but(configured.way, security=security, negotiation="auto")
                yield from self._try_way(way)

    def _try_way(self, way: Way) -> Iterator[Trial]:
        reason = self._why_not(way.security)
        if reason:
            self._say(f"init         {way.security}: not tried, {reason}")
            return
        trial = self._try(way)
        yield trial
        if not trial.works:
            yield from self._mend(trial)

    def _mend(self, trial: Trial) -> Iterator[Trial]:
        """Try what may mend a way that does not work, one setting after the other.

        A change after which it comes further, or fails otherwise, is kept for the next.
        """
        for _ in range(MAX_CHANGES):
            for change in self._changes(trial):
                mended = self._try(_but(trial.way, **change))
                yield mended
                if mended.works:
                    return
                if (mended.error, mended.detail) != (trial.error, trial.detail):
                    trial = mended
                    break
            else:
                return

    def _changes(self, trial: Trial) -> list[dict[str, Any]]:
        """Choose the changes that may help, the likeliest first."""
        way = trial.way
        changes: list[dict[str, Any]] = []
        if trial.has_no_certificates and not trial.has_session:
            return changes
        if trial.error in _EARLY and way.negotiation != "auto":
            changes.append({"negotiation": "auto"})
        if way.security.startswith("ssl"):
            changes += _tls_changes(trial)
        if trial.error in _EARLY:
            changes.append({"init_version": "" if way.init_version else SOME_VERSION})
        if trial.has_session and trial.replies.get(PING) == "ok":
            changes += [{"client_id": name} for name in self._our_other_ids()]
        return changes

    def _our_other_ids(self) -> list[str]:
        """Name the ids that lond may take us for: those that share our dns name first."""
        hosts = self._configuration.hosts
        ours = next((h.dns_name for h in hosts if h.id == self._network.host_id), "")
        names = [h.id for h in sorted(hosts, key=lambda h: h.dns_name != ours)]
        return [name for name in names if name != self._host.client_id][:MAX_CLIENT_IDS]

    def _why_not(self, security: str) -> str:
        """Say why a way cannot be tried, "" if it can."""
        network = self._network
        if security == "ssl" and not (
            network.certificate and network.private_key and network.ca_certificate
        ):
            return "as network.certificate, private_key and ca_certificate are not set"
        if security == "local":
            addresses = resolve(self._host, self._hub, self._host.pool.connect_timeout)
            if not all(str(address.sockaddr[0]).startswith("127.") for address in addresses):
                return "as this lond is on another machine"
            if not Path(network.key_directory).is_dir():
                return "as network.key_directory does not exist (run makes sockets.directory)"
        return ""

    # -- one trial ---------------------------------------------------------------------------

    def _try(self, way: Way, words: str = "") -> Trial:
        """Make a connection in that way, and see whether requests are answered on it."""
        shown = [way.security, way.negotiation]
        shown += [f"init_version {way.init_version}"] if way.init_version else []
        shown += [f"client_id {way.client_id}"] if way.client_id != self._host.client_id else []
        shown += ["tls_close_notify"] if way.tls_close_notify else []
        shown += ["any certificate name"] if not way.check_certificate_name else []
        self._say(f"init         {', '.join(shown)}{' (' + words + ')' if words else ''}")
        trial = Trial(way)
        host = msgspec.structs.replace(
            self._host,
            security=way.security,
            negotiation=way.negotiation,
            init_version=way.init_version,
            client_id=way.client_id,
        )
        self._stream = stream = _Told(self._turns, self._say)
        try:
            lond = self._connect(host, way, stream)
            trial.lond_version = lond.session.lond_version
            trial.host_set = lond.session.host_set
            trial.fell_back = lond.session.fell_back
            stream.quiet = True
            self._probe(lond, trial)
        except LondError as error:
            trial.error, trial.detail = error.kind, str(error)
            self._say(f"             {error.kind}: {error}")
        except ConfigError as error:
            trial.error, trial.detail = "tls_failed", error.problems[0]
            self._say(f"             {error.problems[0]}")
        finally:
            stream.close()
        return trial

    def _connect(self, host: HostSettings, way: Way, stream: _Told) -> Lond:
        credentials = Credentials(key_directory=self._network.key_directory)
        if way.security.startswith("ssl"):
            network = msgspec.structs.replace(
                self._network,
                tls_close_notify=way.tls_close_notify,
                tls_minimum=way.tls_minimum,
                check_certificate_name=way.check_certificate_name,
            )
            credentials.load(network)
        dial(host, self._hub, stream)
        try:
            session = shake_hands(host, stream, credentials)
        except FallBackError as failure:
            self._say(f"             falls back: {failure}")
            stream.close()
            dial(host, self._hub, stream)
            session = shake_hands(host, stream, credentials, fell_back=str(failure))
        lond = Lond(stream, session, host.server_id, host.pool.max_reply_bytes)
        lond.two_steps = False  # the doctor wants to see what lond takes
        return lond

    def _probe(self, lond: Lond, trial: Trial) -> None:
        """Ask for a ping in clear, behind sethost, and sealed."""
        name = self._host.server_id.encode("utf-8", "surrogateescape")
        requests = [(PING, b"ping\n"), (SEALED, b"encrypt:ping\n")]
        if trial.host_set:
            requests.append((INLINE, b"sethost:%s:ping\n" % name))
            requests.append((INLINE_SEALED, b"sethost:%s:encrypt:ping\n" % name))
        for words, request in requests:
            lond.stream.deadline = monotonic() + self._host.pool.reply_timeout
            try:
                reply = reply_in_words(bytes(lond.exchange(request)), self._host.server_id)
            except LondError as error:
                trial.replies[words] = f"{error.kind}: {error}"
                self._say(f"             {words}: {error.kind}: {error}")
                return
            trial.replies[words] = reply
            self._say(f"             {words}: {reply}")

    def _sweep(self) -> None:
        """Do for our one stream what the keeper does for those of the daemon."""
        while True:
            gevent.sleep(SWEEP)
            stream = self._stream
            if stream is not None and stream.deadline <= monotonic():
                stream.expire()


class _Told(Stream):
    """A stream that tells the lines of the handshake."""

    __slots__ = ("quiet", "say")

    def __init__(self, turns: Turns, say: Callable[[str], None]) -> None:
        super().__init__(turns)
        self.say = say
        self.quiet = False

    def write(self, data: Line) -> None:
        """Write, and tell what."""
        self._tell(">", bytes(data))
        super().write(data)

    def read(self) -> bytes:
        """Read, and tell what."""
        data = super().read()
        self._tell("<", data)
        return data

    def _tell(self, mark: str, data: bytes) -> None:
        if self.quiet:
            return
        if data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17"):
            words = f"<{len(data)} bytes of TLS>"
        elif not data:
            words = "<the end>"
        else:
            ours = mark == ">"
            words = " | ".join(masked(line, ours=ours) for line in data.splitlines(keepends=True))
        self.say(f"             {mark} {words}")


def _tls_changes(trial: Trial) -> list[dict[str, Any]]:
    """Choose what may help TLS."""
    changes: list[dict[str, Any]] = []
    if "ostname mismatch" in trial.detail or "IP address mismatch" in trial.detail:
        changes.append({"check_certificate_name": False})
    if "protocol" in trial.detail and trial.way.tls_minimum != "1.0":
        changes.append({"tls_minimum": "1.0"})
    if any(words in trial.detail for words in _AFTER_TLS) or trial.way.tls_close_notify:
        changes.append({"tls_close_notify": not trial.way.tls_close_notify})
    return changes


def _but(way: Way, **changes: Any) -> Way:
    """Give the same way but for these settings."""
    known = {name: getattr(way, name) for name in Way.__dataclass_fields__}
    return Way(**{**known, **changes})
