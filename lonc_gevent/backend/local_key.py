# SPDX-License-Identifier: GPL-2.0-or-later
"""Key files, which prove to a lond of this machine that lonc runs on it, too (protocol.md, 3c).

lonc writes a key into a file that only its user can read, and sends the file's name; lond reads and
removes the file. The file is created exclusively, with mode 0600, under a random name. It is
removed after the handshake, also after one that failed. The next start removes the files of a
killed daemon.

This takes four system calls on a local directory, so it is done in the greenlet that shakes hands.
A thread would cost more, and gevent's primitives to wait for one do not support the plain switches
of a lond connection's greenlet.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from lonc_gevent.errors import KeyFileError
from lonc_gevent.protocol.cipher import KEY_BYTES
from lonc_gevent.protocol.handshake import LocalKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX: Final = ".lonc-key."
"""Prefix of the names. No host id and no other file in a socket directory begins with it."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def key_file(directory: str) -> Iterator[LocalKey]:
    """Make a key file with a new key; remove it at the end of the context.

    Raises KeyFileError if it cannot be made.
    """
    key = secrets.token_bytes(KEY_BYTES)
    path = f"{directory}/{PREFIX}{os.getpid()}.{secrets.token_hex(16)}"
    try:
        try:
            descriptor = os.open(path, _FLAGS, 0o600)
            try:
                os.write(descriptor, key.hex().encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = f"no key file in {directory}: {error.strerror}"
            raise KeyFileError(reason) from None
        yield LocalKey(path, key)
    finally:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - the path is a str


def remove_left_over(directory: Path) -> int:
    """Remove the key files that a killed daemon left; return how many.

    Keeps those of another running daemon, such as another shard, whose names hold its pid. Must
    be called before the first handshake, as it removes those with our own pid, which are from
    before an exec.
    """
    removed = 0
    for path in directory.glob(PREFIX + "*"):
        if _is_another_process(path.name.removeprefix(PREFIX).partition(".")[0]):
            continue
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _is_another_process(pid: str) -> bool:
    """Return whether this is the pid of another process that runs."""
    if not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
