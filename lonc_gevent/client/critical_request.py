# SPDX-License-Identifier: GPL-2.0-or-later
"""What `critical` does besides sending: signal the daemon, save the request, record it.

A critical request (protocol.md, section 2) that cannot be sent is written into the delayed
directory, from where the daemon sends it once the host is up again.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .delayed import delay, is_saved
from .errors import ClientError, ConFailedError
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

    Returns CON_DELAYED. Raises ConFailedError, or returns CON_FAILED, if it cannot be written.
    """
    try:
        path = delay(line, cause.host, place.delayed)
        if not is_saved(path, line):
            path.unlink()
            raise OSError("read back with another content")  # noqa: TRY301 - as bad as the others
    except OSError as error:
        place.log.record("F", cause.host, line)
        if on_con_lost == "return":
            return CON_FAILED
        reason = error.strerror or error
        if isinstance(error, FileNotFoundError):
            # Created here, it would belong to this user, and a daemon of another user could not
            # read it. That would be noticed only after CON_DELAYED was returned.
            reason = "no such directory; lonc creates it when it starts"
        what = f"con_failed: cannot save in {place.delayed}: {reason}"
        failed = ConFailedError(cause.host, cause.socket, what)
        failed.may_have_run = cause.may_have_run
        raise failed from error
    place.log.record("D", cause.host, line)
    return CON_DELAYED
