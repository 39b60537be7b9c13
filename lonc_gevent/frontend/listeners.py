# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix sockets on disk: their directory, binding, inheriting, stale files, permissions.

A socket is bound with mode 0, gets its group and mode, and listens last. So at no moment can a
client connect that the mode excludes. Other users may be able to write to the directory: a file
that they put in the socket's place is not changed, and a link is not followed. A file is removed
only if it is a socket that no process listens on (the original unlinked without a check, so that a
second daemon took over the sockets: protocol.md, section 6, 36).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import AlreadyRunningError, ConfigError
from lonc_gevent.eventloop import Acceptor, yield_to_others

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from gevent.hub import Hub

BACKLOG = 4096
"""Clients that may wait to be accepted; the kernel limits it to net.core.somaxconn."""

PROBE_TIMEOUT = 1.0
"""Seconds to wait for the answer of a socket that may be stale; the kernel gives it at once."""


class Listener:
    """A listening Unix socket.

    on_accept  called with the descriptor of each new client
    on_error   called with the OSError of an accept that failed
    """

    __slots__ = ("_hub", "acceptor", "inode", "path", "sock")

    def __init__(
        self,
        hub: Hub,
        path: Path,
        sock: socket,
        on_accept: Callable[[int], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        self._hub = hub
        self.path = path
        self.sock = sock
        self.inode = path.lstat().st_ino
        self.acceptor = Acceptor(hub, sock, on_accept, on_error)

    def __repr__(self) -> str:
        return f"<Listener {self.path.name}>"

    def close(self) -> None:
        """Remove the socket file, accept the clients that wait in the backlog, and close."""
        remove(self.path, self.inode)
        while self.acceptor.accept_some():
            yield_to_others(self._hub)
        self.acceptor.close()
        self.sock.close()


def prepare_directory(directory: Path, names: Container[str] | None = None) -> None:
    """Make the socket directory if it is missing, and clear it of the original's lock files.

    `*.lock` files of an original that died make web processes wait for it (protocol.md,
    section 2, "Lock file"). With `names`, only the lock files of these sockets are removed, as
    other processes use the directory, too. Raises ConfigError.
    """
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in directory.glob("*.lock"):
            if path.name == LOCK_NAME or path.is_symlink() or not path.is_file():
                continue
            if names is None or path.stem in names:
                path.unlink()
    except OSError as error:
        raise ConfigError([f"{directory}: {error.strerror}"]) from None


def listen(path: Path, mode: int, gid: int = -1, *, backlog: int = BACKLOG) -> socket:
    """Bind and listen on a Unix socket. A stale one is replaced.

    Raises AlreadyRunningError if it is in use, ConfigError if it cannot be bound.
    """
    remove_stale(path)
    try:
        sock = socket(AF_UNIX, SOCK_STREAM)
    except OSError as error:
        raise ConfigError([f"{path}: cannot listen here ({error.strerror})"]) from None
    try:
        # On Linux the file is created with the mode of the socket. The umask would hold for all
        # threads.
        os.fchmod(sock.fileno(), 0)
        sock.bind(str(path))
        _set_access(path, mode, gid)
        sock.listen(backlog)
    except OSError as error:
        if sock.getsockname():  # bound: the file is ours
            with suppress(OSError):
                path.unlink()
        sock.close()
        raise ConfigError([f"{path}: cannot listen here ({error.strerror})"]) from None
    sock.settimeout(0)
    return sock


def take_up(path: Path, fd: int, inode: int, mode: int, gid: int = -1) -> socket | None:
    """Go on listening on a socket that this process had before its restart in place.

    Takes over the descriptor. Closes it and returns None if the socket file was removed or
    replaced, as no client could reach the socket. Raises ConfigError.
    """
    sock = socket(fileno=fd)
    sock.settimeout(0)
    sock.set_inheritable(False)
    try:
        _set_access(path, mode, gid, inode)
    except (FileNotFoundError, FileExistsError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    return sock


def _set_access(path: Path, mode: int, gid: int, inode: int = 0) -> None:
    """Give a socket file of ours its group and mode.

    Raises OSError; FileExistsError if another file, or a link, is in its place.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        is_ours = stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid()
        if not is_ours or found.st_nlink != 1 or inode not in (0, found.st_ino):
            raise FileExistsError(errno.EEXIST, "replaced by another file")
        opened = f"/proc/self/fd/{fd}"  # fchmod() and fchown() refuse such a descriptor
        if gid >= 0:
            os.chown(opened, -1, gid)
        os.chmod(opened, mode)  # noqa: PTH101 - no path, but the descriptor
    finally:
        os.close(fd)


def remove_stale(path: Path) -> None:
    """Remove the socket file that a dead process left, if there is one.

    Raises AlreadyRunningError if it is in use, ConfigError if it is not a socket.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError([f"{path}: not a socket; a socket is needed here: move the file away"])
    try:
        with socket(AF_UNIX, SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT)
            code = probe.connect_ex(str(path))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if code in (0, errno.EAGAIN):
        raise AlreadyRunningError(f"{path}: socket is in use by another process")
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConfigError(
            [f"{path}: cannot connect ({os.strerror(code)}); if it is not in use, remove it"]
        )
    with suppress(FileNotFoundError):
        path.unlink()


def remove(path: Path, inode: int) -> None:
    """Remove a socket file of ours, unless it was replaced by another file."""
    with suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()
