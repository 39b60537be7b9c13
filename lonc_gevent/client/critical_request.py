# SPDX-License-Identifier: GPL-2.0-or-later
"""What `critical` does besides sending: signal the daemon, save the request, record it.

A critical request (protocol.md, section 2) that cannot be sent is written into the delayed
directory, from where the daemon sends it once the host is up again.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lonc_gevent.protocol.lines import verb

from .delayed import delay, is_saved
from .errors import ClientError, ConFailed
from .lines import CON_DELAYED, CON_FAILED, OnConLost

if TYPE_CHECKING:
    from .sockets import Sockets


def signal_daemon(place: Sockets) -> None:
    """Send USR1 to the daemon, if its pid file is known and holds the pid of such a process."""
    if place.pid_file is None:
        return
    with suppress(OSError, ValueError):
        pid = int(place.pid_file.read_bytes())
        # USR1 ends a process without a handler for it, and a stale pid file may name any process.
        if pid > 1 and _may_be_lonc(Path(f"/proc/{pid}/cmdline").read_bytes()):
            os.kill(pid, signal.SIGUSR1)


def _may_be_lonc(command_line: bytes) -> bool:
    """Return whether the program, or the script of an interpreter, has a name of lonc.

    Only base names count: every program installed below /opt/lonc has "lonc" in its path.
    """
    words = command_line.split(b"\0")[:3]
    return any(word.rpartition(b"/")[2].startswith(b"lonc") for word in words)


def save(line: bytes, place: Sockets, cause: ClientError, on_con_lost: OnConLost) -> bytes:
    """Write a request into the delayed directory; `cause` is the error of the last attempt.

    Returns CON_DELAYED. Raises ConFailed, or returns CON_FAILED, if it cannot be written.
    """
    try:
        path = delay(line, cause.host, place.delayed)
        if not is_saved(path, line):
            path.unlink()
            raise OSError("read back with another content")  # noqa: TRY301 - as bad as the others
    except OSError as error:
        record("F", line, cause.host, place)
        if on_con_lost == "return":
            return CON_FAILED
        reason = error.strerror or error
        if isinstance(error, FileNotFoundError):
            # Created here, it would belong to this user, and a daemon of another user could not
            # read it. That would be noticed only after CON_DELAYED was returned.
            reason = "no such directory; lonc creates it when it starts"
        what = f"con_failed: cannot save in {place.delayed}: {reason}"
        raise ConFailed(cause.host, cause.socket, what) from error
    record("D", line, cause.host, place)
    return CON_DELAYED


def record(code: str, line: bytes, host: str, place: Sockets) -> None:
    """Append a line to lonnet.perm.log, if its path is known: D delayed, F failed.

    loncron counts these lines. They hold the request's verb only. Write errors are ignored.
    """
    if place.perm_log is None:
        return
    entry = f"{int(time.time())}:{code}:{host}:{verb(line)}\n".encode()
    with suppress(OSError):
        fd = os.open(place.perm_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            os.write(fd, entry)
        finally:
            os.close(fd)
