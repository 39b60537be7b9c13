# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a delayed request on disk: claim, done, note an attempt, quarantine, seal.

The order within each step keeps a request from being lost, or sent without need:

- done: after lond's whole reply the file is unlinked, the directory synced, the S line written;
- seal: a new file is written and synced, then renamed over the clear one, then synced;
- quarantine: the note is written, then the file renamed, then both directories synced;
- note an attempt: after the connection was lost, so a daemon that dies counts no attempt.

Every function here blocks. Two threads use a spool: one scans the directory (scan.py), one serves
the replay. `_names` is held where both could change the same name.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.configuration.accounts import user_ids
from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import SpoolError
from lonc_gevent.protocol.lines import encrypted_part

from .directory import SpoolDirectory
from .files import exists
from .inspection import Inspector
from .requests import QUARANTINE, Note, Verdict, is_housekeeping, name_before
from .seal import NONCE_BYTES

if TYPE_CHECKING:
    from lonc_gevent.configuration.settings import Settings

    from .inspection import Inspected
    from .seal import SealKey


class Claim(NamedTuple):
    """A file whose turn has come: its inspection, and the attempts that have failed."""

    found: Inspected
    attempts: int


class Spool:
    """The delayed directory of one daemon, or of a command.

    path    the directory
    uids    the users whose files are sent, beside our own (sockets.allow_uids)
    settle  age in seconds from which a file is read
    key     seals and opens requests that are to be encrypted; without it they stay in clear
    lock    name of the lock file in the directory, or None to take no lock
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
        self.inspector = Inspector(uids, settle, key)
        self.cancelled = False
        """Set by a daemon that stops: a scan ends soon."""
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
            raise SpoolError("not open")
        return self._directory

    def open(self) -> bool:
        """Open the directory, or check that it can still be used; return whether it was opened.

        Raises SpoolError if it cannot be used now. Then it is closed.
        """
        with self._opening:
            if self._directory is not None:
                try:
                    self._directory.check()
                except SpoolError:
                    self._shut()
                else:
                    return False
            self._directory = SpoolDirectory(self.path, self.inspector.uids, lock=self._lock)
            return True

    def close(self) -> None:
        """Stop using the directory, and release its lock."""
        with self._opening:
            self._shut()

    def _shut(self) -> None:
        # The other thread may be using its descriptors: they are closed the next time.
        if self._retired is not None:
            self._retired.close()
        self._retired, self._directory = self._directory, None
        if self._retired is not None:
            self._retired.unlock()

    # -- the steps ---------------------------------------------------------------------------

    def inspect(self, name: str, max_bytes: int, now: float) -> Inspected:
        """Inspect a file; `max_bytes` is the longest request line. Never raises OSError.

        Raises SpoolError if the directory is not open, or no file can be inspected now.
        """
        return self.inspector.inspect(self.directory, name, max_bytes, now)

    def claim(self, name: str, max_bytes: int, now: float) -> Claim:
        """Inspect the file whose turn has come.

        Raises SpoolError if it could not be removed later, or no file can be inspected now.
        """
        self.directory.check()
        found = self.inspect(name, max_bytes, now)
        if found.verdict is not Verdict.READY:
            return Claim(found, 0)
        self.directory.check_removal(found.status)
        return Claim(found, self.directory.note(name).attempts)

    def done(self, name: str, *, noted: bool) -> None:
        """Remove a file whose request was answered. Raises OSError, SpoolError.

        noted: whether it has a note to remove.
        """
        directory = self.directory
        with self._names:
            directory.remove(name)
        if noted:
            directory.forget(name)

    def note_attempt(self, name: str, attempts: int) -> None:
        """Write down the number of failed attempts. Raises OSError, SpoolError."""
        self.directory.write_note(name, Note(attempts))

    def quarantine(self, name: str, reason: str, attempts: int = 0) -> bool:
        """Quarantine a file; return False if it is gone. Raises OSError, SpoolError."""
        directory = self.directory
        with self._names:
            try:
                directory.quarantine(name, Note(attempts, reason))
            except FileNotFoundError:
                if exists(name, directory.fd):
                    raise SpoolError(f"its {QUARANTINE} was removed") from None
                return False
        return True

    def needs_seal(self, found: Inspected) -> bool:
        """Return whether the file is to be sealed."""
        return (
            self.inspector.key is not None
            and found.verdict is Verdict.READY
            and not found.sealed
            and encrypted_part(found.request) > 0
        )

    def seal(self, name: str, found: Inspected) -> bool:
        """Seal a file in place; return False if it has changed. Raises OSError, SpoolError."""
        directory, key, status = self.directory, self.inspector.key, found.status
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

    # -- steps that an operator requests -----------------------------------------------------

    def find(self, name: str) -> bool:
        """Return whether the file is in quarantine. Raises FileNotFoundError if it is nowhere."""
        if is_housekeeping(name) or "/" in name:
            raise FileNotFoundError
        if exists(name, self.directory.quarantine_fd):
            return True
        self.directory.status(name)
        return False

    def retry(self, name: str) -> str:
        """Take a file out of quarantine, or forget the attempts of a waiting one.

        Returns the name under which it waits, without the number that it got in quarantine.
        Raises OSError; FileExistsError if another file of that name waits.
        """
        if self.find(name):
            target = name_before(name)
            self.directory.take_back(name, target)
            return target
        self.directory.forget(name)
        return name

    def discard(self, name: str) -> None:
        """Remove a file for good. Raises OSError."""
        folder = self.directory.folder(quarantined=self.find(name))
        self.directory.forget(name)
        self.directory.discard(name, folder)


def spool_of(settings: Settings, key: SealKey | None, *, lock: str | None) -> Spool:
    """Return the spool of a configuration."""
    uids = user_ids(settings.sockets.allow_uids)
    directory, settle = Path(settings.delayed.directory), settings.delayed.settle
    return Spool(directory, uids=uids, settle=settle, key=key, lock=lock)
