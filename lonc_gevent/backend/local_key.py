# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that proves to a lond of this machine that we are of this machine (protocol.md, 3c).

We write a key into a file that only our user can read, and tell lond its name; lond reads and
removes it. Made exclusively, mode 0600, under a name nobody can guess, and gone when the
handshake is over, whatever came of it. What a killed daemon left goes at the next start.

All of it is four system calls on a local directory, some 50 us in all. So it is done at once, in
the greenlet that shakes hands: a thread would cost more, and waiting for one takes gevent
primitives that cannot stand the plain switches of a lond connection's greenlet.
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
"""What the names begin with; no host id and no file of others in a socket directory does."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def key_file(directory: str) -> Iterator[LocalKey]:
    """Make a key file with a fresh key; it is gone at the end.

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
            os.unlink(path)  # noqa: PTH108 - a str is all it takes


def remove_left_over(directory: Path) -> int:
    """Remove the key files that a killed daemon left; return how many.

    Those of another daemon at work, another shard maybe, stay: their names tell its pid. Must be
    called before the first handshake: our own are of the program that we were before an exec.
    """
    removed = 0
    for path in directory.glob(PREFIX + "*"):
        if _is_at_work(path.name.removeprefix(PREFIX).partition(".")[0]):
            continue
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _is_at_work(pid: str) -> bool:
    """Say whether that is the pid of another process."""
    if not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
