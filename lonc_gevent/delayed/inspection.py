# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at one file of the delayed directory: whether it can be trusted, and what it holds.

The file is opened first, and all that is said of it is said of that descriptor: who can write to
the directory may put another file in its place at any moment, but not in place of an open one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import SpoolError, UnsealError

from .files import read_open
from .requests import UNFINISHED_AGE, Verdict, age_of, judge, name_before
from .seal import is_sealed, sealed_size

if TYPE_CHECKING:
    from .directory import SpoolDirectory
    from .seal import SealKey


_OF_THE_FILE = frozenset(
    {
        errno.ELOOP,  # a link
        errno.ENXIO,  # a socket, a device that is not there
        errno.ENODEV,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,  # its place on the disk cannot be read
        errno.ESTALE,  # a file server has lost it
    }
)
"""What an error says of this one file. All else, such as having no descriptor left, says something
of us or of the machine, and nothing against the file."""


class Found(NamedTuple):
    """What a look at a file found.

    reason   why it is BAD, in one word; why it is UNREADABLE, in the system's words
    request  the request line in clear, for READY
    sealed   whether it is sealed on disk
    status   what the file system says, None for GONE
    age      seconds since it was last written; below zero if its times lie ahead of the clock, and
             it is not ours to mend them
    """

    verdict: Verdict
    reason: str = ""
    request: bytes = b""
    sealed: bool = False
    status: os.stat_result | None = None
    age: float = 0.0


class Looker:
    """Looks at files.

    uids    the users whose files are sent, beside our own
    settle  seconds that a file must be left alone
    key     opens what is sealed; None: it stays shut
    """

    def __init__(self, uids: frozenset[int], settle: float, key: SealKey | None) -> None:
        self._uids = uids
        self._settle = settle
        self._key = key

    def look(self, directory: SpoolDirectory, name: str, max_bytes: int, now: float) -> Found:
        """Look at a file; `max_bytes` is the longest request line.

        Raises SpoolError if nothing can be said of it now, and never OSError.
        """
        try:
            fd = directory.open_file(name)
        except OSError as error:
            return self._unopened(directory, name, now, error)
        try:
            found = self._outside(os.fstat(fd), now)
            if found.age < 0:
                return _mended(found, fd)
            if found.verdict is not Verdict.READY:
                return found
            data = read_open(fd, sealed_size(max_bytes) + 1)
        except OSError as error:
            return _unreadable(error)
        finally:
            os.close(fd)
        return self._inside(found, name, data, max_bytes)

    def unseal(self, name: str, data: bytes) -> bytes:
        """Return the request line of a sealed file. Raises UnsealError."""
        if self._key is None:
            raise UnsealError("no_key")
        return self._key.open(data, os.fsencode(name_before(name)))

    def _unopened(self, directory: SpoolDirectory, name: str, now: float, error: OSError) -> Found:
        """Look at what does not open: a link, a socket, a file whose mode is its owner's."""
        if isinstance(error, FileNotFoundError):
            return Found(Verdict.GONE)
        unreadable = _unreadable(error)
        try:
            found = self._outside(directory.status(name), now)
            if found.age < 0:
                return _mended(found, name, directory.fd)
        except FileNotFoundError:
            return Found(Verdict.GONE)
        except OSError as error_of_status:
            return _unreadable(error_of_status)
        # Who wrote it is trusted, and meant it to be sent; its mode or group can be mended.
        return unreadable if found.verdict is Verdict.READY else found

    def _outside(self, status: os.stat_result, now: float) -> Found:
        """Judge by what the file system says: YOUNG, BAD, or READY to be read.

        An age below zero: the clock was set back (see `_mended`).
        """
        age = age_of(now, status.st_mtime, status.st_ctime)
        if age is None:
            return Found(Verdict.YOUNG, status=status, age=now - status.st_mtime)
        if age < self._settle:
            return Found(Verdict.YOUNG, status=status, age=age)
        reason = self._distrust(status)
        verdict = Verdict.BAD if reason else Verdict.READY
        return Found(verdict, reason, status=status, age=age)

    def _distrust(self, status: os.stat_result) -> str:
        if not stat.S_ISREG(status.st_mode):
            return "no_regular_file"
        if status.st_uid != os.geteuid() and status.st_uid not in self._uids:
            return "foreign_owner"
        if status.st_mode & stat.S_IWOTH:
            return "writable_by_others"
        return ""

    def _inside(self, found: Found, name: str, data: bytes, max_bytes: int) -> Found:
        """Judge by what a trusted file holds."""
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
        return Found(verdict, reason, request, sealed, found.status, found.age)


def _unreadable(error: OSError) -> Found:
    """Tell what an error says of a file. Raises SpoolError if it says nothing."""
    reason = error.strerror or type(error).__name__
    if error.errno not in _OF_THE_FILE:
        raise SpoolError(reason) from None
    return Found(Verdict.UNREADABLE, reason)


def _mended(found: Found, file: int | str, folder: int | None = None) -> Found:
    """Give a file whose times lie ahead the time that it is now: it settles from here on.

    A file of another user stays as it is: the replay of its host watches whether it changes. Raises
    OSError.
    """
    try:
        os.utime(file, dir_fd=folder, follow_symlinks=folder is None)
    except PermissionError:
        return found
    return found._replace(age=0.0)
