# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts that are served: their pools and sockets, and their change by a reload."""

from __future__ import annotations

import grp
import os
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from lonc_gevent.backend.pool import Pool
from lonc_gevent.backend.pool_state import PoolState
from lonc_gevent.backend.tls import Credentials, credentials_for, needs_certificates
from lonc_gevent.backend.transaction import QueueBudget
from lonc_gevent.configuration.cross_checks import UNIX_PATH_MAX, common_parent_name
from lonc_gevent.configuration.host_changes import compare
from lonc_gevent.errors import ConfigError, LoncError
from lonc_gevent.eventloop import MemoryBudget
from lonc_gevent.frontend.listeners import listen

from .common_parent import CommonParent
from .janitor import tick_for
from .process_limits import descriptor_limit, max_clients, memory_limit
from .requirements import accepted_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.backend.transaction import Transaction
    from lonc_gevent.configuration.host_changes import HostChanges
    from lonc_gevent.configuration.settings import Configuration, HostSettings
    from lonc_gevent.delayed.replayer import Replayer
    from lonc_gevent.frontend.clients import Clients
    from lonc_gevent.frontend.listeners import Listener

    from .handover import Handover
    from .janitor import Janitor
    from .parts import Parts

COMMON_PARENT: Final = ""
"""In place of a host id: the socket of common_parent.py."""


