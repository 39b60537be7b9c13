# SPDX-License-Identifier: GPL-2.0-or-later
"""Single files and folders, looked up from the descriptor of the directory that they are in.

No symbolic link is followed and nothing is waited for, whatever stands under a name.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from itertools import count
from typing import Final

from lonc_gevent.errors import SpoolError

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a directory is opened."""

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How a file is opened to read it."""

MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a new file is made."""


def open_folder(name: str, directory: int) -> int:
    """Open a folder of the daemon's own; make it if there is none.

    Raises SpoolError, also for a folder that a user other than root, us and the directory's owner
    made, or that others may write to: such a user could read and exchange what is moved there.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
        fd = os.open(name, DIRECTORY, dir_fd=directory)
    except OSError as error:
        raise SpoolError(f"its folder {name}: {reason_of(error)}") from None
    found, owner = os.fstat(fd), os.fstat(directory).st_uid
    if found.st_uid not in (0, os.geteuid(), owner):
        reason = f"it belongs to uid {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        reason = f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return fd
    os.close(fd)
    raise SpoolError(f"its folder {name}: {reason}")


def take_lock(name: str, directory: int) -> int:
    """Open the lock file, which is made if there is none, and lock it.

    Raises SpoolError if another daemon has it, or what has its name is no file.
    """
    try:
        fd = os.open(name, READ | os.O_CREAT, 0o600, dir_fd=directory)
    except OSError as error:
        raise SpoolError(f"its lock {name}: {reason_of(error)}") from None
    try:
        _lock(fd, name)
    except SpoolError:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SpoolError(f"its lock {name}: it is no regular file")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SpoolError("another daemon replays it") from None
    except OSError as error:
        raise SpoolError(f"its lock {name}: {reason_of(error)}") from None


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
    """Return what no two things have that are there at the same time."""
    return status.st_dev, status.st_ino


def exists(name: str, folder: int) -> bool:
    """Say whether the directory has anything of that name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_name(name: str, folder: int) -> str:
    """Return the name, or with the first number before it that nothing in the directory has."""
    if not exists(name, folder):
        return name
    # A name that gets too long loses its end: the file is kept all the same.
    return next(n for i in count(2) if not exists(n := f"{i}~{name}"[:255], folder))


def reason_of(error: OSError) -> str:
    """Say in words what the system did not do."""
    if isinstance(error, NotADirectoryError):
        return "it is no directory, or a symbolic link"
    return error.strerror or type(error).__name__
