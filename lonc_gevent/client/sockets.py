# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of a daemon's sockets, and the other paths that a web process needs.

The directory is enough where sockets are named by host id, which is the default. Other settings
(names by DNS, another delayed directory, the pid file) are read from the daemon's TOML file. Only
that imports anything outside the standard library.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lonc_gevent.configuration.names import is_host_id
from lonc_gevent.errors import ConfigError
from lonc_gevent.perm_log import PermLog, perm_log_of

from .errors import ArgumentError, ClientError, NoDaemonError, UnknownHostError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        if not isinstance(host, str):
            raise ArgumentError(f"expected the host id as text, not {type(host).__name__}")
        if self._names is None and _is_host_id(host):
            return f"{self.directory}/{host}"
        name = None if self._names is None else self._names.get(host)
        if name is None:
            raise self._unknown(host, self._names or ())
        return f"{self.directory}/{name}"

    def stamp(self) -> tuple[int, int, int]:
        """Return values that change when a socket is made or removed."""
        return _stamp(self.directory)

    def missing(self, host: str, path: str) -> ClientError:
        """Return the error for a host whose socket does not exist.

        If a daemon listens on other sockets of the directory, the host is unknown.
        """
        try:
            with os.scandir(self.directory) as entries:
                others = [e.name for e in entries if stat.S_ISSOCK(e.stat().st_mode)]
        except OSError as error:
            return NoDaemonError(host, path, f"cannot read the directory: {error.strerror}")
        if self._names is None and any(_is_listening(f"{self.directory}/{n}") for n in others):
            return self._unknown(host, others)
        return NoDaemonError(host, path, "cannot connect to the daemon: it has no socket here")

    def _unknown(self, host: str, known: Iterable[str]) -> UnknownHostError:
        similar = get_close_matches(host, known, 1)
        what = "the daemon does not serve this host"
        if similar:
            what += f"; did you mean {similar[0]}?"
        return UnknownHostError(host, f"{self.directory}/?", what)


Where: TypeAlias = Sockets | str | os.PathLike[str] | None
"""Values of `sockets=`: a directory, a Sockets, or None for the file named by LONC_CONFIG."""


def find(sockets: Where) -> Sockets:
    """Return the Sockets for a value of `sockets=`. Raises ConfigError and ArgumentError."""
    if isinstance(sockets, Sockets):
        return sockets
    if sockets is None:
        return Sockets.default()
    try:
        return Sockets(sockets)
    except TypeError:
        what = f"sockets = {sockets!r}: expected a directory or a Sockets"
        raise ArgumentError(what) from None


_is_host_id = lru_cache(maxsize=1024)(is_host_id)


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(0)
        try:
            sock.connect(path)
        except OSError as error:
            return error.errno == errno.EAGAIN  # the backlog is full
        return True


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