class Hosts:
    """All pools, and the sockets that belong to them.

    `change` replaces the hosts and their settings. The directory, mode, group and access control of
    the sockets stay as they were at the start.
    """

    def __init__(  # noqa: PLR0913 - collaborators, each used
        self,
        configuration: Configuration,
        logger: FilteringBoundLogger,
        pools: dict[str, Pool],
        janitor: Janitor,
        clients: Clients,
        replayer: Replayer,
        *,
        parts: Parts,
        files: dict[str, bytes],
    ) -> None:
        self.parts = parts
        self.files = files
        self.configuration = configuration
        self.replayer = replayer
        self.credentials = Credentials()
        replayer.known = configuration.known
        self.log = logger
        self.janitor = janitor
        self.clients = clients
        self.pools = pools
        pool = configuration.settings.pool
        limit = pool.max_bytes_in_flight or memory_limit() // 2
        clients.memory.limit = limit // 2
        self.budget = QueueBudget(pool.max_queued_bytes, MemoryBudget(limit // 2))
        settings = configuration.settings.sockets
        self._directory = Path(settings.directory)
        self._mode = int(settings.mode, 8)
        self.gid = -1
        self._leaving: list[Pool] = []
        self._common_parent = CommonParent(lambda: self.configuration, clients.access)

    def __repr__(self) -> str:
        return f"<Hosts {len(self.pools)} on {len(self.clients.listeners)} sockets>"

    def all_pools(self) -> list[Pool]:
        """Return all pools, also those of removed hosts that still have connections."""
        self._leaving = [pool for pool in self._leaving if pool.connections]
        return [*self.pools.values(), *self._leaving]

    @property
    def paused(self) -> tuple[str, ...]:
        """The ids of the hosts that an operator has paused."""
        return tuple(host for host, pool in self.pools.items() if pool.state is PoolState.PAUSED)

    def make_pools(self, inherited: Handover) -> dict[int, tuple[Pool, Transaction]]:
        """Make all pools; return the inherited transactions by their owners, with their pools.

        Raises ConfigError while parts are required.
        """
        self.parts.get("sockets.group", self._find_group)
        self.parts.get("certificates", self._load_credentials)
        owned = {}
        fingerprint = self.credentials.fingerprint
        renewed = fingerprint not in ("", inherited.credentials)
        hosts = {host.id: host for host in self.configuration.hosts}
        pause = monotonic() - inherited.at
        for state in inherited.pools:
            pool = self._new_pool(state.host)
            for owner, transaction in pool.restore(state, pause).items():
                owned[owner] = (pool, transaction)
            host = None if state.is_leaving else hosts.get(pool.host.id)
            if host is None:
                self._leaving.append(pool)
                pool.stop()
            else:
                self.pools[host.id] = pool
                changed = bool(compare([pool.host], [host]).changed)
                reconnect = changed or (renewed and needs_certificates(host))
                pool.reconfigure(host, self.credentials, reconnect=reconnect)
        for host in self.configuration.hosts:
            if host.id not in self.pools:
                self._add(host)
        for host_id in inherited.paused:
            if host_id in self.pools:
                self.pools[host_id].pause()
        self.janitor.follow_names(self.configuration.settings.network.resolve_interval)
        self.janitor.checks += [self.check_sockets, self.parts.check]
        return owned

    def _find_group(self) -> None:
        self.gid = group_id(self.configuration.settings.sockets.group)

    def _load_credentials(self) -> None:
        files, self.files = self.files, {}  # for the first attempt
        with accepted_files(self.configuration, files) as configuration:
            self.credentials = credentials_for(configuration)
        for pool in self.pools.values():
            pool.reconfigure(pool.host, self.credentials, reconnect=False)

    def open(self, inherited: dict[Path, tuple[int, int]]) -> None:
        """Open all sockets that are not open; the `inherited` ones are taken over.

        inherited: path -> descriptor and inode, from before a restart in place; those that are
        used are removed from it. A socket that cannot be opened disables its own host only, and is
        tried again; at a first start it raises ConfigError or AlreadyRunningError.
        """
        self.clients.max_clients = max_clients(self.configuration, descriptor_limit())
        for name, host_id in names_of(self.configuration).items():
            if self._path(name) in self._listeners:
                continue
            try:
                self._listen(name, host_id, inherited)
            except (OSError, LoncError) as error:
                if self.parts.required:
                    raise
                self._listen_later(name, host_id, error)

    def _listen_later(self, name: str, host_id: str, error: OSError | LoncError) -> None:
        self.log.error("socket_failed", host=host_id, error=str(error))
        self.parts.try_again(f"socket {name}", str(error), partial(self._listen_again, name))

    def _listen_again(self, name: str) -> None:
        """Open a socket that could not be opened, if it is still configured and not yet open."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        host_id = names_of(self.configuration).get(name)
        if host_id is not None and self._path(name) not in self._listeners:
            self._listen(name, host_id, {})

    def check_sockets(self) -> None:
        """Open each socket anew whose file was removed or replaced, or else try again later.

        Connected clients are served on.
        """
        if self.clients.holding or self.clients.draining:
            return
        try:
            found = {entry.name: entry.inode() for entry in os.scandir(self._directory)}
        except FileNotFoundError:
            found = {}
        except OSError:  # such as no descriptor
            return
        for path, listener in tuple(self._listeners.items()):
            if found.get(path.name) != listener.inode:
                host_id = names_of(self.configuration)[path.name]
                self.log.error("socket_lost", host=host_id, path=str(path))
                self.clients.close_listener(path)
                try:
                    self._listen_again(path.name)
                except (OSError, LoncError) as error:
                    self._listen_later(path.name, host_id, error)

    def probe_directory(self) -> None:
        """Make a socket in the directory as for a host, and remove it. Raises ConfigError."""
        path = self._path(f".lonc.rehearsal.{os.getpid()}")
        if len(os.fsencode(path)) > UNIX_PATH_MAX:
            return
        listen(path, self._mode, self.gid).close()
        path.unlink(missing_ok=True)

    def change(self, configuration: Configuration) -> HostChanges:
        """Serve the hosts of another configuration.

        New hosts get pools and sockets. Removed ones take no more requests: queued ones get
        con_lost, those in progress finish. Hosts with other settings get new connections and keep
        their queues; so do hosts with ssl after a change of the certificates.

        Raises ConfigError, before anything is changed, if the certificates cannot be used.
        """
        changes = compare((pool.host for pool in self.pools.values()), configuration.hosts)
        credentials = credentials_for(configuration)
        for host in changes.added:
            self._add(host)
        self._close_old(configuration)
        self.configuration = configuration
        self.open({})
        for host_id in changes.removed:
            pool = self.pools.pop(host_id)
            self._leaving.append(pool)
            pool.stop()
        renewed = credentials.origin != self.credentials.origin
        self.credentials = credentials
        changed = {host.id for host in changes.changed}
        for host in configuration.hosts:
            pool = self.pools[host.id]
            reconnect = host.id in changed or (renewed and needs_certificates(host))
            pool.reconfigure(host, credentials, reconnect=reconnect)
        self.replayer.known = configuration.known
        self.janitor.tick = tick_for(limits(configuration))
        self.janitor.follow_names(configuration.settings.network.resolve_interval)
        self.janitor.warm_up(self.pools[host.id] for host in (*changes.added, *changes.changed))
        return changes

    def _close_old(self, configuration: Configuration) -> None:
        """Close the sockets that are not configured any more; the others may change their host."""
        hosts = {self._path(name): host_id for name, host_id in names_of(configuration).items()}
        for path, listener in tuple(self._listeners.items()):
            if path in hosts:
                listener.acceptor.on_accept = self._on_accept(hosts[path])
            else:
                self.clients.close_listener(path)

    @property
    def _listeners(self) -> dict[Path, Listener]:
        return self.clients.listeners

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _add(self, host: HostSettings) -> None:
        self.pools[host.id] = self._new_pool(host)

    def _new_pool(self, host: HostSettings) -> Pool:
        return Pool(
            host,
            self.clients.hub,
            self.log,
            credentials=self.credentials,
            budget=self.budget,
            schedule=self.janitor.schedule,
            on_up=self.replayer.host_up,
            sample=self.configuration.settings.log.sample,
        )

    def _listen(self, name: str, host_id: str, inherited: dict[Path, tuple[int, int]]) -> None:
        path = self._path(name)
        self.clients.listen(
            path,
            self._on_accept(host_id),
            mode=self._mode,
            gid=self.gid,
            inherited=inherited.pop(path, None),
        )

    def _on_accept(self, host_id: str) -> Callable[[int], None]:
        if host_id == COMMON_PARENT:
            return self._common_parent.accept
        return partial(self.clients.serve, self.pools[host_id])


def names_of(configuration: Configuration) -> dict[str, str]:
    """Return the names of all sockets, each with its host id, or COMMON_PARENT."""
    name = common_parent_name(configuration.settings)
    return configuration.sockets | ({name: COMMON_PARENT} if name else {})


def group_id(name: str) -> int:
    """Return the group's number, -1 for no name. Raises ConfigError if there is none."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError([f"sockets.group: no group {name!r} on this machine"]) from None


def limits(configuration: Configuration) -> list[float]:
    """Return the shortest of the times that the janitor enforces, for each host."""
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
