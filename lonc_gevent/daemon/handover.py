# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restart in place hands from the old program to the new one, in the same process.

The kernel keeps descriptors open over an exec: those of the listening sockets, of clients between
two requests, of the lock. What they are is written down as JSON in a file in memory, whose own
descriptor is named in the environment. A program of another version may read it: fields are only
ever added, and what it does not know it leaves aside.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "LONC_HANDOVER"
"""The environment variable that tells the new program which descriptor to read."""

CHUNK = 1024 * 1024


class Socket(Struct, frozen=True):
    """A listening Unix socket. `inode` is that of its file at `path`."""

    path: str
    fd: int
    inode: int


class Guest(Struct, frozen=True):
    """A client between two requests. `unread` is what it said of its next one."""

    host: str
    fd: int
    unread: bytes = b""


class Handover(Struct, frozen=True):
    """All that is handed over.

    locks     descriptors of the lock files of the socket directory
    pid_file  the pid file that is written; "": none
    admin     the file of the admin socket, on which nobody listens any more; "": none
    """

    locks: tuple[int, ...] = ()
    sockets: tuple[Socket, ...] = ()
    clients: tuple[Guest, ...] = ()
    pid_file: str = ""
    admin: str = ""

    def descriptors(self) -> Iterator[int]:
        """Yield all descriptors in it."""
        yield from self.locks
        yield from (socket.fd for socket in self.sockets)
        yield from (guest.fd for guest in self.clients)


def take() -> Handover:
    """Take what the program before us in this process left; an empty one if it is the first.

    All descriptors in it are the caller's, and end with the next exec.
    Raises msgspec.DecodeError if it is none of ours.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return Handover()
    with os.fdopen(int(number), "rb") as file:
        handover = msgspec.json.decode(file.read(), type=Handover)
    for fd in handover.descriptors():
        os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keyword
    return handover


def exec_again(handover: Handover, before: Callable[[], None]) -> NoReturn:
    """Start this program anew in this process, and hand over.

    before: called as the last thing of all, when there is no more to be prepared.

    Raises OSError if that does not go; then all descriptors are as they were.
    """
    state = os.memfd_create("lonc-handover", 0)
    try:
        with open(state, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(handover))
        os.lseek(state, 0, os.SEEK_SET)
        for fd in handover.descriptors():
            os.set_inheritable(fd, True)  # noqa: FBT003 - it takes no keyword
        before()
        environment = {**os.environ, VARIABLE: str(state)}
        os.execve(sys.executable, command_line(), environment)  # noqa: S606 - ourselves # nosec B606
    finally:
        # Only if it failed.
        for fd in handover.descriptors():
            os.set_inheritable(fd, False)  # noqa: FBT003 - it takes no keyword
        os.close(state)


def command_line(*arguments: str) -> list[str]:
    """Return the command line that this program was started with.

    With arguments: the same program and the same way to start it, with these ones.
    """
    # The interpreter by its full path: from a bare name Python might find another environment.
    line = [sys.executable, *sys.orig_argv[1:]]
    if not arguments:
        return line
    return [*line[: len(line) - len(sys.argv) + 1], *arguments]
