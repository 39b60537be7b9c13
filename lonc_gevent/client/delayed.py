# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes delayed requests: requests that must be sent although the answer was con_lost.

The file is written under a name that the daemon ignores, synced, and then renamed, so the daemon
never reads a part of it. Once `delay` has returned, a crash of the machine does not lose the
request (protocol.md, section 2).
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

_last = [0]
"""The time in this process's last name, in microseconds: names grow when the clock is set back."""

MAX_TRIES = 1000
"""Names tried, a microsecond apart: other threads may write in the same microsecond."""


def delay(request: bytes, host: str, directory: Path | str) -> Path:
    """Write a delayed request for a host into the delayed directory; return the file's path.

    request    one line; its newline may be left out
    host       the host id
    directory  `delayed.directory` of the daemon

    Requests that one process writes one after the other are sent in that order, also when the clock
    is set back in between. The file's mode
    is 0600. In a directory that belongs to another user and that its group may read, the mode is
    0640 and the group is the directory's: otherwise the daemon of that user could not read it.

    Raises ValueError if the request is not a single line or the host id is not valid, OSError if
    the file cannot be written. In both cases no file remains and the request will not be sent.
    """
    line = request.removesuffix(LINE_END) + LINE_END
    if line == LINE_END or LINE_END in line[:-1]:
        raise ValueError("expected a request of one line that is not empty")
    if not is_host_id(host):
        raise ValueError("not a valid host id")
    directory = Path(directory)
    for _ in range(MAX_TRIES):
        _last[0] = micros = max(time.time_ns() // 1000, _last[0] + 1)
        path = directory / file_name(micros, os.getpid(), line, host)
        if _write(path, line):
            return path
    raise FileExistsError(f"{directory}: no unused file name found")


def _write(path: Path, line: bytes) -> bool:
    """Write the file; return False if the name is in use."""
    new = path.with_name(UNFINISHED_PREFIX + path.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(new, flags, 0o600)
    except FileExistsError:
        return False
    try:
        # Checked while this process holds the temporary name, so no other can take this one.
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
        # The caller gets an error, so the daemon must not send the request later.
        path.unlink(missing_ok=True)
        raise
    return True


def _set_mode(fd: int, directory: Path) -> None:
    """Allow only the owner to read the file, and the directory's group where it is shared."""
    place = directory.stat()
    mode = 0o600
    if place.st_uid != os.geteuid() and place.st_mode & stat.S_IRGRP:
        with suppress(OSError):  # outside that group: the set-group-ID bit may do it
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
    """Read a delayed request back and compare it (protocol.md, section 2, critical()).

    Also True if the daemon has removed the file already. Raises OSError.
    """
    try:
        return path.read_bytes() == request.removesuffix(LINE_END) + LINE_END
    except FileNotFoundError:
        return True
