# SPDX-License-Identifier: GPL-2.0-or-later
"""Lock file of the socket directory, for one process or for the shards of one number.

A process that serves all hosts has an exclusive lock on `.lonc.lock`. One of several processes
(`--shard I/N`) has a shared lock on it, and an exclusive one on `.lonc.lock.I`. The shared file
contains N, as shards with another N would serve some hosts twice: they are refused.

The kernel releases a lock with the last descriptor of its file, however the process ends. A restart
in place hands the descriptors over, so that the directory is locked without a gap.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import AlreadyRunningError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lonc_gevent.configuration.shard import Shard

JOIN_TIMEOUT = 1.0
"""Seconds for another shard, which has the shared file locked exclusively, to write N into it."""

STEP = 0.02

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DirectoryLock:
    """The locks of a process on a directory, until `release` or the end of the process."""

    def __init__(
        self, directory: Path, shard: Shard | None = None, inherited: Sequence[int] = ()
    ) -> None:
        """Lock the directory.

        inherited: the descriptors of the locks that this process had before a restart in place.
        They are used if they belong to this directory, and closed otherwise.

        Raises AlreadyRunningError if another process has locked it, ConfigError if it cannot be
        locked.
        """
        paths = [directory / LOCK_NAME]
        if shard is not None:
            paths.append(directory / f"{LOCK_NAME}.{shard.number}")
        self.fds: list[int] = []
        if _are_of(inherited, paths):
            self.fds.extend(inherited)
            for fd in inherited:
                os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keyword
            return
        for fd in inherited:
            os.close(fd)
        try:
            if shard is None:
                self._take(paths[0], b"%d" % os.getpid())
            else:
                self._join(paths[0], b"shards %d" % shard.of)
                self._take(paths[1], b"%d" % os.getpid())
        except BaseException:  # whatever the reason, a lock that is not returned must not stay
            self.release()
            raise

    def release(self) -> None:
        """Release the locks. The files stay, as their removal would race with another process."""
        while self.fds:
            os.close(self.fds.pop())

    def _take(self, path: Path, holder: bytes) -> None:
        """Lock a file exclusively, and write into it which process holds it."""
        fd = self._open(path)
        if not _lock(fd, fcntl.LOCK_EX):
            raise _held(path, fd)
        _write(fd, holder)

    def _join(self, path: Path, holder: bytes) -> None:
        """Lock a file together with the processes that have written the same text into it."""
        fd = self._open(path)
        deadline = time.monotonic() + JOIN_TIMEOUT
        while True:
            if _lock(fd, fcntl.LOCK_EX):
                _write(fd, holder)  # no other process has a lock
            # flock() is not atomic here: another process may have the lock in between.
            if _lock(fd, fcntl.LOCK_SH):
                if _read(fd) == holder:
                    return
                raise _held(path, fd)
            if time.monotonic() > deadline:
                raise _held(path, fd)
            time.sleep(STEP)

    def _open(self, path: Path) -> int:
        try:
            fd = os.open(path, _FLAGS, 0o600)
        except OSError as error:
            raise ConfigError([f"{path}: cannot be opened ({error.strerror})"]) from None
        self.fds.append(fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError([f"{path}: not a regular file; remove it"])
        return fd


def _lock(fd: int, how: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return True
    return False


def _read(fd: int) -> bytes:
    return os.pread(fd, 20, 0).strip()


def _write(fd: int, holder: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, holder + b"\n", 0)


def _held(path: Path, fd: int) -> AlreadyRunningError:
    holder = _read(fd).decode("ascii", "replace") or "?"
    if not holder.startswith("shards"):
        holder = f"pid {holder}"
    return AlreadyRunningError(
        f"{path.parent}: another lonc-gevent holds this directory ({holder})"
    )


def _are_of(fds: Sequence[int], paths: Sequence[Path]) -> bool:
    """Return whether these descriptors are of these files."""
    if len(fds) != len(paths):
        return False
    try:
        return all(
            os.path.samestat(os.fstat(fd), path.stat()) for fd, path in zip(fds, paths, strict=True)
        )
    except OSError:
        return False
