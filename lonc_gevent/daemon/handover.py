# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restart in place hands from the old program to the new one, in the same process.

The kernel keeps descriptors open over an exec: those of the listening sockets, of clients, of lond
connections, of the lock. Their meaning is written as JSON to a sealed file in memory, whose own
descriptor is named in the environment. The same goes to the child process that rehearses a
restart.

A program of another version may read it. Then it gets the fields of version BASIC only, to which
fields are only ever added; a program ignores those that it does not know.
"""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from msgspec import field

from lonc_gevent.admin.recorder import HistorySnapshot
from lonc_gevent.backend.snapshot import DelayedSnapshot, PoolSnapshot, Snapshot
from lonc_gevent.frontend.client_connection import ClientSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE: Final = "LONC_HANDOVER"
"""The environment variable that names the descriptor to read."""

BASIC: Final = 2
"""Version of a handover that every program since understands, without the state of the hosts."""

VERSION: Final = 3
"""Version of a whole handover. Only a program with the same number gets and reads one."""

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Socket(Snapshot, frozen=True):
    """A listening Unix socket. `inode` is that of its file at `path`."""

    path: str
    fd: int
    inode: int


class Handover(Snapshot, frozen=True):
    """All that is handed over.

    locks      descriptors of the lock files of the socket directory
    pid_file   the pid file that is written; "": none
    admin      the file of the admin socket, which is closed; "": none
    version    of the program that wrote it; 0: there was none before this one, or it is too old
    listen     the TCP address of the admin socket, which is closed; "": none
    files      the configuration's files as the rehearsal read and accepted them; none: read them
    arguments  the command line of the daemon, for a rehearsal
    paused     ids of the hosts that an operator has paused
    reloads    descriptors of clients that wait for the result of this restart

    Of a whole handover only:

    at           when its state was read (monotonic seconds)
    pools        the state of the hosts, those included that are gone and have requests in progress
    delayed      the delayed requests that are in these pools
    credentials  the fingerprint of what TLS sessions were made with
    history      the charts of the last 15 minutes
    clients_denied, log_lines_dropped, hub_holds, hub_longest_ms  the counters of the process
    """

    locks: tuple[int, ...] = ()
    sockets: tuple[Socket, ...] = ()
    clients: tuple[ClientSnapshot, ...] = ()
    pid_file: str = ""
    admin: str = ""
    version: int = 0
    listen: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    reloads: tuple[int, ...] = ()
    paused: tuple[str, ...] = ()
    at: float = 0.0
    pools: tuple[PoolSnapshot, ...] = ()
    delayed: tuple[DelayedSnapshot, ...] = ()
    credentials: str = ""
    history: HistorySnapshot | None = None
    clients_denied: int = 0
    log_lines_dropped: int = 0
    hub_holds: int = 0
    hub_longest_ms: float = 0.0

    @property
    def is_restart(self) -> bool:
        """Whether another program ran in this process before."""
        return self.version > 0 or bool(self.locks)

    def descriptors(self) -> Iterator[int]:
        """Yield all descriptors in it."""
        yield from self.locks
        yield from (socket.fd for socket in self.sockets)
        yield from (client.fd for client in self.clients)
        yield from (connection.fd for pool in self.pools for connection in pool.connections)
        yield from self.reloads


def take() -> Handover:
    """Take what the previous program of this process left; an empty one if this is the first.

    All descriptors in it are the caller's, and are closed by the next exec.
    Raises msgspec.DecodeError if it is no handover.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return Handover()
    with os.fdopen(int(number), "rb") as file:
        handover = msgspec.json.decode(file.read(), type=Handover)
    _set_inheritable(handover, inheritable=False)
    return handover


def in_memory(content: bytes) -> int:
    """Write a sealed file in memory; return the descriptor. Raises OSError."""
    fd = os.memfd_create("lonc-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def exec_again(handover: Handover, before: Callable[[], None]) -> NoReturn:
    """Start this program anew in this process, and hand over.

    before: called as the last step before the exec

    Raises OSError if that fails; then all descriptors are as they were.
    """
    state = in_memory(msgspec.json.encode(handover))
    try:
        os.set_inheritable(state, True)  # noqa: FBT003 - it takes no keyword
        _set_inheritable(handover, inheritable=True)
        before()
        environment = {**os.environ, VARIABLE: str(state)}
        os.execve(sys.executable, command_line(), environment)  # noqa: S606 - ourselves # nosec
    finally:
        # Only if it failed.
        _set_inheritable(handover, inheritable=False)
        os.close(state)


def _set_inheritable(handover: Handover, *, inheritable: bool) -> None:
    for fd in handover.descriptors():
        os.set_inheritable(fd, inheritable)


def command_line(*arguments: str) -> list[str]:
    """Return the command line that this program was started with.

    With arguments: the same program and the same way to start it, with these ones.
    """
    # The interpreter by its full path: from a bare name Python might find another environment.
    line = [sys.executable, *sys.orig_argv[1:]]
    if not arguments:
        return line
    return [*line[: len(line) - len(sys.argv) + 1], *arguments]
