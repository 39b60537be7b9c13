# SPDX-License-Identifier: GPL-2.0-or-later
"""The right to use the socket directory: for one process, or for the shards of one number.

A process that serves all hosts locks `.lonc.lock` for itself alone. One of several (`--shard I/N`)
shares that lock with its fellows, and has one of its own, `.lonc.lock.I`. So one kind keeps the
other out; and as the shared file says how many they are, so do shards of another number, who would
serve hosts twice.

The kernel drops a lock with the last descriptor of its file: with the process, however it ends. A
restart in place hands the descriptors over, and thereby the locks, without a moment in between.
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

PATIENCE = 1.0
"""Seconds for a fellow shard that locks the shared file for itself to write its word into it."""

STEP = 0.02

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DirectoryLock:
    """The right to use a directory; it ends with the process, or with `release`."""

    def __init__(
        self, directory: Path, shard: Shard | None = None, inherited: Sequence[int] = ()
    ) -> None:
        """Take the lock.

        inherited: the descriptors of a lock that this very process held before its restart. They
        are ours now: used if they are of this directory, else closed.

        Raises AlreadyRunningError if another process has it, ConfigError if it can't be had.
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
        """Give the lock back. Its files stay: removing them would race with the next holder."""
        while self.fds:
            os.close(self.fds.pop())

    def _take(self, path: Path, word: bytes) -> None:
        """Lock a file for this process alone, and leave our word in it."""
        fd = self._open(path)
        if not _lock(fd, fcntl.LOCK_EX):
            raise _held(path, fd)
        _write(fd, word)

    def _join(self, path: Path, word: bytes) -> None:
        """Lock a file together with those who have left the same word in it."""
        fd = self._open(path)
        deadline = time.monotonic() + PATIENCE
        while True:
            if _lock(fd, fcntl.LOCK_EX):
                _write(fd, word)  # nobody else is here: our word holds
            # Not one step: the lock may be gone for a moment, and somebody else have it then.
            if _lock(fd, fcntl.LOCK_SH):
                if _read(fd) == word:
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


def _write(fd: int, word: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, word + b"\n", 0)


def _held(path: Path, fd: int) -> AlreadyRunningError:
    word = _read(fd).decode("ascii", "replace") or "?"
    who = word if word.startswith("shards") else f"pid {word}"
    return AlreadyRunningError(f"{path.parent}: another lonc-gevent holds this directory ({who})")


def _are_of(fds: Sequence[int], paths: Sequence[Path]) -> bool:
    """Whether these descriptors are of these very files."""
    if len(fds) != len(paths):
        return False
    try:
        return all(
            os.path.samestat(os.fstat(fd), path.stat()) for fd, path in zip(fds, paths, strict=True)
        )
    except OSError:
        return False
