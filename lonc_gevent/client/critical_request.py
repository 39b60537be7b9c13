# SPDX-License-Identifier: GPL-2.0-or-later
"""`critical`: a request that must not be lost (protocol.md, section 2).

It is sent; after con_lost the daemon is told to try its host again (lonnet's reconlonc), and it
is sent once more; and if that is in vain it is left in the delayed directory, from where the
daemon sends it when the host is back. A request whose reply was lost may have run: so a
critical request may run twice, and must be one that does no harm then.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lonc_gevent.protocol.lines import RESET_RETRIES, verb

from .blocking import reply
from .delayed import delay, is_saved
from .errors import ClientError, ConFailed, ConLost, NoDaemonError, TimedOutError
from .lines import CON_DELAYED, CON_FAILED, TIMEOUT, OnConLost, check_timeout, to_line
from .sockets import Where, find

if TYPE_CHECKING:
    from .sockets import Sockets

RECONNECT_SECONDS = 1.0
"""How long a daemon that does not listen may take to come back, before the second try."""
RECONNECT_PAUSE = 0.05

_RESET_RETRIES = RESET_RETRIES[:-1]


def critical(
    request: bytes,
    host: str,
    *,
    timeout: float = TIMEOUT,
    encrypt: bool = False,
    on_con_lost: OnConLost = "raise",
    sockets: Where = None,
) -> bytes:
    """Send a request that must not be lost; return the reply, or CON_DELAYED.

    CON_DELAYED: it is on disk in the delayed directory, written through and read again. The
    arguments are those of `reply`; the timeout is for all tries together, writing not counted.

    Raises ConFailed if it could not be saved either ("return": returns CON_FAILED), and as
    `reply` does what has nothing to do with con_lost.
    """
    line = to_line(request, encrypt=encrypt)
    place = find(sockets)
    deadline = time.monotonic() + check_timeout(timeout)
    try:
        return reply(line[:-1], host, timeout=timeout, sockets=place)
    except (ConLost, TimedOutError) as error:
        cause: ClientError = error
    try:
        reconnect(host, place, deadline)
        left = max(deadline - time.monotonic(), 0)
        if left:
            return reply(line[:-1], host, timeout=left, sockets=place)
    except (ConLost, TimedOutError) as error:
        cause = error
    return save(line, place, cause, on_con_lost)


def reconnect(host: str, place: Sockets, deadline: float) -> None:
    """Have the daemon try the host's lond at once, as lonnet's reconlonc does.

    If no daemon listens, wait for it until the deadline, but for RECONNECT_SECONDS at most.
    Raises ConLost and TimedOutError.
    """
    signal_daemon(place)
    now = time.monotonic()
    deadline = min(deadline, now + RECONNECT_SECONDS)
    while deadline > now:
        # The signal is lonnet's way. The control line is surer: it is answered once it is done.
        try:
            reply(_RESET_RETRIES, host, timeout=deadline - now, sockets=place)
        except NoDaemonError:
            time.sleep(RECONNECT_PAUSE)
        else:
            return
        now = time.monotonic()


def signal_daemon(place: Sockets) -> None:
    """Send USR1 to the daemon, if its pid file is known and names a process that may be it."""
    if place.pid_file is None:
        return
    with suppress(OSError, ValueError):
        pid = int(place.pid_file.read_bytes())
        # USR1 ends a process that does not expect it; a stale file may name any.
        if pid > 1 and _may_be_lonc(Path(f"/proc/{pid}/cmdline").read_bytes()):
            os.kill(pid, signal.SIGUSR1)


def _may_be_lonc(command_line: bytes) -> bool:
    """Say whether a program's name is lonc's: by itself, or as what an interpreter runs.

    Only names count: whatever else is installed below /opt/lonc has that in its path, too.
    """
    words = command_line.split(b"\0")[:3]
    return any(word.rpartition(b"/")[2].startswith(b"lonc") for word in words)


def save(line: bytes, place: Sockets, cause: ClientError, on_con_lost: OnConLost) -> bytes:
    """Leave a request in the delayed directory; `cause` says whose it is, and why.

    Returns CON_DELAYED. Raises ConFailed, or returns CON_FAILED, if that cannot be done.
    """
    try:
        path = delay(line, cause.host, place.delayed)
        if not is_saved(path, line):
            path.unlink()
            raise OSError("it was read back changed")  # noqa: TRY301 - as bad as all others
    except OSError as error:
        record("F", line, cause.host, place)
        if on_con_lost == "return":
            return CON_FAILED
        reason = error.strerror or error
        if isinstance(error, FileNotFoundError):
            # Not ours to make: a daemon of another user could not use it, and would say so only
            # after we have promised that the request is sent.
            reason = "there is no such directory; lonc makes it when it starts"
        what = f"con_failed: not saved in {place.delayed}: {reason}"
        raise ConFailed(cause.host, cause.socket, what) from error
    record("D", line, cause.host, place)
    return CON_DELAYED


def record(code: str, line: bytes, host: str, place: Sockets) -> None:
    """Add a line to lonnet.perm.log, if it is known: D delayed, F failed. loncron counts them.

    Of the request only its first word goes in. That the log cannot be written changes nothing.
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
