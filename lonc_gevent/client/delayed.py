# SPDX-License-Identifier: GPL-2.0-or-later
"""The writing side of a delayed request: for what must happen, once con_lost was the answer.

The file is written under a name that the daemon leaves alone, synced, and only then given its
own name, so that nobody ever sees half of it. When `delay` returns, a crash of the machine does
not lose the request (protocol.md, section 2).
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from lonc_gevent.configuration.names import is_host_id
from lonc_gevent.delayed.requests import UNFINISHED_PREFIX, file_name
from lonc_gevent.protocol.lines import LINE_END

MAX_TRIES = 1000
"""Names tried, a microsecond apart, before giving up: other threads write in the same instant."""


def delay(request: bytes, host: str, directory: Path | str) -> Path:
    """Write a delayed request for a host into the delayed directory; return the file's path.

    request    one line; its newline may be left out
    host       the host id
    directory  `delayed.directory` of the daemon

    Requests that one process writes one after the other are sent in that order. The file's mode
    is 0600; in a directory of another user that our group may read it is 0640, and the file has
    the directory's group: otherwise that user's daemon could not read it.

    Raises ValueError if the request is no single line or the host id is none, OSError if it
    can't be written: then nothing is left behind, and the request will not be sent.
    """
    line = request.removesuffix(LINE_END) + LINE_END
    if line == LINE_END or LINE_END in line[:-1]:
        raise ValueError("a request is one line, and not an empty one")
    if not is_host_id(host):
        raise ValueError("no host id")
    directory = Path(directory)
    micros = time.time_ns() // 1000
    for later in range(MAX_TRIES):
        path = directory / file_name(micros + later, os.getpid(), line, host)
        if _write(path, line):
            return path
    raise FileExistsError(f"{directory}: no free name")


def _write(path: Path, line: bytes) -> bool:
    """Write the file; False if the name is taken."""
    new = path.with_name(UNFINISHED_PREFIX + path.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(new, flags, 0o600)
    except FileExistsError:
        return False
    try:
        # Asked while the other name is ours: nobody else can be about to take this one.
        if os.path.lexists(path):
            os.close(fd)
            new.unlink()
            return False
        with os.fdopen(fd, "wb") as file:
            _set_mode(fd, path.parent)
            file.write(line)
            file.flush()
            os.fsync(fd)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    try:
        _sync(path.parent)
    except OSError:
        # The caller is told that it failed: then it must not be sent later.
        path.unlink(missing_ok=True)
        raise
    return True


def _set_mode(fd: int, directory: Path) -> None:
    """Let nobody else read the file; or the directory's group, if that is how it is shared."""
    place = directory.stat()
    mode = 0o600
    if place.st_uid != os.geteuid() and place.st_mode & stat.S_IRGRP:
        with suppress(OSError):  # we need not be in that group: the set-group-ID bit does it, too
            os.fchown(fd, -1, place.st_gid)
        if os.fstat(fd).st_gid == place.st_gid:
            mode = 0o640
    os.fchmod(fd, mode)  # whatever the umask is


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_saved(path: Path, request: bytes) -> bool:
    """Read a delayed request again and compare (protocol.md, section 2, critical()).

    True, too, if the daemon has taken the file already. Raises OSError.
    """
    try:
        return path.read_bytes() == request.removesuffix(LINE_END) + LINE_END
    except FileNotFoundError:
        return True
