# SPDX-License-Identifier: GPL-2.0-or-later
"""The delayed directory as the file system sees it: opened once, checked, and locked.

All names are looked up from its descriptor, and no symbolic link is followed: neither the last
part of the directory's own path, nor anything in it. What must survive a crash is synced: first
the file, then the directory that names it. Everything here blocks: call it in a thread.

    <time>.<count>.<pid>.<middle>.<host id>   a delayed request
    .new.*                                    one that is being written, or sealed
    .lonc.lock                                held by the daemon that replays
    .notes/NAME                               attempts so far, and why it is in quarantine
    quarantine/NAME                           what will not be sent
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from lonc_gevent.configuration.settings import LOCK_NAME
from lonc_gevent.errors import SpoolError

from .files import (
    DIRECTORY,
    MAKE,
    READ,
    exists,
    free_name,
    identity,
    open_folder,
    read_open,
    reason_of,
    take_lock,
)
from .requests import QUARANTINE, UNFINISHED_PREFIX, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTES: Final = ".notes"

MAX_NOTE: Final = 100


def prepare(directory: Path, gid: int = -1) -> None:
    """Make the delayed directory if it is missing, writable for the group `gid` unless that is -1.

    One of ours that its group may write to gets the sticky bit: then a group member cannot rename
    or remove the files of another one. A failure shows when the directory is opened: it does not
    keep the daemon from starting.
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
                os.fchmod(fd, 0o1770)  # nosec B103 - the group of the web processes writes here
            elif status.st_mode & stat.S_IWGRP:
                os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_ISVTX)
        finally:
            os.close(fd)


