# SPDX-License-Identifier: GPL-2.0-or-later
"""Leave a request in the delayed directory: protocol.md, section 2.

The name is `<time>.<count>.<pid>.<middle>.<host id>`, the content is the request and a newline.
When `delay` returns, the request is on disk under its name: it outlives a power cut.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from lonc_gevent.rules.names import is_host_id
from lonc_gevent.rules.wire import LINE_END, encrypted_part

if TYPE_CHECKING:
    from pathlib import Path

MIDDLE = 16
"""Bytes of a request that its file's name is made from."""

_NO_WORD = re.compile(rb"[^A-Za-z0-9_]")

_COUNT = count(secrets.randbelow(10**8))
"""Processes of two containers may share a pid and a directory: so not from 0."""


def delay(request: bytes, host: str, directory: Path) -> Path:
    """Write a request for a host into the delayed directory; return the file's path.

    The request may end with its newline. Only the directory's user can read the file. Raises
    OSError if it could not be written safely, and then leaves nothing; ValueError if the host
    cannot be one.
    """
    if not is_host_id(host):
        raise ValueError(f"{host!r} is no host id")
    content = request.removesuffix(LINE_END) + LINE_END
    directory.mkdir(mode=0o770, exist_ok=True)
    name = file_name(request, host, int(time.time()), next(_COUNT), os.getpid())
    # A leading dot: no reader takes it for a delayed request.
    temporary = directory / f".{name}.new"
    path = directory / name
    try:
        _write(temporary, content)
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    try:
        _sync_directory(directory)
    except BaseException:
        # The caller will say that it failed: then it must not be sent later.
        with suppress(OSError):
            path.unlink()
        raise
    return path


def file_name(request: bytes, host: str, now: int, number: int, pid: int) -> str:
    """Return the name of a request's file; names sort in the order they were made in a process."""
    start = encrypted_part(request)
    # What is sent encrypted has no place in a file name: its first word will do.
    shown = request[: start + len(request[start:].partition(b":")[0])] if start else request
    middle = _NO_WORD.sub(b"", shown[:MIDDLE]).decode("ascii") or "_"
    return f"{now}.{number:09}.{pid}.{middle}.{host}"


def is_saved(path: Path, request: bytes) -> bool:
    """Read a delayed request again and compare (protocol.md, section 2, critical()).

    True, too, if the daemon has taken the file already. Raises OSError.
    """
    try:
        return path.read_bytes() == request.removesuffix(LINE_END) + LINE_END
    except FileNotFoundError:
        return True


def _write(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
