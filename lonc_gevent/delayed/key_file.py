# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of the key that seals delayed requests: made, and read, with nobody else looking."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .seal import KEY_BYTES, SealKey, key_from_file, key_to_file

if TYPE_CHECKING:
    from pathlib import Path

_MAX = 200


def make_key(path: Path) -> SealKey:
    """Make a key, and its file with mode 0600. Raises OSError; FileExistsError if there is one."""
    key = os.urandom(KEY_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)  # whatever the umask is
        file.write(key_to_file(key))
        file.flush()
        os.fsync(fd)
    return SealKey(key)


def read_key(path: Path) -> SealKey:
    """Read a key. Raises ValueError, with words for a person, if it can't be had or trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is no regular file")
        if info.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"it belongs to uid {info.st_uid}: expected our own, or root's")
        if info.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ValueError("others may read or change it: expected mode 0600, or 0640")
        return key_from_file(file.read(_MAX))
