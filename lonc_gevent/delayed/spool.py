# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests on disk: claim one, seal it, remove it once answered, put it away.

The order of steps is what keeps a request from being lost, or sent without need:

- deliver: lond's whole reply, then unlink, then the directory synced, then the S line;
- seal: a new file written and synced, then renamed over the clear one, then synced;
- quarantine: the note why, then the rename, then both directories synced;
- attempt: the note is written after a connection was lost, so a daemon that dies counts nothing.

Everything here blocks and may run in two threads: one looks through the directory (scan.py),
one serves the replay. Where both could meet on one name, `_names` is held.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import SpoolError
from lonc_gevent.protocol.lines import encrypted_part

from .directory import SpoolDirectory
from .files import exists
from .inspection import Looker
from .requests import QUARANTINE, Note, Verdict, completed_line, is_housekeeping, name_before
from .seal import NONCE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from .inspection import Found
    from .seal import SealKey


class Claim(NamedTuple):
    """A file whose turn has come: what was found, and the connections that it has cost."""

    found: Found
    attempts: int


class Spool:
    """The delayed directory of one daemon, or of a command.

    path    the directory
    uids    the users whose files are sent, beside our own (sockets.allow_uids)
    settle  seconds that a file must be left alone
    key     seals and opens requests that are to be encrypted; None: they stay in clear
    lock    name of the lock file in the directory; None: none is taken
    """

    def __init__(
        self,
        path: Path,
        *,
        uids: frozenset[int] = frozenset(),
        settle: float,
        key: SealKey | None = None,
        lock: str | None = LOCK_NAME,
    ) -> None:
        self.path = path
        self.settle = settle
        self.key = key
        self.cancelled = False
        """Set by the daemon that stops: long work ends soon."""
        self._uids = uids
        self._looker = Looker(uids, settle, key)
        self._lock = lock
        self._directory: SpoolDirectory | None = None
        self._retired: SpoolDirectory | None = None
        self._names = threading.Lock()
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"<Spool {self.path} {'open' if self._directory else 'closed'}>"

    # -- the directory -----------------------------------------------------------------------

    @property
    def directory(self) -> SpoolDirectory:
        """The open directory. Raises SpoolError if it is not open."""
        if self._directory is None:
            raise SpoolError("it is not open")
        return self._directory

    def open(self) -> bool:
        """Open the directory, or see that it is still good; say whether it is newly opened.

        Raises SpoolError if it can't be used now. Then it is closed.
        """
        with self._opening:
            if self._directory is not None:
                try:
                    self._directory.check()
                except SpoolError:
                    self._shut()
                else:
                    return False
            self._directory = SpoolDirectory(self.path, self._uids, lock=self._lock)
            return True

    def close(self) -> None:
        """Give up the directory and its lock."""
        with self._opening:
            self._shut()

    def _shut(self) -> None:
        # The other thread may be using it: its descriptors are closed the next time.
        if self._retired is not None:
            self._retired.close()
        self._retired, self._directory = self._directory, None
        if self._retired is not None:
            self._retired.unlock()

    # -- looking -----------------------------------------------------------------------------

    def look(self, name: str, max_bytes: int, now: float) -> Found:
        """Look at a file; `max_bytes` is the longest request line. Never raises OSError.

        Raises SpoolError if the directory is not open, or nothing can be said of the file now.
        """
        return self._looker.look(self.directory, name, max_bytes, now)

    def unseal(self, name: str, data: bytes) -> bytes:
        """Return the request line of a sealed file. Raises UnsealError."""
        return self._looker.unseal(name, data)

    def claim(self, name: str, max_bytes: int, now: float) -> Claim:
        """Look at the file whose turn has come.

        Raises SpoolError if it could not be removed, or nothing can be said of it now.
        """
        self.directory.check()
        found = self.look(name, max_bytes, now)
        attempts = self.directory.note(name).attempts if found.verdict is Verdict.READY else 0
        if found.verdict is Verdict.READY:
            self.directory.check_removal(found.status)
        return Claim(found, attempts)

    # -- acting ------------------------------------------------------------------------------

    def done(self, name: str, *, noted: bool) -> None:
        """Remove a file whose request was answered. Raises OSError, SpoolError.

        noted: whether there are attempts to forget.
        """
        directory = self.directory
        with self._names:
            directory.remove(name)
        if noted:
            directory.forget(name)

    def note_attempt(self, name: str, attempts: int) -> None:
        """Remember the connections that a file has cost. Raises OSError, SpoolError."""
        self.directory.write_note(name, Note(attempts))

    def quarantine(self, name: str, reason: str, attempts: int = 0) -> bool:
        """Put a file away; False if it is gone. Raises OSError, SpoolError."""
        directory = self.directory
        with self._names:
            try:
                directory.put_away(name, Note(attempts, reason))
            except FileNotFoundError:
                if exists(name, directory.fd):
                    raise SpoolError(f"its {QUARANTINE} was removed") from None
                return False
        return True

    def needs_seal(self, found: Found) -> bool:
        """Say whether the file is to be sealed."""
        return (
            self.key is not None
            and found.verdict is Verdict.READY
            and not found.sealed
            and encrypted_part(found.request) > 0
        )

    def seal(self, name: str, found: Found) -> bool:
        """Seal a file in place; False if it changed meanwhile. Raises OSError, SpoolError."""
        directory, key, status = self.directory, self.key, found.status
        if key is None or status is None:
            return False
        line = key.seal(found.request, os.fsencode(name), os.urandom(NONCE_BYTES))
        new = directory.write_new(line, directory.fd, (status.st_atime_ns, status.st_mtime_ns))
        with self._names:
            replaced = directory.replace(name, new, status)
        if not replaced:
            with suppress(OSError):
                os.unlink(new, dir_fd=directory.fd)
            return False
        os.fsync(directory.fd)
        return True

    # -- what a person asks for --------------------------------------------------------------

    def find(self, name: str) -> bool:
        """Say whether the file is in quarantine. Raises FileNotFoundError if there is none."""
        if is_housekeeping(name) or "/" in name:
            raise FileNotFoundError
        if exists(name, self.directory.quarantine_fd):
            return True
        if not exists(name, self.directory.fd):
            raise FileNotFoundError
        return False

    def retry(self, name: str) -> str:
        """Take a file out of quarantine, or forget the attempts of a waiting one.

        Returns the name under which it waits: a number put before it in quarantine is gone.
        Raises OSError; FileExistsError if another file of that name waits.
        """
        if self.find(name):
            target = name_before(name)
            self.directory.put_back(name, target)
            return target
        self.directory.forget(name)
        return name

    def discard(self, name: str) -> None:
        """Remove a file for good. Raises OSError."""
        quarantined = self.find(name)
        self.directory.forget(name)
        self.directory.discard(name, quarantined=quarantined)


def record(perm_log: str, host: str, request: bytes) -> str:
    """Append the line of a completed request to lonnet.perm.log, which others write to as well.

    Returns why that failed, "" if it did not, or if `perm_log` is "".
    """
    if not perm_log:
        return ""
    line = completed_line(time.time(), host, request)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(perm_log, flags, 0o600)
        try:
            written = os.write(fd, line)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or type(error).__name__
    return "" if written == len(line) else "only part of a line could be written"
