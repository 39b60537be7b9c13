# SPDX-License-Identifier: GPL-2.0-or-later
"""Unix sockets on disk: the lock on their directory, binding, stale files, permissions.

A socket is bound with no permission for anybody, gets its group and mode, and listens last. So
there is no moment in which somebody can connect whom the mode shuts out. A file is removed only
if it is a socket on which nobody listens (the original unlinked blindly, so that a second daemon
stole the sockets: protocol.md, section 6, 36).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from .errors import AlreadyRunningError, ConfigError
from .rules.settings import LOCK_NAME

if TYPE_CHECKING:
    from pathlib import Path


BACKLOG = 4096
"""Clients that may wait to be accepted; the kernel's net.core.somaxconn caps it."""

PROBE_TIMEOUT = 1.0
"""Seconds to wait for a stale socket's answer; the kernel gives it at once."""


class DirectoryLock:
    """The right to use a directory, for one process at a time; it ends with the process."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises AlreadyRunningError if another process has it, ConfigError if it can't be had.
        """
        path = directory / LOCK_NAME
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError([f"{path}: cannot be opened ({error.strerror})"]) from None
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self.fd, 20).strip().decode("ascii", "replace")
            os.close(self.fd)
            raise AlreadyRunningError(
                f"{directory}: another lonc-gevent holds this directory (pid {holder or '?'})"
            ) from None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give the lock back. Its file stays: removing it would race with the next holder."""
        os.close(self.fd)


def prepare_directory(directory: Path) -> None:
    """Make the socket directory if it is missing, and clear it of the original's lock files.

    `*.lock` files of an original that died make web processes wait for it (protocol.md,
    section 2, "Lock file"). Raises ConfigError.
    """
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in directory.glob("*.lock"):
            if path.name != LOCK_NAME and path.is_file() and not path.is_symlink():
                path.unlink()
    except OSError as error:
        raise ConfigError([f"{directory}: {error.strerror}"]) from None


def listen(path: Path, mode: int, gid: int = -1) -> socket:
    """Bind and listen on a Unix socket. A stale one is replaced.

    Raises AlreadyRunningError if somebody listens there, ConfigError if it can't be bound.
    """
    remove_stale(path)
    sock = socket(AF_UNIX, SOCK_STREAM)
    try:
        # The umask and not a chmod: there is no moment in between.
        umask = os.umask(0o777)
        try:
            sock.bind(str(path))
        finally:
            os.umask(umask)
        if gid >= 0:
            os.chown(path, -1, gid)
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError([f"{path}: cannot listen here ({error.strerror})"]) from None
    sock.settimeout(0)
    return sock


def remove_stale(path: Path) -> None:
    """Remove the socket file that a dead process left, if there is one.

    Raises AlreadyRunningError if somebody listens there, ConfigError if it is no socket.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError([f"{path}: is in the way of a socket, and is not one; move it away"])
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        code = probe.connect_ex(str(path))
    if code in (0, errno.EAGAIN):
        raise AlreadyRunningError(f"{path}: somebody listens on this socket")
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ConfigError([f"{path}: is it in use? ({os.strerror(code)}); if not, remove it"])
    with suppress(FileNotFoundError):
        path.unlink()


def remove(path: Path, inode: int) -> None:
    """Remove a socket file of ours, unless another one stands there by now."""
    with suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()