class SpoolDirectory:
    """The open directory. `close` gives the lock back."""

    def __init__(self, path: Path, uids: frozenset[int], *, lock: str | None = LOCK_NAME) -> None:
        """Open it, check it, and lock it.

        uids  who, beside ourselves and root, may own it
        lock  the name of the lock file; None: look only, as the commands do

        Raises SpoolError if it can't be used, or another daemon replays it.
        """
        self.path = path
        self._owners = uids | {os.geteuid(), 0}
        self._names = count()
        self._fds: list[int] = []
        self._inside: dict[str, tuple[int, int]] = {}
        self._lock_fd = -1
        try:
            self.fd = self._keep(os.open(path, DIRECTORY))
            self.check()
            if lock is not None:
                self._lock_fd = self._keep(take_lock(lock, self.fd), lock)
            self.quarantine_fd = self._keep(open_folder(QUARANTINE, self.fd), QUARANTINE)
            self.notes_fd = self._keep(open_folder(NOTES, self.fd), NOTES)
        except OSError as error:
            self.close()
            raise SpoolError(self._reason(error)) from None
        except SpoolError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<SpoolDirectory {self.path} {'open' if self._fds else 'closed'}>"

    def close(self) -> None:
        """Let go of it. May be called twice."""
        while self._fds:
            os.close(self._fds.pop())

    def unlock(self) -> None:
        """Give the lock back, and nothing else."""
        if self._lock_fd in self._fds:
            self._fds.remove(self._lock_fd)
            os.close(self._lock_fd)

    def _keep(self, fd: int, name: str = "") -> int:
        """Keep a descriptor until the end; with a name, `check` sees that it still has that."""
        self._fds.append(fd)
        if name:
            self._inside[name] = identity(os.fstat(fd))
        return fd

    def check(self) -> None:
        """See that it is still the one at its path, ours alone to trust, and can be written to.

        What is open in it must still be there, too. Raises SpoolError.
        """
        try:
            info = os.fstat(self.fd)
            there = self.path.lstat()
            writable = os.access(".", os.W_OK | os.X_OK, dir_fd=self.fd, effective_ids=True)
        except OSError as error:
            raise SpoolError(self._reason(error)) from None
        if identity(there) != identity(info):
            raise SpoolError("another directory stands in its place")
        if info.st_uid not in self._owners:
            raise SpoolError(f"it belongs to uid {info.st_uid}, neither us nor in allow_uids")
        if info.st_mode & stat.S_IWOTH:
            raise SpoolError("others may write to it")
        if not writable:
            if os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
                raise SpoolError("its file system is read-only")
            raise SpoolError(_no_entry(info))
        for name, known in self._inside.items():
            if self._identity(name) != known:
                raise SpoolError(f"its {name} was removed, or something else put in its place")

    def check_removal(self, file: os.stat_result | None) -> None:
        """Check that the sticky bit does not keep us from removing this file. Raises SpoolError."""
        info, uid = os.fstat(self.fd), os.geteuid()
        others = file is not None and uid not in (0, info.st_uid, file.st_uid)
        if others and info.st_mode & stat.S_ISVTX:
            raise SpoolError(f"its sticky bit lets only uid {info.st_uid} remove others' files")

    def _identity(self, name: str) -> tuple[int, int] | None:
        try:
            return identity(self.status(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpoolError(reason_of(error)) from None

    def _reason(self, error: OSError) -> str:
        if isinstance(error, PermissionError):
            with suppress(OSError):
                return _no_entry(self.path.lstat())
        return reason_of(error)

    # -- files -------------------------------------------------------------------------------

    def entries(self, folder: str = ".") -> Iterator[os.DirEntry[str]]:
        """Give the entries of the directory, or of a folder in it, in no order."""
        fd = os.open(folder, DIRECTORY, dir_fd=self.fd)
        try:
            with os.scandir(fd) as found:
                yield from found
        finally:
            os.close(fd)

    def status(self, name: str) -> os.stat_result:
        """Tell what a name stands for, a symbolic link not followed. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def replace(self, name: str, new: str, status: os.stat_result) -> bool:
        """Give the file `new` the name; False if what has it is not what it was. Raises OSError."""
        try:
            now = self.status(name)
        except FileNotFoundError:
            return False
        if (now.st_ino, now.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            return False
        os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        return True

    def open_file(self, name: str, *, quarantined: bool = False) -> int:
        """Open a file to read it, a link not followed, and nothing waited for. Raises OSError."""
        return os.open(name, READ, dir_fd=self.quarantine_fd if quarantined else self.fd)

    def read(self, name: str, limit: int, *, quarantined: bool = False) -> bytes:
        """Return at most `limit` bytes of a regular file. Raises OSError."""
        fd = self.open_file(name, quarantined=quarantined)
        try:
            return read_open(fd, limit) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)

    def write_new(self, data: bytes, folder: int, times: tuple[int, int] | None = None) -> str:
        """Write a synced file under a name of its own, and return the name. Raises OSError.

        folder  descriptor of the directory
        times   access and modification time to give it, in nanoseconds
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
        """Remove a file for good; that it is gone already is well, too. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)
        os.fsync(self.fd)

    def put_away(self, name: str, note: Note) -> None:
        """Move a file to quarantine. Raises OSError; FileNotFoundError if it is gone.

        A file of that name that is there already is not touched: this one gets a number before
        its own, `2~NAME`.
        """
        target = free_name(name, self.quarantine_fd)
        with suppress(OSError):  # a full disk must not keep it in the way of others
            self.write_note(target, note)
        os.rename(name, target, src_dir_fd=self.fd, dst_dir_fd=self.quarantine_fd)
        os.fsync(self.quarantine_fd)
        os.fsync(self.fd)
        if target != name:
            self.forget(name)

    def put_back(self, name: str, target: str) -> None:
        """Move a file out of quarantine, its attempts forgotten. Raises OSError."""
        if exists(target, self.fd):
            raise FileExistsError
        self.forget(name)
        os.rename(name, target, src_dir_fd=self.quarantine_fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)
        os.fsync(self.quarantine_fd)

    def discard(self, name: str, *, quarantined: bool) -> None:
        """Remove a file, or an empty folder, that a person does not want. Raises OSError."""
        folder = self.quarantine_fd if quarantined else self.fd
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder)
        os.fsync(folder)

    # -- notes -------------------------------------------------------------------------------

    def note(self, name: str) -> Note:
        """Return what is remembered about a file."""
        try:
            fd = os.open(name, READ, dir_fd=self.notes_fd)
        except OSError:
            return Note()
        try:
            return Note.from_bytes(read_open(fd, MAX_NOTE))
        except OSError:  # something odd stands there, such as a folder
            return Note()
        finally:
            os.close(fd)

    def write_note(self, name: str, note: Note) -> None:
        """Remember it. Raises OSError."""
        new = self.write_new(note.to_bytes(), self.notes_fd)
        os.rename(new, name, src_dir_fd=self.notes_fd, dst_dir_fd=self.notes_fd)
        os.fsync(self.notes_fd)

    def forget(self, name: str) -> None:
        """Remember nothing about it any more."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.notes_fd)

    def forget_strays(self) -> None:
        """Remove the notes about files that are nowhere any more. Raises OSError."""
        for entry in self.entries(NOTES):
            name = entry.name
            if not exists(name, self.fd) and not exists(name, self.quarantine_fd):
                self.forget(name)


def _no_entry(status: os.stat_result) -> str:
    """Say why we cannot work in a directory, and what to do about it."""
    mode = stat.S_IMODE(status.st_mode)
    owner = f"uid {status.st_uid}, gid {status.st_gid}, mode {mode:04o}"
    return f"uid {os.geteuid()} may not write to it ({owner}): chown it, or chgrp and chmod 0770"
