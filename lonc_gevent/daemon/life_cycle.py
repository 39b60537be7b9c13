# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: builds all from the configuration, starts it, and stops it in order."""

from __future__ import annotations

import gc
import os
import resource
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from lonc_gevent import __version__
from lonc_gevent.admin.report import write_whole
from lonc_gevent.admin.reporter import Reporter, Vitals
from lonc_gevent.admin.server import Admin
from lonc_gevent.backend.local_key import remove_left_over
from lonc_gevent.configuration.permissions import openings
from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.configuration.shard import part
from lonc_gevent.delayed.replayer import build
from lonc_gevent.errors import ConfigError
from lonc_gevent.frontend.access_control import Door
from lonc_gevent.frontend.clients import Clients
from lonc_gevent.frontend.listeners import prepare_directory, remove
from lonc_gevent.protocol.lines import CON_LOST

from . import systemd
from .certificate_expiry import warn_daily
from .commands import Orders
from .directory_lock import DirectoryLock
from .drain import Drain
from .handover import Guest, Handover, Socket
from .hosts import Hosts, group_id, limits
from .janitor import Janitor, tick_for
from .loop_watchdog import Watchdog
from .signal_queue import Control, Request

if TYPE_CHECKING:
    from gevent.hub import Hub

    from lonc_gevent.backend.pool import Pool
    from lonc_gevent.configuration.settings import Configuration
    from lonc_gevent.configuration.shard import Shard
    from lonc_gevent.logs import Logs


