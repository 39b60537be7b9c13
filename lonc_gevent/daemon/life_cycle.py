# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: builds all from the configuration, starts it, and stops it in order."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from functools import partial
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
from lonc_gevent.frontend.access_control import AccessControl
from lonc_gevent.frontend.clients import Clients
from lonc_gevent.frontend.listeners import prepare_directory, remove

from . import systemd
from .certificate_expiry import warn_daily
from .commands import Commands
from .directory_lock import DirectoryLock
from .drain import Drain
from .handover import VERSION, Handover, Socket
from .hosts import Hosts, limits
from .janitor import Janitor, tick_for
from .loop_watchdog import Watchdog
from .parts import Parts
from .process_limits import set_limits
from .reloads import Reloads, answer_inherited
from .signal_queue import SignalQueue
from .transfer import Transfer

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
        self.parts = Parts(logger)
        self.reloads = Reloads()
        self.hub: Hub = gevent.get_hub()
        self.signals = SignalQueue(self.hub)
        self.clients = Clients(self.hub, logger, access=AccessControl(settings.sockets, logger))
        self.pools: dict[str, Pool] = {}
        lock = LOCK_NAME if shard is None else f"{LOCK_NAME}.{shard.number}"
        self._inherited = inherited = inherited or Handover()
        wake = Event()
        self.replayer = build(
            settings,
            self.pools,
            logger,
            lock=lock,
            wake=wake.set,
            key_file=inherited.files.get(settings.delayed.key_file),
        )
        self.janitor = Janitor(
            self.pools, self.replayer, logger, tick=tick_for(limits(configuration)), wake=wake
        )
        self.hosts = Hosts(
            configuration,
            logger,
            self.pools,
            self.janitor,
            self.clients,
            self.replayer,
            parts=self.parts,
            files=inherited.files,
        )
        self.watchdog = Watchdog(logger, lambda: self.janitor.is_active)
        self.reporter = Reporter(
            self.pools,
            logger,
            Vitals(
                clients=lambda: self.clients.count,
                denied=lambda: self.clients.denied,
                dropped=partial(_lines_dropped, logs, inherited.log_lines_dropped),
                hub=self.watchdog,
                certificate_expires=self._certificate_expires,
                delayed=lambda: (self.replayer.unusable, self.replayer.unknown),
                missing=self.parts.missing,
                last_reload=lambda: self.reloads.last,
            ),
            host_id=settings.network.host_id,
            shard="" if shard is None else str(shard),
        )
        self.transfer = Transfer(
            self.hosts, self.clients, self.replayer, self.reporter, self.watchdog
        )
        self.drain = Drain(self.clients, self.hosts, self.signals, self.replayer)
        self.commands = Commands(
            config,
            logs,
            self.signals,
            self.hosts,
            self.drain,
            shard=shard,
            parts=self.parts,
            reloads=self.reloads,
            hand_over=self.hand_over,
            outline=self.outline,
        )
        self.admin = Admin(settings.admin, self.reporter, logger, reload=self.commands.reload)
        self._rehearsing = False
        self._lock: DirectoryLock | None = None
        self._pid_file_is_ours = False

    def __repr__(self) -> str:
        return f"<Daemon {self.settings.network.host_id} {len(self.pools)} hosts>"

    def run(self) -> None:
        """Serve until TERM or INT.

        Raises ConfigError and AlreadyRunningError, before anything is served.
        """
        self.signals.listen()
        try:
            self._start()
            self.commands.run()
            self._stop()
        finally:
            self._let_go()
            self.signals.close()

    def rehearse(self) -> None:
        """Do all that a start does, short of serving: in a child process of the running daemon.

        Raises ConfigError and AlreadyRunningError if a start would fail.
        """
        self._rehearsing = True
        self.signals.listen()
        try:
            self._start()
        finally:
            self._let_go()

    # -- start -------------------------------------------------------------------------------

    def _start(self) -> None:
        started = monotonic()
        inherited = self._inherited
        self.parts.required = self._rehearsing or not inherited.is_restart
        shard = None if self.shard is None else str(self.shard)
        self.log.info("starting", version=__version__, pid=os.getpid(), shard=shard)
        set_limits(core_dumps=self.settings.daemon.core_dumps)
        self._open_directory()
        gevent.spawn(warn_daily, self._certificate_expires, self.log)
        self._start_admin()
        self._remove_old_files()
        self.parts.get("daemon.pid_file", self._write_pid_file)
        if not self._rehearsing:
            gevent.spawn(self.janitor.run)
            self.replayer.start()
        self.parts.get("watchdog", self.watchdog.start)
        before = {pool.host.id for pool in inherited.pools}
        self.janitor.warm_up(pool for pool in self.pools.values() if pool.host.id not in before)
        # These objects stay: without the freeze each collection scans them, for 10 ms and more.
        gc.collect()
        gc.freeze()
        self.reporter.phase = "ready"
        self.log.info(
            "ready",
            version=__version__,
            pid=os.getpid(),
            hosts=len(self.pools),
            sockets=self.settings.sockets.directory,
            shard=shard,
            clients_kept=len(inherited.clients) or None,
            duration_ms=round((monotonic() - started) * 1000, 3),
        )
        systemd.ready(f"{len(self.pools)} hosts")
        answer_inherited(inherited.reloads)
        self._inherited = Handover()  # which has keys, requests and replies in it

    def _open_directory(self) -> None:
        """Make the pools, and the sockets of their hosts in the socket directory."""
        inherited, settings = self._inherited, self.settings
        directory = Path(settings.sockets.directory)
        if self._rehearsing and not directory.exists():  # leave no trace
            self.hosts.make_pools(inherited)
            return
        names = None if self.shard is None else self.hosts.configuration.sockets
        self.parts.get("sockets.directory", partial(prepare_directory, directory, names))
        locks = list(inherited.locks)
        self.parts.get("lock", partial(self._take_lock, directory, locks))
        self._look_at_files()
        self.transfer.restore(inherited)
        if self._rehearsing:
            self.hosts.probe_directory()
            return
        # Before a client can get con_lost: that is when it looks for the directory.
        self.replayer.prepare(self.hosts.gid)
        sockets = {Path(s.path): (s.fd, s.inode) for s in inherited.sockets}
        self.hosts.open(sockets)
        for path, (fd, inode) in sockets.items():  # of hosts that are not served any more
            remove(path, inode)
            os.close(fd)

    def _take_lock(self, directory: Path, inherited: list[int]) -> None:
        """Take the lock; the inherited descriptors are used or closed, and so only once."""
        fds = tuple(inherited)
        inherited.clear()
        self._lock = DirectoryLock(directory, self.shard, fds)

    def _start_admin(self) -> None:
        """Open the admin sockets; in a rehearsal those that the running daemon does not hold."""
        mine, theirs = self.settings.admin, self._inherited
        # TCP first: a port that is taken must not leave a socket file behind.
        if mine.listen and not (self._rehearsing and mine.listen == theirs.listen):
            self.parts.get("admin.listen", self.admin.open_tcp)
        # The rehearsal does not make the socket directory, which the admin socket may be in.
        is_missing = not Path(mine.socket).parent.exists()
        if not (self._rehearsing and (is_missing or mine.socket == theirs.admin)):
            self.parts.get("admin.socket", self.admin.open_unix, self.admin.is_lost)
        self.admin.start()

    def _remove_old_files(self) -> None:
        """Remove the files of the program before a restart that are in other places now."""
        here = (self.settings.daemon.pid_file, self.settings.admin.socket)
        for left in (self._inherited.pid_file, self._inherited.admin):
            if left and left not in here and not self._rehearsing:
                with suppress(OSError):
                    Path(left).unlink()

    def _look_at_files(self) -> None:
        """Remove left-over key files; log paths that are too open."""
        if not self._rehearsing:  # the running daemon may be using them
            with suppress(OSError):
                remove_left_over(Path(self.settings.network.key_directory))
        for opening in openings(self.hosts.configuration, self.commands.config):
            self.log.warning("too_open", key=opening.key, path=opening.path, who=opening.who)

    def _certificate_expires(self) -> float | None:
        return self.hosts.credentials.certificate_expires

    def _write_pid_file(self) -> None:
        if not self.settings.daemon.pid_file:
            return
        path = Path(self.settings.daemon.pid_file)
        try:
            if self._rehearsing:
                probe = path.with_name(f"{path.name}.rehearsal")
                write_whole(probe, f"{os.getpid()}\n")
                probe.unlink()
                return
            write_whole(path, f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigError([f"{path}: daemon.pid_file: {error.strerror}"]) from None
        self._pid_file_is_ours = True

    # -- restart in place --------------------------------------------------------------------

    def hand_over(
        self, files: dict[str, bytes], paused: tuple[str, ...], *, whole: bool
    ) -> Handover:
        """Return all that the next program in this process takes over (see commands.py)."""
        handover = Handover(
            locks=tuple(self._lock.fds) if self._lock is not None else (),
            sockets=tuple(
                Socket(str(each.path), each.sock.fileno(), each.inode)
                for each in self.clients.listeners.values()
            ),
            pid_file=self.settings.daemon.pid_file if self._pid_file_is_ours else "",
            admin=self.settings.admin.socket,
            files=files,
            reloads=self.reloads.waiting,
            paused=paused,
        )
        return self.transfer.snapshot(handover, whole=whole)

    def outline(self) -> Handover:
        """Return what a rehearsal must know of this process: no sockets, a copy of the lock."""
        missing, admin = self.parts.missing, self.settings.admin
        return Handover(
            locks=tuple(map(os.dup, self._lock.fds)) if self._lock is not None else (),
            admin="" if "admin.socket" in missing else admin.socket,
            listen="" if "admin.listen" in missing else admin.listen,
            version=VERSION,
            arguments=tuple(sys.argv[1:]),
        )

    # -- stop --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop in order, and say so."""
        timeout, started = self.settings.admin.stop_timeout, monotonic()
        self.reporter.phase = "stopping"
        systemd.stopping()
        self.reloads.answer(["the daemon stops"])
        self.log.info("stopping", clients=self.clients.count, stop_timeout_s=timeout)
        lost = self.drain.stop(timeout)
        self.watchdog.stop()  # `stopped` is the last event
        ms = round((monotonic() - started) * 1000, 3)
        self.log.info("stopped", con_lost=lost, duration_ms=ms)

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


def _lines_dropped(logs: Logs, before: int) -> int:
    return before + logs.dropped
