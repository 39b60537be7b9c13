# SPDX-License-Identifier: GPL-2.0-or-later
"""The delayed directory as the file system sees it: opened once, checked, and locked.

All names are looked up from its descriptor, and no symbolic link is followed: neither the last
part of the directory's own path, nor anything in it. What must survive a crash is synced: first
the file, then the directory that names it. Every function here blocks: call it in a thread.

    <time>.<count>.<pid>.<middle>.<host id>   a delayed request
    .new.*                                    a file that is being written or sealed
    .lonc.lock                                held by the daemon that replays
    .notes/NAME                               attempts so far, and the reason of the quarantine
    quarantine/NAME                           a file that cannot be sent
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import SpoolError

from .files import (
    DIRECTORY,
    MAKE,
    READ,
    as_spool_error,
    exists,
    free_name,
    identity,
    open_folder,
    read_open,
    take_lock,
)
from .requests import QUARANTINE, UNFINISHED_PREFIX, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTES: Final = ".notes"

MAX_NOTE: Final = 100


def prepare(directory: Path, gid: int = -1) -> None:
    """Create the delayed directory if it is missing, writable for group `gid` unless that is -1.

    A directory of ours that its group may write to gets the sticky bit: then a member of the group
    cannot rename or remove the files of another. A failure does not keep the daemon from starting;
    it is reported when the directory is opened.
    """
    with suppress(OSError):
        made = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory, DIRECTORY)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid():
                return
            if made and gid >= 0:
                os.fchown(fd, -1, gid)
                os.fchmod(fd, 0o1770)  # nosec B103 # the group of the web processes writes here
            elif status.st_mode & stat.S_IWGRP:
                os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_ISVTX)
        finally:
            os.close(fd)


class SpoolDirectory:
    """The open directory."""

    def __init__(self, path: Path, uids: frozenset[int], *, lock: str | None = LOCK_NAME) -> None:
        """Open the directory, check it, and lock it.

        uids  users that may own it, beside ours and root
        lock  name of the lock file, or None to take no lock, as the commands do

        Raises SpoolError if it cannot be used, or another daemon replays it.
        """
        self.path = path
        self._owners = uids | {os.geteuid(), 0}
        self._names = count()
        self._inside: dict[str, tuple[int, int]] = {}
        self._lock_fd: int | None = None
        with ExitStack() as opened, as_spool_error():
            self._open = opened
            self.fd = self._keep(_open_directory(path))
            self.check()
            if lock is not None:
                self._lock_fd = self._keep(take_lock(lock, self.fd), lock)
            self.quarantine_fd = self._keep(open_folder(QUARANTINE, self.fd), QUARANTINE)
            self.notes_fd = self._keep(open_folder(NOTES, self.fd), NOTES)
            self._open = opened.pop_all()

    def __repr__(self) -> str:
        return f"<SpoolDirectory {self.path}>"

    def close(self) -> None:
        """Close all descriptors, which releases the lock. May be called twice."""
        self._open.close()

    def unlock(self) -> None:
        """Release the lock only."""
        if self._lock_fd is not None:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _keep(self, fd: int, name: str = "") -> int:
        """Keep a descriptor until `close`; let `check` compare the file of that name with it."""
        self._open.callback(os.close, fd)
        if name:
            self._inside[name] = identity(os.fstat(fd))
        return fd

    def check(self) -> None:
        """Check that the directory is still at its path, is trustworthy, and can be written to.

        The folders and the lock that are open must still be in it, too. Raises SpoolError.
        """
        with as_spool_error():
            info = os.fstat(self.fd)
            there = self.path.lstat()
            writable = os.access(".", os.W_OK | os.X_OK, dir_fd=self.fd, effective_ids=True)
        if identity(there) != identity(info):
            raise SpoolError("another directory is at its path now")
        if info.st_uid not in self._owners:
            raise SpoolError(f"owned by uid {info.st_uid}, which is not ours and not in allow_uids")
        if info.st_mode & stat.S_IWOTH:
            raise SpoolError("writable by all users")
        if not writable:
            if os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
                raise SpoolError("its file system is read-only")
            raise SpoolError(_no_access(info))
        for name, known in self._inside.items():
            with as_spool_error():
                try:
                    now = identity(self.status(name))
                except FileNotFoundError:
                    now = None
            if now != known:
                raise SpoolError(f"its {name} was removed or replaced")

    def check_removal(self, file: os.stat_result | None) -> None:
        """Check that the sticky bit does not keep us from removing this file. Raises SpoolError."""
        info, uid = os.fstat(self.fd), os.geteuid()
        others = file is not None and uid not in (0, info.st_uid, file.st_uid)
        if others and info.st_mode & stat.S_ISVTX:
            raise SpoolError(f"its sticky bit lets only uid {info.st_uid} remove others' files")

    # -- files -------------------------------------------------------------------------------

    def entries(self, folder: str = ".") -> Iterator[os.DirEntry[str]]:
        """Yield the entries of the directory, or of a folder in it, in no order."""
        fd = os.open(folder, DIRECTORY, dir_fd=self.fd)
        try:
            with os.scandir(fd) as found:
                yield from found
        finally:
            os.close(fd)

    def status(self, name: str) -> os.stat_result:
        """Return the status of a file or a symbolic link. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def replace(self, name: str, new: str, status: os.stat_result) -> bool:
        """Rename the file `new` to `name`, which has this status; return False if it has changed.

        Raises OSError.
        """
        try:
            now = self.status(name)
        except FileNotFoundError:
            return False
        if (now.st_ino, now.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            return False
        os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        return True

    def folder(self, *, quarantined: bool) -> int:
        """Return the descriptor of the quarantine, or of the directory itself."""
        return self.quarantine_fd if quarantined else self.fd

    def read(self, name: str, folder: int, limit: int) -> bytes:
        """Return at most `limit` bytes of a file, b"" if it is not a regular one. Raises OSError.

        folder  descriptor of the directory that the file is in
        """
        fd = os.open(name, READ, dir_fd=folder)
        try:
            return read_open(fd, limit) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)

    def write_new(self, data: bytes, folder: int, times: tuple[int, int] | None = None) -> str:
        """Write a synced file with a new name, and return the name. Raises OSError.

        folder  descriptor of the directory that the file is created in
        times   access and modification time to set, in nanoseconds
        """
        name = f"{UNFINISHED_PREFIX}{os.getpid()}.{next(self._names)}"
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        fd = os.open(name, MAKE, 0o600, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                os.fchmod(fd, 0o600)  # whatever the umask is
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                if times is not None:
                    os.utime(fd, ns=times)
                os.fsync(fd)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
        return name

    def remove(self, name: str) -> None:
        """Remove a file, unless it is already gone, and sync the directory. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)
        os.fsync(self.fd)

    def quarantine(self, name: str, note: Note) -> None:
        """Move a file to quarantine. Raises OSError; FileNotFoundError if it is gone.

        If the quarantine has a file of that name, this one gets a number before its name, `2~NAME`.
        """
        target = free_name(name, self.quarantine_fd)
        with suppress(OSError):  # on a full disk the file is moved without its note
            self.write_note(target, note)
        os.rename(name, target, src_dir_fd=self.fd, dst_dir_fd=self.quarantine_fd)
        os.fsync(self.quarantine_fd)
        os.fsync(self.fd)
        if target != name:
            self.forget(name)

    def take_back(self, name: str, target: str) -> None:
        """Move a file out of quarantine, and remove its note. Raises OSError."""
        if exists(target, self.fd):
            raise FileExistsError
        self.forget(name)
        os.rename(name, target, src_dir_fd=self.quarantine_fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)
        os.fsync(self.quarantine_fd)

    def discard(self, name: str, folder: int) -> None:
        """Remove a file, or an empty folder, that an operator does not want. Raises OSError."""
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder)
        os.fsync(folder)

    # -- notes -------------------------------------------------------------------------------

    def note(self, name: str) -> Note:
        """Return the note about a file; an empty one if there is none or it cannot be read."""
        try:
            return Note.from_bytes(self.read(name, self.notes_fd, MAX_NOTE))
        except OSError:
            return Note()

    def write_note(self, name: str, note: Note) -> None:
        """Write the note about a file. Raises OSError."""
        new = self.write_new(note.to_bytes(), self.notes_fd)
        os.rename(new, name, src_dir_fd=self.notes_fd, dst_dir_fd=self.notes_fd)
        os.fsync(self.notes_fd)

    def forget(self, name: str) -> None:
        """Remove the note about a file, if there is one."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.notes_fd)

    def forget_strays(self) -> None:
        """Remove the notes about files that no longer exist. Raises OSError."""
        for entry in self.entries(NOTES):
            name = entry.name
            if not exists(name, self.fd) and not exists(name, self.quarantine_fd):
                self.forget(name)


def _open_directory(path: Path) -> int:
    try:
        return os.open(path, DIRECTORY)
    except PermissionError:
        raise SpoolError(_no_access(path.lstat())) from None


def _no_access(status: os.stat_result) -> str:
    """Return why the daemon cannot use the directory, and how to correct it."""
    mode = stat.S_IMODE(status.st_mode)
    owner = f"uid {status.st_uid}, gid {status.st_gid}, mode {mode:04o}"
    return f"uid {os.geteuid()} may not write to it ({owner}): chown it, or chgrp and chmod 0770"
