# SPDX-License-Identifier: GPL-2.0-or-later
"""Single files and folders, looked up from the descriptor of the directory that they are in.

No symbolic link is followed, and opening waits for nothing, whatever kind of file has the name.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from lonc_gevent.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for opening a directory."""

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags for opening a file to read it."""

MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for creating a file."""


@contextmanager
def as_spool_error(prefix: str = "") -> Iterator[None]:
    """Raise an OSError of the block as a SpoolError, whose text begins with `prefix`."""
    try:
        yield
    except OSError as error:
        raise SpoolError(prefix + reason_of(error)) from None


def open_folder(name: str, directory: int) -> int:
    """Open a folder of the daemon's own, and create it if it is missing.

    Raises SpoolError, also if the folder is owned by a user other than root, ours and the
    directory's owner, or if others may write to it: they could read and replace its files.
    """
    prefix = f"its folder {name}: "
    with as_spool_error(prefix):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
        fd = os.open(name, DIRECTORY, dir_fd=directory)
    found, owner = os.fstat(fd), os.fstat(directory).st_uid
    if found.st_uid not in (0, os.geteuid(), owner):
        reason = f"owned by uid {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = f"writable by others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return fd
    os.close(fd)
    raise SpoolError(prefix + reason)


def take_lock(name: str, directory: int) -> int:
    """Open the lock file, create it if it is missing, and lock it; return its descriptor.

    Raises SpoolError if another daemon has the lock, or the name is not that of a regular file.
    """
    prefix = f"its lock {name}: "
    with as_spool_error(prefix), ExitStack() as opened:
        fd = os.open(name, READ | os.O_CREAT, 0o600, dir_fd=directory)
        opened.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SpoolError(f"{prefix}not a regular file")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError("another daemon replays it") from None
        opened.pop_all()
    return fd


def read_open(fd: int, limit: int) -> bytes:
    """Return at most `limit` bytes of an open file. Raises OSError."""
    pieces = []
    while limit > 0:
        piece = os.read(fd, min(limit, 1 << 20))
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what distinguishes a file from all others that exist at the same time."""
    return status.st_dev, status.st_ino


def exists(name: str, folder: int) -> bool:
    """Return whether the directory has an entry of that name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_name(name: str, folder: int) -> str:
    """Return the name, or `NUMBER~name` with the first number from 2 on if it is in use."""
    if not exists(name, folder):
        return name
    # A name that gets too long loses its end: the file is kept all the same.
    return next(n for i in count(2) if not exists(n := f"{i}~{name}"[:255], folder))


def reason_of(error: OSError | SpoolError) -> str:
    """Return the text of an error for the log, without file names."""
    if isinstance(error, SpoolError):
        return str(error)
    if isinstance(error, NotADirectoryError):
        return "not a directory, or a symbolic link"
    return error.strerror or type(error).__name__
