# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: builds all from the configuration, starts it, acts on signals, stops in order."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import gevent

from . import __version__, notify, restart
from .clients import Clients
from .configuration import load
from .control import Control, Request, hold_signals, release_signals, stacks
from .drain import Drain
from .errors import ConfigError, LoncError
from .handover import Guest, Handover, Socket, exec_again
from .hosts import Hosts, limits
from .keeper import Keeper, tick_for
from .listeners import prepare_directory, remove
from .lock import DirectoryLock
from .report import describe, text_report, write_whole
from .rules.shard import part
from .rules.wire import CON_LOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from .rules.settings import Configuration
    from .rules.shard import Shard

LAST_LINES = 1.0
"""Seconds that a slow log reader can hold up a restart in place."""

RESOLVER_THREADS = 32
"""A name server that is slow for dead hosts must not keep the others waiting."""

STDERR: Final = 2

_Found = TypeVar("_Found")


class Daemon:
    """One running lonc. `run` returns when it has stopped.

    config     the TOML file, to be read again when it is asked for
    shard      which of several processes this is, if there are several
    inherited  what this very process had before a restart in place
    flush      writes out all log lines, within so many seconds
    """

    def __init__(
        self,
        configuration: Configuration,
        logger: FilteringBoundLogger,
        config: Path,
        *,
        shard: Shard | None = None,
        inherited: Handover | None = None,
        flush: Callable[[float], object] = lambda _timeout: None,
    ) -> None:
        self.config = config
        self.shard = shard
        if shard is not None:
            configuration = part(configuration, shard)
        self.settings = settings = configuration.settings
        self.log = logger
        self.hub: Hub = gevent.get_hub()
        self.hub.threadpool.maxsize = RESOLVER_THREADS
        self.control = Control(self.hub)
        self.keeper = Keeper(logger, tick=tick_for(limits(configuration)))
        self.clients = Clients(
            self.hub,
            logger,
            allow_uids=frozenset(settings.sockets.allow_uids),
            watch=self.keeper.watch_clients,
        )
        self.keeper.tend_clients = self.clients.tend
        self.hosts = Hosts(configuration, logger, self.keeper, self.clients)
        self.pools = self.keeper.pools
        self.drain = Drain(self.clients, self.pools, self.control)
        self._inherited = inherited or Handover()
        self._flush = flush
        self._lock: DirectoryLock | None = None
        self._pid_file_is_ours = False
        self._at_work: set[Request] = set()

    def __repr__(self) -> str:
        return f"<Daemon {self.settings.network.host_id} {len(self.pools)} hosts>"

    def run(self) -> None:
        """Serve until TERM or INT.

        Raises ConfigError and AlreadyRunningError, before anything is served.
        """
        self.control.listen()
        try:
            self._start()
            self._obey()
            self._stop()
        finally:
            self._let_go()
            self.control.close()

    # -- start -------------------------------------------------------------------------------

    def _start(self) -> None:
        started = monotonic()
        inherited = self._inherited
        shard = None if self.shard is None else str(self.shard)
        self.log.info("starting", version=__version__, pid=os.getpid(), shard=shard)
        directory = Path(self.settings.sockets.directory)
        raise_descriptor_limit()
        names = None if self.shard is None else self.hosts.configuration.sockets
        prepare_directory(directory, names)
        self._lock = DirectoryLock(directory, self.shard, inherited.locks)
        sockets = {Path(s.path): (s.fd, s.inode) for s in inherited.sockets}
        self.hosts.open(sockets)
        for path, (fd, inode) in sockets.items():  # nobody's any more
            remove(path, inode)
            os.close(fd)
        self._take_over(inherited)
        self._write_pid_file()
        gevent.spawn(self.keeper.run)
        self.keeper.warm_up(self.pools.values())
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
        self._notify_ready()

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
        if inherited.pid_file not in ("", self.settings.daemon.pid_file):
            Path(inherited.pid_file).unlink(missing_ok=True)

    def _write_pid_file(self) -> None:
        if not self.settings.daemon.pid_file:
            return
        path = Path(self.settings.daemon.pid_file)
        try:
            write_whole(path, f"{os.getpid()}\n")
        except OSError as error:
            raise ConfigError([f"{path}: daemon.pid_file: {error.strerror}"]) from None
        self._pid_file_is_ours = True

    def _notify_ready(self) -> None:
        notify.ready(f"{len(self.pools)} hosts")

    # -- signals -----------------------------------------------------------------------------

    def _obey(self) -> None:
        """Act on what is asked for, until somebody asks to stop."""
        actions = {
            Request.RESTART: self._check_for_restart,
            Request.HOSTS: self._read_hosts,
            Request.STATUS: self.report_status,
            Request.STACKS: self._show_stacks,
        }
        while not self.control.stops:
            request = self.control.get()
            if not isinstance(request, Request):
                request()
            elif request is not Request.STOP:
                actions[request]()

    def reload(self) -> None:
        """Ask for what HUP does: the new code and configuration, in this process."""
        self.control.put(Request.RESTART)

    def report_status(self) -> None:
        """Log one `status` event a host, and open the gate of each that is down (USR1)."""
        for pool in self.pools.values():
            self.log.info("status", **describe(pool, self.shard))
            if pool.is_down:
                pool.gate.open()
        if self.settings.daemon.report_file:
            path = Path(self.settings.daemon.report_file)
            gevent.spawn(self._write_report, path, text_report(self.pools.values()))

    def _write_report(self, path: Path, text: str) -> None:
        try:
            self.hub.threadpool.apply(write_whole, (path, text))
        except OSError as error:
            self.log.warning("report_failed", path=str(path), error=error.strerror)

    def _show_stacks(self) -> None:
        """Write the stack of every greenlet to stderr; the reader there may take its time."""
        self.hub.threadpool.spawn(os.write, STDERR, stacks())

    # -- other hosts -------------------------------------------------------------------------

    def _read_hosts(self) -> None:
        """Read the configuration in a thread, then serve its hosts (USR2)."""
        self._in_background(Request.HOSTS, partial(_read, self.config), self._change_hosts)

    def _change_hosts(self, read: Configuration | list[str]) -> None:
        try:
            if isinstance(read, list):
                raise ConfigError(read)
            if self.shard is not None:
                read = part(read, self.shard)
            changes = self.hosts.change(read)
        except LoncError as error:
            self._refuse("hosts", str(error).splitlines())
            return
        self.log.info(
            "hosts_reloaded",
            hosts=len(self.pools),
            added=len(changes.added),
            removed=len(changes.removed),
            changed=len(changes.changed),
        )
        self._notify_ready()

    def _refuse(self, what: str, problems: list[str]) -> None:
        problems = restart.bounded(problems)
        self.log.error("reload_refused", reload=what, error=problems[0], problems=problems)

    def _in_background(
        self, request: Request, find: Callable[[], _Found], act: Callable[[_Found], None]
    ) -> None:
        """Do `find` in a thread, then `act` on what it returned here. One of a kind at a time."""
        if request in self._at_work:
            return
        self._at_work.add(request)

        def find_out() -> None:
            found = self.hub.threadpool.apply(find)
            self._at_work.discard(request)
            self.control.put(partial(act, found))

        gevent.spawn(find_out)

    # -- restart in place --------------------------------------------------------------------

    def _check_for_restart(self) -> None:
        """Let a child process see whether the new code and configuration would do (HUP)."""
        notify.reloading()
        check = partial(restart.check, self.config)
        self._in_background(Request.RESTART, check, self._restart)

    def _restart(self, problems: list[str]) -> None:
        """Start the new program in this process, unless there are problems with it."""
        if problems:
            self._refuse("restart", problems)
        else:
            timeout = self.settings.admin.stop_timeout
            self.log.info("restarting", clients=self.clients.count, stop_timeout_s=timeout)
            lost = self.drain.hold(timeout)
            if not self.control.stops:
                self._exec(lost)
            self.drain.go_on()
        self._notify_ready()

    def _exec(self, lost: int) -> None:
        """Become the new program. If that does not go, log why and return."""
        self.log.info("handing_over", clients=len(self.clients.held), con_lost=lost)
        assert self._lock is not None  # noqa: S101 - held since the start
        handover = Handover(
            locks=tuple(self._lock.fds),
            sockets=tuple(
                Socket(str(each.path), each.sock.fileno(), each.inode)
                for each in self.clients.listeners.values()
            ),
            clients=tuple(
                Guest(held.pool.host.id, held.fd, held.unread) for held in self.clients.held
            ),
            pid_file=self.settings.daemon.pid_file if self._pid_file_is_ours else "",
        )
        try:
            exec_again(handover, self._before_exec)
        except OSError as error:
            release_signals()
            self.log.error("restart_failed", error=error.strerror)  # noqa: TRY400 - no fault of ours

    def _before_exec(self) -> None:
        hold_signals()
        self._flush(LAST_LINES)

    # -- stop --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop in order, and say so."""
        timeout = self.settings.admin.stop_timeout
        started = monotonic()
        notify.stopping()
        self.log.info("stopping", clients=self.clients.count, stop_timeout_s=timeout)
        lost = self.drain.stop(timeout)
        duration = round((monotonic() - started) * 1000, 3)
        self.log.info("stopped", con_lost=lost, duration_ms=duration)

    def _let_go(self) -> None:
        """Remove what others can see of us: sockets, pid file, and last the lock."""
        self.clients.stop_listening()
        if self._pid_file_is_ours:
            with suppress(OSError):
                Path(self.settings.daemon.pid_file).unlink()
        if self._lock is not None:
            self._lock.release()


def _read(config: Path) -> Configuration | list[str]:
    """Read the configuration, or return what is wrong with it."""
    try:
        return load(config, to_run=True)
    except ConfigError as error:
        return list(error.problems)


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us have; each client needs one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
