# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of the key that seals delayed requests."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from lonc_gevent.configuration.permissions import MODE_OF_SECRETS

from .seal import KEY_BYTES, SealKey, key_from_file, key_to_file

if TYPE_CHECKING:
    from pathlib import Path

_MAX = 200


def make_key(path: Path) -> SealKey:
    """Make a key and its file, with mode 0600. Raises OSError; FileExistsError if it exists."""
    key = os.urandom(KEY_BYTES)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)  # whatever the umask is
        file.write(key_to_file(key))
        file.flush()
        os.fsync(fd)
    return SealKey(key)


def read_key(path: Path) -> SealKey:
    """Read a key. Raises ValueError, with its reason, if it cannot be read or trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("not a regular file")
        if info.st_uid not in (os.geteuid(), 0):
            expected = f"expected uid {os.geteuid()} or root as its owner"
            raise ValueError(f"owned by uid {info.st_uid}; {expected}")
        if info.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            mode = stat.S_IMODE(info.st_mode)
            raise ValueError(f"others can read or change it (mode {mode:04o}); {MODE_OF_SECRETS}")
        return key_from_file(file.read(_MAX))
