# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: builds all from the configuration, starts it, acts on signals, stops in order."""

from __future__ import annotations

import grp
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent
from gevent.queue import SimpleQueue

from . import __version__
from .admin import Admin
from .clients import Clients
from .delayed.replayer import Replayer, build
from .errors import ConfigError
from .keeper import Keeper, tick_for
from .listeners import DirectoryLock, prepare_directory
from .pool import Pool
from .status import Reporter
from .transaction import QueueBudget
from .watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub
    from structlog.typing import FilteringBoundLogger

    from .rules.settings import Configuration

STOP, STATUS = "stop", "status"
"""What a signal can ask for. The handlers only say so; the control greenlet acts."""

SIGNALS: Final = {signal.SIGTERM: STOP, signal.SIGINT: STOP, signal.SIGUSR1: STATUS}

STOP_POLL = 0.01
"""Seconds between two looks at what is still under way, while stopping."""

LAST_WORDS = 0.5
"""Seconds that clients have to take their con_lost, after `stop_timeout`."""

RESOLVER_THREADS = 32
"""A name server that is slow for dead hosts must not keep the others waiting."""


class Daemon:
    """One running lonc. `run` returns when it has stopped.

    dropped  tells how many log lines were lost
    """

    def __init__(
        self,
        configuration: Configuration,
        logger: FilteringBoundLogger,
        *,
        dropped: Callable[[], int] = int,
    ) -> None:
        self.configuration = configuration
        self.settings = settings = configuration.settings
        self.log = logger
        self.hub: Hub = gevent.get_hub()
        self.hub.threadpool.maxsize = RESOLVER_THREADS
        self.budget = QueueBudget(settings.pool.max_queued_bytes)
        self.keeper = Keeper(logger, tick=tick_for(_limits(configuration)))
        self.clients = Clients(
            self.hub,
            logger,
            allow_uids=frozenset(settings.sockets.allow_uids),
            watch=self.keeper.watch_clients,
        )
        self.keeper.tend_clients = self.clients.tend
        self.pools = self.keeper.pools
        self.watchdog = Watchdog(logger, lambda: self.keeper.awake)
        self.reporter = Reporter(
            self.pools,
            logger,
            host_id=settings.network.host_id,
            clients=lambda: self.clients.count,
            dropped=dropped,
        )
        self.admin = Admin(settings.admin, self.reporter, logger, reload=self.reload)
        self._control: SimpleQueue[str] = SimpleQueue()
        self._lock: DirectoryLock | None = None
        self._pid_file_is_ours = False
        self.replayer: Replayer | None = None

    def __repr__(self) -> str:
        return f"<Daemon {self.settings.network.host_id} {len(self.pools)} hosts>"

    def run(self) -> None:
        """Serve until TERM or INT.

        Raises ConfigError and AlreadyRunningError, before anything is served.
        """
        watchers = [self.hub.loop.signal(number) for number in SIGNALS]
        for watcher, request in zip(watchers, SIGNALS.values(), strict=True):
            watcher.start(self._control.put, request)
        try:
            self._start()
            self._obey()
            self._stop()
        finally:
            self._let_go()
            # Whoever asks once more must not spoil the exit code of a stop that is done.
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    # -- start -------------------------------------------------------------------------------

    def _start(self) -> None:
        started = monotonic()
        self.log.info("starting", version=__version__, pid=os.getpid())
        directory = Path(self.settings.sockets.directory)
        raise_descriptor_limit()
        prepare_directory(directory)
        self._lock = DirectoryLock(directory)
        gid = group_id(self.settings.sockets.group)
        mode = int(self.settings.sockets.mode, 8)
        self.replayer = build(self.settings, self.pools, self.log, gid=gid)
        self.replayer.known = self.configuration.known
        for host in self.configuration.hosts:
            pool = Pool(
                host,
                self.hub,
                self.log,
                budget=self.budget,
                watch=self.keeper.watch,
                sample=self.settings.log.sample,
            )
            pool.came_back = self.replayer.came_back
            self.pools[host.id] = pool
        for name, host_id in self.configuration.sockets.items():
            self.clients.listen(directory / name, self.pools[host_id], mode=mode, gid=gid)
        self.admin.start()
        self._write_pid_file()
        gevent.spawn(self.keeper.run)
        self.watchdog.start()
        self.keeper.warm_up(self.pools.values())
        self.replayer.start()
        self.reporter.phase = "ready"
        self.log.info(
            "ready",
            version=__version__,
            pid=os.getpid(),
            hosts=len(self.pools),
            sockets=str(directory),
            duration_ms=round((monotonic() - started) * 1000, 3),
        )

    def _write_pid_file(self) -> None:
        if not self.settings.daemon.pid_file:
            return
        path = Path(self.settings.daemon.pid_file)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            temporary.write_text(f"{os.getpid()}\n")
            temporary.replace(path)
        except OSError as error:
            raise ConfigError([f"{path}: daemon.pid_file: {error.strerror}"]) from None
        self._pid_file_is_ours = True

    # -- signals -----------------------------------------------------------------------------

    def _obey(self) -> None:
        """Act on what the signals ask for, until one asks to stop."""
        while True:
            request = self._control.get()
            if request == STOP:
                return
            self.report_status()

    def report_status(self) -> None:
        """Log one `status` event a host, and open the gate of each that is down (USR1)."""
        for pool in self.pools.values():
            self.log.info("status", **describe(pool))
            if pool.is_down:
                pool.gate.open()

    def reload(self) -> None:
        """Do as HUP: read code and configuration again (`POST /reload`)."""
        os.kill(os.getpid(), signal.SIGHUP)

    # -- stop --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop in order: no new clients, what is under way finishes, all else gets con_lost."""
        timeout = self.settings.admin.stop_timeout
        started = monotonic()
        self.reporter.phase = "stopping"
        self.log.info("stopping", clients=self.clients.count, stop_timeout_s=timeout)
        if self.replayer is not None:
            self.replayer.stop()
        self.clients.stop_listening()
        for pool in self.pools.values():
            pool.stop()
        self._wait_until_answered(started + timeout)
        killed = sum(pool.busy for pool in self.pools.values())
        for pool in self.pools.values():
            pool.kill()
        self._wait_until_answered(monotonic() + LAST_WORDS)
        if self.replayer is not None:
            self.replayer.close()
        self.clients.close()
        gevent.sleep(0)
        self.watchdog.stop()  # `stopped` is the last event
        self.log.info(
            "stopped",
            con_lost=killed,
            duration_ms=round((monotonic() - started) * 1000, 3),
        )

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

    def _wait_until_answered(self, deadline: float) -> None:
        """Wait until no transaction is under way and each client has its reply."""
        while monotonic() < deadline:
            gevent.sleep(0)
            if self._control.qsize():  # a second TERM or INT: at once
                return
            if not self.clients.answering and not any(pool.busy for pool in self.pools.values()):
                return
            gevent.sleep(STOP_POLL)


def describe(pool: Pool) -> dict[str, object]:
    """Return the fields of a host's `status` event."""
    states = [connection.state for connection in pool.connections]
    return {
        "host": pool.host.id,
        "state": pool.state.value,
        "connections": len(states),
        "idle": states.count("idle"),
        "busy": states.count("busy"),
        "queue": len(pool.queue),
        "oldest_wait_ms": round(max(monotonic() - pool.queue.oldest_since, 0.0) * 1000, 3),
        "requests": pool.stats.ok + pool.stats.con_lost,
        "con_lost": pool.stats.con_lost,
        "error": pool.last_error or None,
    }


def group_id(name: str) -> int:
    """Return the group's number, -1 for no name. Raises ConfigError if there is none."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError([f"sockets.group: no group {name!r} on this machine"]) from None


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us have; each client needs one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limits(configuration: Configuration) -> list[float]:
    """Return the shortest of the times that the keeper enforces, for each host."""
    return [
        min(
            host.pool.connect_timeout,
            host.pool.handshake_timeout,
            host.pool.reply_timeout,
            host.pool.queue_timeout,
            host.pool.idle_timeout,
        )
        for host in configuration.hosts
    ]
