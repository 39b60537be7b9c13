# SPDX-License-Identifier: GPL-2.0-or-later
"""Inspection of one file of the delayed directory: whether it can be trusted, and what it holds.

The file is opened first, and everything is read from that descriptor: a user who can write to the
directory may replace the file at any moment, but cannot replace an open one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import SpoolError, UnsealError

from .files import READ, read_open, reason_of
from .requests import UNFINISHED_AGE, Verdict, age_of, judge, name_before
from .seal import is_sealed, sealed_size

if TYPE_CHECKING:
    from .directory import SpoolDirectory
    from .seal import SealKey


_OF_THE_FILE = frozenset(
    {
        errno.ELOOP,  # a link
        errno.ENXIO,  # a socket, a device that does not exist
        errno.ENODEV,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,  # a bad block of the disk
        errno.ESTALE,  # lost by a file server
    }
)
"""Errors that concern this one file. Any other, such as EMFILE, concerns the daemon or the machine,
and is no reason to reject the file."""


class Inspected(NamedTuple):
    """The result of an inspection.

    reason   for BAD: a short name; for UNREADABLE: the system's text
    request  for READY: the request line in clear
    sealed   whether it is sealed on disk
    status   the file's status, None for GONE
    age      seconds since the file was last written; below zero if its times are later than the
             clock, and the daemon may not change them
    """

    verdict: Verdict
    reason: str = ""
    request: bytes = b""
    sealed: bool = False
    status: os.stat_result | None = None
    age: float = 0.0


class Inspector(NamedTuple):
    """The rules of an inspection.

    uids    the users whose files are sent, beside our own
    settle  age in seconds from which a file is read
    key     opens sealed files; without it they are BAD
    """

    uids: frozenset[int]
    settle: float
    key: SealKey | None

    def inspect(
        self, directory: SpoolDirectory, name: str, max_bytes: int, now: float
    ) -> Inspected:
        """Inspect a file; `max_bytes` is the longest request line.

        Raises SpoolError if no file can be inspected now, and never OSError.
        """
        try:
            fd = os.open(name, READ, dir_fd=directory.fd)
        except OSError as error:
            return self._inspect_unopened(directory, name, now, error)
        try:
            found = self._inspect_status(os.fstat(fd), now)
            if found.age < 0:
                return _corrected(found, fd)
            if found.verdict is not Verdict.READY:
                return found
            data = read_open(fd, sealed_size(max_bytes) + 1)
        except OSError as error:
            return _unreadable(error)
        finally:
            os.close(fd)
        return self._inspect_content(found, name, data, max_bytes)

    def unseal(self, name: str, data: bytes) -> bytes:
        """Return the request line of a sealed file. Raises UnsealError."""
        if self.key is None:
            raise UnsealError("no_key")
        return self.key.open(data, os.fsencode(name_before(name)))

    def _inspect_unopened(
        self, directory: SpoolDirectory, name: str, now: float, error: OSError
    ) -> Inspected:
        """Inspect what cannot be opened: a link, a socket, a file that only its owner may read."""
        if isinstance(error, FileNotFoundError):
            return Inspected(Verdict.GONE)
        unreadable = _unreadable(error)
        try:
            found = self._inspect_status(directory.status(name), now)
            if found.age < 0:
                return _corrected(found, name, directory.fd)
        except FileNotFoundError:
            return Inspected(Verdict.GONE)
        except OSError as error_of_status:
            return _unreadable(error_of_status)
        # Its owner is trusted, and meant it to be sent: its mode or group can be corrected.
        return unreadable if found.verdict is Verdict.READY else found

    def _inspect_status(self, status: os.stat_result, now: float) -> Inspected:
        """Return YOUNG, BAD, or READY to be read."""
        age = age_of(now, status.st_mtime, status.st_ctime)
        if age < self.settle:
            return Inspected(Verdict.YOUNG, status=status, age=age)
        if not stat.S_ISREG(status.st_mode):
            reason = "no_regular_file"
        elif status.st_uid != os.geteuid() and status.st_uid not in self.uids:
            reason = "foreign_owner"
        elif status.st_mode & stat.S_IWOTH:
            reason = "writable_by_others"
        else:
            return Inspected(Verdict.READY, status=status, age=age)
        return Inspected(Verdict.BAD, reason, status=status, age=age)

    def _inspect_content(
        self, found: Inspected, name: str, data: bytes, max_bytes: int
    ) -> Inspected:
        """Return the verdict on a trusted file with this content."""
        sealed = is_sealed(data)
        if sealed:
            try:
                data = self.unseal(name, data)
            except UnsealError as error:
                return found._replace(verdict=Verdict.BAD, reason=error.kind, sealed=True)
        verdict, reason = judge(data, max_bytes)
        if verdict is Verdict.UNFINISHED and found.age >= UNFINISHED_AGE:
            verdict, reason = Verdict.BAD, "unfinished"
        request = data if verdict is Verdict.READY else b""
        return Inspected(verdict, reason, request, sealed, found.status, found.age)


def _unreadable(error: OSError) -> Inspected:
    """Return UNREADABLE for an error of the file; raise SpoolError for any other."""
    if error.errno not in _OF_THE_FILE:
        raise SpoolError(reason_of(error)) from None
    return Inspected(Verdict.UNREADABLE, reason_of(error))


def _corrected(found: Inspected, file: int | str, folder: int | None = None) -> Inspected:
    """Set the times of a file that are later than the clock to now, so that it can settle.

    The times of another user's file stay as they are: the replay of its host watches whether it
    changes. Raises OSError.
    """
    try:
        os.utime(file, dir_fd=folder, follow_symlinks=folder is None)
    except PermissionError:
        return found
    return found._replace(age=0.0)
