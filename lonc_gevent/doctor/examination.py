# SPDX-License-Identifier: GPL-2.0-or-later
"""Examines a real lond step by step with several settings, and reports the results.

Uses the daemon's own code for dialling and handshakes, on connections of its own. The report shows
the lines sent and received, with secrets masked (doctor/diagnosis.py).
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import msgspec

from lonc_gevent.backend.dial import candidates, dial
from lonc_gevent.backend.lond import connect
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.errors import ConfigError, LondError
from lonc_gevent.eventloop import Stream
from lonc_gevent.protocol.handshake_tables import State

from .diagnosis import (
    INLINE,
    INLINE_SEALED,
    PING,
    SEALED,
    Trial,
    Way,
    conclude,
    describe_reply,
    masked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gevent.hub import Hub

    from lonc_gevent.backend.lond import Lond
    from lonc_gevent.configuration.settings import Configuration, HostSettings

DEADLINE_CHECK = 0.02
"""Seconds between two checks of the deadline."""

MAX_CLIENT_IDS = 20
"""Other host ids that are tried as client_id."""

SOME_VERSION = "1"
"""init_version that is tried with a lond that may require one."""

MAX_CHANGES = 4
"""Settings that are changed together."""

_EARLY_ERRORS = ("refused", "handshake_lost", "handshake_garbage", "challenge_failed")
_AFTER_TLS = (State.VERSION.value, State.VERSION.name)


class Doctor:
    """Examines one host. `report` is called with each line; `timeout` (s) limits each wait."""

    def __init__(
        self,
        configuration: Configuration,
        host: HostSettings,
        report: Callable[[str], None],
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
        self._report = report
        self._hub = gevent.get_hub()
        self._stream: Stream | None = None

    def examine(self) -> bool:
        """Run the examination; return whether no problem was found."""
        host = self._host
        network = self._network
        self._report(f"host {host.id}, from {host.client_id}; challenges and keys are masked")
        deadlines = gevent.spawn(self._enforce_deadlines)
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
            deadlines.kill()
        return self._conclude(configured, others)

    def _conclude(self, configured: Trial, others: Sequence[Trial]) -> bool:
        self._report("")
        well = True
        for finding in conclude(configured, others):
            well = well and not finding.problem
            setting = finding.setting.replace("hosts.ID", f"hosts.{self._host.id}")
            self._report(str(finding._replace(setting=setting)))
        self._report("no problem found" if well else "problems found: see the lines with !")
        return well

    def _reachable(self) -> bool:
        """Report the addresses and a TCP connection, without which nothing else can be tried."""
        host = self._host
        try:
            addresses = candidates(host, self._hub)
            found = ", ".join(str(address.sockaddr[0]) for address in addresses)
            self._report(f"address      {host.address or host.dns_name}: {found}")
            started = monotonic()
            self._stream = stream = Stream(self._hub)
            dial(host, addresses, stream)
        except LondError as error:
            return self._conclude(Trial(self._bare(), error.kind, str(error)), [])
        stream.close()
        took = (monotonic() - started) * 1000
        self._report(f"TCP          connected to port {host.port} in {took:.1f} ms")
        return True

    def _bare(self) -> Way:
        return Way(self._host.security, client_id=self._host.client_id)

    # -- choice of trials ----------------------------------------------------------------

    def _try_others(self, configured: Trial) -> Iterator[Trial]:
        """Try settings that may correct the configured ones, and each other security mode."""
        if not configured.works:
            yield from self._correct(configured)
        for security in ("ssl", "local", "insecure"):
            if security != configured.way.security:
                way = _but(configured.way, security=security, negotiation="auto")
                yield from self._try_way(way)

    def _try_way(self, way: Way) -> Iterator[Trial]:
        reason = self._why_not(way.security)
        if reason:
            self._report(f"init         {way.security}: not tried: {reason}")
            return
        trial = self._try(way)
        yield trial
        if not trial.works:
            yield from self._correct(trial)

    def _correct(self, trial: Trial) -> Iterator[Trial]:
        """Try changes that may make a trial work, one setting after the other.

        A change after which it fails in another way is kept for the next trial.
        """
        for _ in range(MAX_CHANGES):
            for change in self._changes(trial):
                corrected = self._try(_but(trial.way, **change))
                yield corrected
                if corrected.works:
                    return
                if (corrected.error, corrected.detail) != (trial.error, trial.detail):
                    trial = corrected
                    break
            else:
                return

    def _changes(self, trial: Trial) -> list[dict[str, Any]]:
        """Return the changes that may help, the most likely first."""
        way = trial.way
        changes: list[dict[str, Any]] = []
        if trial.has_no_certificates and not trial.has_session:
            return changes
        if trial.error in _EARLY_ERRORS and way.negotiation != "auto":
            changes.append({"negotiation": "auto"})
        if way.security.startswith("ssl"):
            changes += _tls_changes(trial)
        if trial.error in _EARLY_ERRORS:
            changes.append({"init_version": "" if way.init_version else SOME_VERSION})
        if trial.has_session and trial.replies.get(PING) == "ok":
            changes += [{"client_id": name} for name in self._our_other_ids()]
        return changes

    def _our_other_ids(self) -> list[str]:
        """Return host ids that lond may know this server by, those with the same dns name first."""
        hosts = self._configuration.hosts
        ours = next((h.dns_name for h in hosts if h.id == self._network.host_id), "")
        names = [h.id for h in sorted(hosts, key=lambda h: h.dns_name != ours)]
        return [name for name in names if name != self._host.client_id][:MAX_CLIENT_IDS]

    def _why_not(self, security: str) -> str:
        """Return why a security mode cannot be tried, "" if it can."""
        network = self._network
        if security == "ssl" and not (
            network.certificate and network.private_key and network.ca_certificate
        ):
            return "network.certificate, private_key and ca_certificate are not set"
        if security == "local":
            addresses = candidates(self._host, self._hub)
            if not all(str(address.sockaddr[0]).startswith("127.") for address in addresses):
                return "this lond is on another machine"
            if not Path(network.key_directory).is_dir():
                return (
                    "network.key_directory does not exist (`run` creates it in sockets.directory)"
                )
        return ""

    # -- one trial ---------------------------------------------------------------------------

    def _try(self, way: Way, remark: str = "") -> Trial:
        """Connect with these settings, and try whether requests are answered."""
        shown = [way.security, way.negotiation]
        shown += [f"init_version {way.init_version}"] if way.init_version else []
        shown += [f"client_id {way.client_id}"] if way.client_id != self._host.client_id else []
        shown += ["tls_close_notify"] if way.tls_close_notify else []
        shown += ["any certificate name"] if not way.check_certificate_name else []
        self._report(f"init         {', '.join(shown)}{' (' + remark + ')' if remark else ''}")
        trial = Trial(way)
        host = msgspec.structs.replace(
            self._host,
            security=way.security,
            negotiation=way.negotiation,
            init_version=way.init_version,
            client_id=way.client_id,
        )
        self._stream = stream = _ReportedStream(self._hub, self._report)
        try:
            lond = self._connect(host, way, stream)
            trial.lond_version = lond.session.lond_version
            trial.host_set = lond.session.host_set
            trial.fell_back = lond.session.fell_back
            stream.paused = True
            self._probe(lond, trial)
        except LondError as error:
            trial.error, trial.detail = error.kind, str(error)
            self._report(f"             {error.kind}: {error}")
        except ConfigError as error:
            trial.error, trial.detail = "tls_failed", error.problems[0]
            self._report(f"             {error.problems[0]}")
        finally:
            stream.close()
        return trial

    def _connect(self, host: HostSettings, way: Way, stream: _ReportedStream) -> Lond:
        credentials = Credentials(key_directory=self._network.key_directory)
        if way.security.startswith("ssl"):
            network = msgspec.structs.replace(
                self._network,
                tls_close_notify=way.tls_close_notify,
                tls_minimum=way.tls_minimum,
                check_certificate_name=way.check_certificate_name,
            )
            credentials.load(network)
        lond = connect(host, self._hub, stream, credentials)
        if lond.session.fell_back:
            self._report(f"             falls back: {lond.session.fell_back}")
        lond.two_steps = False  # to see what lond accepts
        return lond

    def _probe(self, lond: Lond, trial: Trial) -> None:
        """Send a ping in clear, sealed, and each of them after sethost."""
        name = self._host.server_id.encode("utf-8", "surrogateescape")
        requests = [(PING, b"ping\n"), (SEALED, b"encrypt:ping\n")]
        if trial.host_set:
            requests.append((INLINE, b"sethost:%s:ping\n" % name))
            requests.append((INLINE_SEALED, b"sethost:%s:encrypt:ping\n" % name))
        for probe, request in requests:
            lond.stream.deadline = monotonic() + self._host.pool.reply_timeout
            try:
                reply = describe_reply(bytes(lond.exchange(request)), self._host.server_id)
            except LondError as error:
                trial.replies[probe] = f"{error.kind}: {error}"
                self._report(f"             {probe}: {error.kind}: {error}")
                return
            trial.replies[probe] = reply
            self._report(f"             {probe}: {reply}")

    def _enforce_deadlines(self) -> None:
        """Expire the stream at its deadline, as the janitor does in the daemon."""
        while True:
            gevent.sleep(DEADLINE_CHECK)
            stream = self._stream
            if stream is not None and stream.deadline <= monotonic():
                stream.expire()


class _ReportedStream(Stream):
    """Stream that reports the lines of the handshake."""

    __slots__ = ("paused", "report")

    def __init__(self, hub: Hub, report: Callable[[str], None]) -> None:
        super().__init__(hub)
        self.report = report
        self.paused = False

    def write(self, data: bytes | bytearray, timeout: float | None = None) -> None:
        """Write, and report the lines."""
        self._show(">", bytes(data))
        super().write(data, timeout)

    def read(self) -> bytes:
        """Read, and report the lines."""
        data = super().read()
        self._show("<", data)
        return data

    def _show(self, mark: str, data: bytes) -> None:
        if self.paused:
            return
        if data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17"):
            text = f"<{len(data)} bytes of TLS>"
        elif not data:
            text = "<end of stream>"
        else:
            ours = mark == ">"
            text = " | ".join(masked(line, ours=ours) for line in data.splitlines(keepends=True))
        self.report(f"             {mark} {text}")


def _tls_changes(trial: Trial) -> list[dict[str, Any]]:
    """Return changes that may make TLS work."""
    changes: list[dict[str, Any]] = []
    if "ostname mismatch" in trial.detail or "IP address mismatch" in trial.detail:
        changes.append({"check_certificate_name": False})
    if "protocol" in trial.detail and trial.way.tls_minimum != "1.0":
        changes.append({"tls_minimum": "1.0"})
    if any(text in trial.detail for text in _AFTER_TLS) or trial.way.tls_close_notify:
        changes.append({"tls_close_notify": not trial.way.tls_close_notify})
    return changes


def _but(way: Way, **changes: Any) -> Way:
    """Return the settings with these changes."""
    known = {name: getattr(way, name) for name in Way.__dataclass_fields__}
    return Way(**{**known, **changes})
