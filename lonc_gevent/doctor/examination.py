# SPDX-License-Identifier: GPL-2.0-or-later
"""Examines a real lond step by step with several settings, and reports the results.

Uses the daemon's own code for dialling and handshakes, on connections of its own. The report shows
the lines sent and received, with secrets masked (doctor/diagnosis.py).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

import gevent
import msgspec

from lonc_gevent.backend.connect import connect
from lonc_gevent.backend.dial import candidates, dial
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.configuration.certificates import check_dates, faults_of
from lonc_gevent.configuration.machine import foreign_lond
from lonc_gevent.errors import ConfigError, LondError
from lonc_gevent.eventloop import Stream

from .changes import but, changes
from .diagnosis import (
    INLINE,
    INLINE_SEALED,
    PING,
    SEALED,
    Trial,
    Way,
    conclude,
    describe_reply,
)
from .watched import ReportedStream, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lonc_gevent.backend.lond import Lond
    from lonc_gevent.configuration.settings import Configuration, HostSettings

DEADLINE_CHECK = 0.02
"""Seconds between two checks of the deadline."""

MAX_CLIENT_IDS = 20
"""Other host ids that are tried as client_id."""


PATIENCE = 4
"""Factor of the timeouts when a lond that did not answer in time is tried again."""

MAX_CHANGES = 4
"""Settings that are changed together."""


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
        self._limits = (host.pool.handshake_timeout, host.pool.reply_timeout)
        self.configured: Trial | None = None
        self.others: list[Trial] = []
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
            self.configured = configured = self._try(way, "as configured")
            self.others.extend(self._try_others(configured))
            certificates = list(self._certificates([configured, *self.others]))
        finally:
            deadlines.kill()
        return self._conclude(configured, self.others, certificates)

    def _certificates(self, trials: Sequence[Trial]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the certificates or the key file, if they are in use."""
        network = self._network
        if trials[0].way.security == "local" and (found := foreign_lond(self._host.port)):
            yield "hosts.ID.security", f"{found}: with local, it cannot read our key file"
        used = [trial for trial in trials if trial.way.security.startswith("ssl")]
        if not used or self._why_not("ssl"):
            return
        with suppress(OSError):
            ours, ca = (Path(p).read_bytes() for p in (network.certificate, network.ca_certificate))
            for fault in check_dates(ours, ca, time()):
                yield fault.key, fault.found
        theirs = next((trial.certificate for trial in used if trial.certificate), b"")
        failed = next((trial for trial in used if trial.has_bad_certificate), None)
        if not theirs and failed is not None:
            way = but(failed.way, check_certificate=False)
            theirs = self._try(way, "only to look at lond's certificate").certificate
        for text in faults_of(theirs, time()) if theirs else ():
            yield "", f"lond's certificate {text}"

    def _conclude(
        self,
        configured: Trial,
        others: Sequence[Trial],
        certificates: Iterable[tuple[str, str]] = (),
    ) -> bool:
        self._report("")
        well = True
        for finding in conclude(configured, others, self._limits, certificates):
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
        if configured.timed_out:
            patient = self._try(but(configured.way, patience=PATIENCE), "with more time")
            yield patient
            if patient.works:
                configured = patient
        if not configured.works:
            yield from self._correct(configured)
        for security in ("ssl", "local", "insecure"):
            if security != configured.way.security:
                way = but(configured.way, security=security, negotiation="auto")
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
            for change in changes(trial, self._our_other_ids()):
                corrected = self._try(but(trial.way, **change))
                yield corrected
                if corrected.works:
                    return
                if (corrected.error, corrected.detail) != (trial.error, trial.detail):
                    trial = corrected
                    break
            else:
                return

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
            return foreign_lond(self._host.port)
        return ""

    # -- one trial ---------------------------------------------------------------------------

    def _try(self, way: Way, remark: str = "") -> Trial:
        """Connect with these settings, and try whether requests are answered."""
        shown = [way.security, way.negotiation]
        shown += [f"init_version {way.init_version}"] if way.init_version else []
        shown += [f"client_id {way.client_id}"] if way.client_id != self._host.client_id else []
        shown += ["tls_close_notify"] if way.tls_close_notify else []
        shown += ["any certificate name"] if not way.check_certificate_name else []
        shown += [f"TLS from {way.tls_minimum}"] if way.tls_minimum != "1.2" else []
        self._report(f"init         {', '.join(shown)}{' (' + remark + ')' if remark else ''}")
        trial = Trial(way)
        host = msgspec.structs.replace(
            self._host,
            security=way.security,
            negotiation=way.negotiation,
            init_version=way.init_version,
            client_id=way.client_id,
            pool=msgspec.structs.replace(
                self._host.pool,
                handshake_timeout=self._host.pool.handshake_timeout * way.patience,
            ),
        )
        self._stream = stream = ReportedStream(self._hub, self._report)
        try:
            started = monotonic()
            lond = self._connect(host, trial, stream)
            trial.handshake_s = monotonic() - started
            self._report(f"             connected in {trial.handshake_s * 1000:.0f} ms")
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

    def _connect(self, host: HostSettings, trial: Trial, stream: ReportedStream) -> Lond:
        way = trial.way
        credentials = Credentials(key_directory=self._network.key_directory)
        if way.security.startswith("ssl"):
            network = msgspec.structs.replace(
                self._network,
                tls_close_notify=way.tls_close_notify,
                tls_minimum=way.tls_minimum,
                check_certificate_name=way.check_certificate_name,
            )
            credentials.load(network)
            if credentials.context is not None:
                watch(credentials.context, trial)
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
            started = monotonic()
            timeout = self._host.pool.reply_timeout * trial.way.patience
            lond.stream.deadline = started + timeout
            try:
                reply = describe_reply(bytes(lond.exchange(request)), self._host.server_id)
                trial.reply_s = max(trial.reply_s, monotonic() - started)
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