class Daemon:
    """One running lonc. `run` returns when it has stopped.

    config     the TOML file, to be read again when it is asked for
    shard      which of several processes this is, if there are several
    inherited  what this very process had before a restart in place
    """

    def __init__(
        self,
        configuration: Configuration,
        logs: Logs,
        config: Path,
        *,
        shard: Shard | None = None,
        inherited: Handover | None = None,
    ) -> None:
        if shard is not None:
            configuration = part(configuration, shard)
        self.shard = shard
        self.settings = settings = configuration.settings
        self.log = logger = logs.logger
        self.hub: Hub = gevent.get_hub()
        self.control = Control(self.hub)
        self.clients = Clients(self.hub, logger, door=Door(settings.sockets, logger))
        self.pools: dict[str, Pool] = {}
        lock = LOCK_NAME if shard is None else f"{LOCK_NAME}.{shard.number}"
        wake = Event()
        self.replayer = build(settings, self.pools, logger, lock=lock, wake=wake.set)
        self.janitor = Janitor(
            self.pools, self.replayer, logger, tick=tick_for(limits(configuration)), wake=wake
        )
        self.hosts = Hosts(
            configuration, logger, self.pools, self.janitor, self.clients, self.replayer
        )
        self.watchdog = Watchdog(logger, lambda: self.janitor.is_active)
        self.reporter = Reporter(
            self.pools,
            logger,
            Vitals(
                clients=lambda: self.clients.count,
                dropped=lambda: logs.dropped,
                hub=self.watchdog,
                certificate_expires=self._certificate_expires,
                delayed_error=lambda: self.replayer.unusable,
            ),
            host_id=settings.network.host_id,
            shard="" if shard is None else str(shard),
        )
        self.admin = Admin(settings.admin, self.reporter, logger, reload=self.reload)
        self.drain = Drain(self.clients, self.hosts, self.control, self.replayer)
        self.orders = Orders(
            config,
            logs,
            self.control,
            self.hosts,
            self.drain,
            shard=shard,
            hand_over=self.hand_over,
        )
        self._inherited = inherited or Handover()
        self._lock: DirectoryLock | None = None
        self._pid_file_is_ours = False

    def __repr__(self) -> str:
        return f"<Daemon {self.settings.network.host_id} {len(self.pools)} hosts>"

    def run(self) -> None:
        """Serve until TERM or INT.

        Raises ConfigError and AlreadyRunningError, before anything is served.
        """
        self.control.listen()
        try:
            self._start()
            self.orders.obey()
            self._stop()
        finally:
            self._let_go()
            self.control.close()

    def reload(self) -> None:
        """Ask for what HUP does: the new code and configuration, in this process."""
        self.control.put(Request.RESTART)

    # -- start -------------------------------------------------------------------------------

    def _start(self) -> None:
        started = monotonic()
        inherited = self._inherited
        shard = None if self.shard is None else str(self.shard)
        self.log.info("starting", version=__version__, pid=os.getpid(), shard=shard)
        directory = Path(self.settings.sockets.directory)
        raise_descriptor_limit()
        if not self.settings.daemon.core_dumps:
            forbid_core_dumps()
        names = None if self.shard is None else self.hosts.configuration.sockets
        prepare_directory(directory, names)
        self._lock = DirectoryLock(directory, self.shard, inherited.locks)
        self._look_at_files()
        # Before anybody can be told con_lost: that is when a web process looks for it.
        self.replayer.prepare(group_id(self.settings.sockets.group))
        sockets = {Path(s.path): (s.fd, s.inode) for s in inherited.sockets}
        self.hosts.open(sockets)
        gevent.spawn(warn_daily, self._certificate_expires, self.log)
        for path, (fd, inode) in sockets.items():  # nobody's any more
            remove(path, inode)
            os.close(fd)
        self.admin.start()
        self._take_over(inherited)
        self._write_pid_file()
        gevent.spawn(self.janitor.run)
        self.watchdog.start()
        self.janitor.warm_up(self.pools.values())
        self.replayer.start()
        # What is there now stays for years: the collector need not look through it, for 10 ms and
        # more, each time that it looks for what can go.
        gc.collect()
        gc.freeze()
        self.reporter.phase = "ready"
        self.log.info(
            "ready",
            version=__version__,
            pid=os.getpid(),
            hosts=len(self.pools),
            sockets=str(directory),
            shard=shard,
            clients_kept=len(inherited.clients) or None,
            duration_ms=round((monotonic() - started) * 1000, 3),
        )
        systemd.ready(f"{len(self.pools)} hosts")

    def _take_over(self, inherited: Handover) -> None:
        """Serve the clients that were connected before a restart, if their hosts are still here."""
        for guest in inherited.clients:
            pool = self.pools.get(guest.host)
            if pool is not None:
                self.clients.adopt(pool, guest.fd, guest.unread)
                continue
            with suppress(OSError):  # it may be gone, too
                if guest.unread:
                    os.write(guest.fd, CON_LOST)
            os.close(guest.fd)
        here = (self.settings.daemon.pid_file, self.settings.admin.socket)
        for left in (inherited.pid_file, inherited.admin):
            if left and left not in here:
                Path(left).unlink(missing_ok=True)

    def _look_at_files(self) -> None:
        """Remove what was left over; warn of what is not as it should be."""
        remove_left_over(Path(self.settings.network.key_directory))
        for opening in openings(self.hosts.configuration, self.orders.config):
            self.log.warning("too_open", **opening._asdict())

    def _certificate_expires(self) -> float | None:
        return self.hosts.credentials.certificate_expires

    def _write_pid_file(self) -> None:
        if not self.settings.daemon.pid_file:
            return
        path = Path(self.settings.daemon.pid_file)
        try:
            write_whole(path, f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigError([f"{path}: daemon.pid_file: {error.strerror}"]) from None
        self._pid_file_is_ours = True

    # -- restart in place --------------------------------------------------------------------

    def hand_over(self) -> Handover:
        """Return all that the next program in this process takes up (see orders.py)."""
        return Handover(
            locks=tuple(self._lock.fds) if self._lock is not None else (),
            sockets=tuple(
                Socket(str(each.path), each.sock.fileno(), each.inode)
                for each in self.clients.listeners.values()
            ),
            clients=tuple(
                Guest(held.pool.host.id, held.fd, held.unread) for held in self.clients.held
            ),
            pid_file=self.settings.daemon.pid_file if self._pid_file_is_ours else "",
            admin=self.settings.admin.socket,
        )

    # -- stop --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop in order, and say so."""
        timeout = self.settings.admin.stop_timeout
        started = monotonic()
        self.reporter.phase = "stopping"
        systemd.stopping()
        self.log.info("stopping", clients=self.clients.count, stop_timeout_s=timeout)
        lost = self.drain.stop(timeout)
        self.watchdog.stop()  # `stopped` is the last event
        duration = round((monotonic() - started) * 1000, 3)
        self.log.info("stopped", con_lost=lost, duration_ms=duration)

    def _let_go(self) -> None:
        """Remove what others can see of us: sockets, pid file, and last the lock."""
        self.watchdog.stop()
        self.clients.stop_listening()
        self.admin.close()
        if self._pid_file_is_ours:
            with suppress(OSError):
                Path(self.settings.daemon.pid_file).unlink()
        if self._lock is not None:
            self._lock.release()


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us have; each client needs one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_core_dumps() -> None:
    """Let the kernel write no core file: all keys and requests of the moment would be in it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
