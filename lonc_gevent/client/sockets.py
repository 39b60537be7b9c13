# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of a daemon's sockets, and the other paths that a web process needs.

The directory is enough where sockets are named by host id, which is the default. Other settings
(names by DNS, another delayed directory, the pid file) are read from the daemon's TOML file. Only
that imports anything outside the standard library.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lonc_gevent.configuration.names import is_host_id
from lonc_gevent.errors import ConfigError
from lonc_gevent.perm_log import PermLog, perm_log_of

from .errors import UnknownHostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lonc_gevent.configuration.settings import Configuration

CONFIG_VARIABLE = "LONC_CONFIG"
"""The environment variable that names the TOML file."""


class Sockets:
    """The sockets of one daemon, in `directory`.

    delayed   the delayed directory; left out: `delayed` in `directory`
    pid_file  the daemon's pid file, for `critical`; None: not known
    perm_log  lonnet.perm.log, for `critical`; None: nothing is recorded
    names     host id -> file name in `directory`; None: the name is the id
    """

    __slots__ = ("_names", "delayed", "directory", "log", "perm_log", "pid_file")

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        delayed: str | os.PathLike[str] | None = None,
        pid_file: str | os.PathLike[str] | None = None,
        perm_log: str | os.PathLike[str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = os.fspath(directory)
        self.delayed = Path(directory, "delayed") if delayed is None else Path(delayed)
        self.pid_file = None if pid_file is None else Path(pid_file)
        self.perm_log = None if perm_log is None else Path(perm_log)
        self.log = PermLog("" if perm_log is None else os.fspath(perm_log))
        self._names = names

    def __repr__(self) -> str:
        return f"<Sockets {self.directory}>"

    @classmethod
    def of(cls, configuration: Configuration) -> Sockets:
        """Return the sockets that a configuration names."""
        settings = configuration.settings
        names: dict[str, str] = {}
        for name, host in configuration.sockets.items():
            names.setdefault(host, name)
        place = cls(
            settings.sockets.directory,
            delayed=settings.delayed.directory,
            pid_file=settings.daemon.pid_file or None,
            perm_log=settings.delayed.perm_log or None,
            names=names,
        )
        place.log = perm_log_of(settings)
        return place

    @classmethod
    def read(cls, config: str | os.PathLike[str]) -> Sockets:
        """Return the sockets that the daemon's TOML file names. Raises ConfigError."""
        # Not at the top: only reading a TOML file needs msgspec.
        from lonc_gevent.configuration.files import load  # noqa: PLC0415

        return cls.of(load(Path(config)))

    @classmethod
    def default(cls) -> Sockets:
        """Return the sockets of the TOML file that the environment's LONC_CONFIG names.

        The file is read again when it, its hosts.tab or dns_hosts.tab has changed. Raises
        ConfigError.
        """
        config = os.environ.get(CONFIG_VARIABLE, "")
        if not config:
            raise ConfigError([f"set {CONFIG_VARIABLE} to lonc's TOML file, or give `sockets`"])
        stamp = _stamp(config)
        return _read(config, stamp, *map(_stamp, _hosts_tabs(config, stamp)))

    @property
    def hosts(self) -> tuple[str, ...]:
        """Ids of all hosts, in the order of hosts.tab; () if only the directory is known."""
        return tuple(self._names or ())

    def path_of(self, host: str) -> str:
        """Return the path of a host's socket. Raises UnknownHostError if it has none."""
        name: str | None = host
        if self._names is not None:
            name = self._names.get(host)
        elif not is_host_id(host):
            name = None
        if name is None:
            raise UnknownHostError(
                repr(host), f"{self.directory}/?", "the daemon does not serve this host"
            )
        return f"{self.directory}/{name}"


Where: TypeAlias = Sockets | str | os.PathLike[str] | None
"""Values of `sockets=`: a directory, a Sockets, or None for the file named by LONC_CONFIG."""


def find(sockets: Where) -> Sockets:
    """Return the Sockets for a value of `sockets=`. Raises ConfigError if reading it fails."""
    if isinstance(sockets, Sockets):
        return sockets
    return Sockets.default() if sockets is None else Sockets(sockets)


def _stamp(path: str) -> tuple[int, int, int]:
    """Return values that change when the file is replaced or written."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path would double the cost, for each request
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=8)
def _hosts_tabs(config: str, _stamp: tuple[int, int, int]) -> tuple[str, str]:
    """Return the paths of hosts.tab and of the dns_hosts.tab beside it."""
    from lonc_gevent.configuration.files import load  # noqa: PLC0415 - see Sockets.read
    from lonc_gevent.configuration.hosts_tab import dns_path  # noqa: PLC0415

    path = load(Path(config)).settings.network.hosts_tab
    return path, dns_path(path)


@lru_cache(maxsize=8)
def _read(config: str, *_stamps: tuple[int, int, int]) -> Sockets:
    return Sockets.read(config)
