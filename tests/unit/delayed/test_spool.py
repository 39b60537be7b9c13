# SPDX-License-Identifier: GPL-2.0-or-later
"""The delayed directory by itself: inspection of one file, and scans."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from users import DAEMON, SHARED, WEB, as_user, only_root, shared_directory

from lonc_gevent.delayed import scan
from lonc_gevent.delayed.directory import SpoolDirectory, prepare
from lonc_gevent.delayed.requests import UNFINISHED_AGE, Verdict
from lonc_gevent.delayed.scan import Scanner
from lonc_gevent.delayed.spool import Spool
from lonc_gevent.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 1000
NAME = "1.1.1.echo.msul2"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give a delayed directory."""
    path = tmp_path / "d"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    """Give the directory, opened as a daemon does."""
    made = Spool(directory, settle=1.0)
    made.open()
    yield made
    made.close()
    made.close()  # what was in use at the first time is let go at the second


def put(directory: Path, name: str = NAME, data: bytes = b"echo:x\n", age: float = 10.0) -> Path:
    """Write a file as a web process does, `age` seconds ago."""
    path = directory / name
    path.write_bytes(data)
    path.chmod(0o600)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def before_opening(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Let something happen right before a file of this name is opened."""
    real = os.open

    def opening(path: Any, *arguments: Any, **options: Any) -> int:
        if path == name:
            act()
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opening)


def test_file_that_is_replaced_during_inspection_is_judged_by_what_is_read(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is about what is read: another file that got the name at the last moment."""
    put(directory)
    other = put(directory, "other", b"echo:forged\n")
    other.chmod(0o666)
    before_opening(monkeypatch, NAME, lambda: other.rename(directory / NAME))

    found = spool.inspect(NAME, LIMIT, time.time())

    assert (found.verdict, found.reason) == (Verdict.BAD, "writable_by_others")
    assert found.request == b""


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Give os.umask, and set the umask back at the end."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def test_mode_of_a_new_file_does_not_depend_on_the_umask(
    spool: Spool, umask: Callable[[int], int]
) -> None:
    """A new file can be read by its owner only."""
    for mask in (0o777, 0):
        umask(mask)

        name = spool.directory.write_new(b"x", spool.directory.fd)

        assert stat.S_IMODE(spool.directory.status(name).st_mode) == 0o600


@pytest.fixture
def shared(short_path: Path) -> Iterator[Spool]:
    """Give a spool of a user who is not root, in a directory that web processes write to."""
    directory = shared_directory(short_path, DAEMON, SHARED)
    made = Spool(directory, uids=frozenset({WEB}), settle=1.0)
    with as_user(DAEMON, SHARED):
        made.open()
    yield made
    made.close()
    made.close()


@only_root
@pytest.mark.parametrize("existed", [False, True])
def test_directory_that_a_group_may_write_to_gets_the_sticky_bit(
    short_path: Path, *, existed: bool
) -> None:
    """A group member can add files, and neither rename nor remove those of others."""
    path = shared_directory(short_path, 0, SHARED) if existed else short_path / "shared"
    prepare(path, SHARED)

    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o1770, SHARED)


def test_directory_of_one_user_keeps_its_mode(short_path: Path) -> None:
    """Neither a private directory nor another user's is changed."""
    path = short_path / "private"
    prepare(path)
    prepare(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@only_root
def test_file_that_the_sticky_bit_protects_from_us_is_not_sent(short_path: Path) -> None:
    """A request whose file cannot be removed afterwards would be sent again and again."""
    directory = shared_directory(short_path, 0, SHARED)
    directory.chmod(0o1770)
    spool = Spool(directory, uids=frozenset({WEB}), settle=1.0)
    put_as_web(directory, mode=0o640)
    with as_user(DAEMON, SHARED):
        spool.open()
        with pytest.raises(SpoolError, match="sticky bit"):
            spool.claim(NAME, LIMIT, time.time() + 10)
    spool.close()
    spool.close()


@only_root
@pytest.mark.parametrize("folder", ["quarantine", ".notes"])
def test_folder_that_another_user_made_is_not_used(short_path: Path, folder: str) -> None:
    """Such a user could read what is put away there, and exchange it."""
    directory = shared_directory(short_path, DAEMON, SHARED)
    with as_user(WEB, SHARED):
        (directory / folder).mkdir(mode=0o777)
    with as_user(DAEMON, SHARED), pytest.raises(SpoolError, match=f"{folder}: owned by uid"):
        Spool(directory, uids=frozenset({WEB}), settle=1.0).open()


@pytest.mark.parametrize("folder", ["quarantine", ".notes"])
def test_folder_that_others_may_write_to_is_not_used(directory: Path, folder: str) -> None:
    """The reason names the folder and its mode."""
    (directory / folder).mkdir()
    (directory / folder).chmod(0o770)
    with pytest.raises(SpoolError, match=rf"{folder}: writable by others \(mode 0770\)"):
        Spool(directory, settle=1.0).open()


def put_as_web(directory: Path, name: str = NAME, *, mode: int) -> Path:
    """Write a file as a web process of another user does."""
    path = put(directory, name)
    path.chmod(mode)
    os.chown(path, WEB, SHARED)
    return path


@only_root
@pytest.mark.parametrize(
    ("mode", "verdict", "reason"),
    [
        (0o640, Verdict.READY, ""),
        (0o600, Verdict.UNREADABLE, "Permission denied"),
        (0o602, Verdict.BAD, "writable_by_others"),
    ],
)
def test_file_of_a_trusted_user_is_judged_by_its_mode(
    shared: Spool, mode: int, verdict: Verdict, reason: str
) -> None:
    """A file that only its mode keeps from being read is not bad."""
    put_as_web(shared.path, mode=mode)

    with as_user(DAEMON, SHARED):
        found = shared.inspect(NAME, LIMIT, time.time() + 10)

    assert (found.verdict, found.reason) == (verdict, reason)


@only_root
def test_unreadable_file_of_a_foreign_owner_is_bad(shared: Spool) -> None:
    """It is not trusted, whether it can be read or not."""
    os.chown(put(shared.path), WEB + 7, SHARED)

    with as_user(DAEMON, SHARED):
        found = shared.inspect(NAME, LIMIT, time.time() + 10)

    assert (found.verdict, found.reason) == (Verdict.BAD, "foreign_owner")


@only_root
@pytest.mark.parametrize("mode", [0o640, 0o600])
def test_file_of_another_user_dated_later_than_the_clock_is_young(shared: Spool, mode: int) -> None:
    """Its times cannot be changed: it is young until the clock is past them."""
    put_as_web(shared.path, mode=mode)

    with as_user(DAEMON, SHARED):
        found = shared.inspect(NAME, LIMIT, time.time() - 3600)

    assert found.verdict is Verdict.YOUNG
    assert found.age < -3500


def test_file_of_ours_dated_later_than_the_clock_settles_from_now(
    spool: Spool, directory: Path
) -> None:
    """A file of our own settles from now on, as if it had just been written."""
    path = put(directory, age=-3600)

    found = spool.inspect(NAME, LIMIT, time.time() - 3600)

    assert (found.verdict, found.age) == (Verdict.YOUNG, 0.0)
    assert abs(path.stat().st_mtime - time.time()) < 60


@only_root
def test_scan_leaves_an_unreadable_file_until_it_can_be_read(shared: Spool) -> None:
    """It reports the file and moves none; the others are sent, and the file once it is readable."""
    path = put_as_web(shared.path, mode=0o600)
    put_as_web(shared.path, "1.1.2.echo.msul2", mode=0o640)
    scanner = Scanner(shared, 0.0)
    now = time.time() + 10

    with as_user(DAEMON, SHARED):
        for later in (0, 10):
            found = scanner.scan({"msul2"}, {"msul2": LIMIT}, now + later)
            assert found.windows == {"msul2": ["1.1.2.echo.msul2"]}
            assert found.waiting["msul2"] == 2
            assert found.moved == []
            assert found.trouble == "cannot read 1.1.1.*.msul2: Permission denied"
    path.chmod(0o640)
    with as_user(DAEMON, SHARED):
        found = scanner.scan({"msul2"}, {"msul2": LIMIT}, now + 20)

    assert found.windows == {"msul2": [NAME, "1.1.2.echo.msul2"]}
    assert found.trouble == ""


def test_unfinished_files_over_the_limit_are_not_sent(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are unfinished, they never take places of files that can be sent."""
    monkeypatch.setattr(scan, "MAX_LEFT", 2)
    for i in range(5):
        put(directory, f"1.1.{i}.echo.msul2", b"echo:ha")
    put(directory, "1.1.9.echo.msul2")
    scanner = Scanner(spool, 0.0)

    for later in (10, 20, 30):
        found = scanner.scan({"msul2"}, {"msul2": LIMIT}, time.time() + later)

        assert found.windows == {"msul2": ["1.1.9.echo.msul2"]}
        assert found.waiting["msul2"] == 6


@only_root
@pytest.mark.parametrize("mode", [0o750, 0o700])
def test_directory_without_permission_names_its_owner_and_what_to_do(
    short_path: Path, mode: int
) -> None:
    """One that a web process made, for example: the reason names its owner and what to do."""
    directory = shared_directory(short_path, WEB, SHARED)
    directory.chmod(mode)
    spool = Spool(directory, uids=frozenset({WEB}), settle=1.0)

    with as_user(DAEMON, SHARED), pytest.raises(SpoolError) as caught:
        spool.open()

    assert str(caught.value) == (
        f"uid {DAEMON} may not write to it (uid {WEB}, gid {SHARED}, mode {mode:04o}): "
        "chown it, or chgrp and chmod 0770"
    )


def test_read_only_file_system_is_the_reason(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is not the directory's mode."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))

    with pytest.raises(SpoolError, match=r"^its file system is read-only$"):
        spool.directory.check()


def failing_to_open(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let each attempt to open a file of this name fail."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    before_opening(monkeypatch, name, fail)


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENOSYS]
)
def test_error_of_the_machine_is_no_verdict_on_a_file(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """EMFILE, for example: no verdict on the file is possible now."""
    put(directory)
    failing_to_open(monkeypatch, NAME, number)

    for look in (spool.inspect, spool.claim):
        with pytest.raises(SpoolError, match=re.escape(os.strerror(number))):
            look(NAME, LIMIT, time.time())


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "read"])
def test_error_of_one_file_makes_it_unreadable(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """A bad block of the disk, for example: the file stays, and the others are sent."""
    put(directory)
    if call == "open":
        failing_to_open(monkeypatch, NAME, number)
    else:

        def fail(*_: object) -> bytes:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "read", fail)

    found = spool.inspect(NAME, LIMIT, time.time())

    assert (found.verdict, found.reason) == (Verdict.UNREADABLE, os.strerror(number))


def in_order(directory: SpoolDirectory, folder: str = ".") -> Iterator[SimpleNamespace]:
    """Give the entries of a directory in the order of their names, hidden ones last."""
    for path in sorted((directory.path / folder).iterdir(), key=lambda p: (p.name[0] == ".", p)):
        yield SimpleNamespace(name=path.name, stat=path.stat)


def test_scan_without_descriptors_moves_no_file(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts and orders files by their names, and the next scan inspects them."""
    scanner = Scanner(spool, 0.0)
    put(directory, "1.1.7.echo.msul2", b"echo:ha")
    scanner.scan({"msul2"}, {"msul2": LIMIT}, time.time())
    names = [f"1.1.{i}.echo.msul2" for i in range(5)]
    for name in names:
        put(directory, name, b"several\nlines\n")
    put(directory, "no request")
    put(directory, ".new.1")
    now = time.time() + 2 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "quarantine", lambda *_: pytest.fail("something is moved"))
        patch.setattr(SpoolDirectory, "remove", lambda *_: pytest.fail("something is removed"))
        patch.setattr(SpoolDirectory, "entries", in_order)
        failing_to_open(patch, names[0], errno.EMFILE)
        for name in names[1:]:
            before_opening(patch, name, lambda: pytest.fail("one more is tried"))

        found = scanner.scan({"msul2"}, {"msul2": LIMIT}, now)

    assert found.windows == {"msul2": names}
    assert found.waiting["msul2"] == len(names) + 1
    assert found.trouble == "cannot look into files: Too many open files"
    assert found.moved == []

    found = scanner.scan({"msul2"}, {"msul2": LIMIT}, now + 10)

    assert len(found.moved) == len(names) + 2
    assert found.quarantined["msul2"] == len(names) + 1
    assert (found.trouble, found.windows) == ("", {})
    assert not (directory / ".new.1").exists()


def hour_later() -> float:
    """Return a time at which what was begun now and never named is given up."""
    return time.time() + UNFINISHED_AGE + 60


def test_old_unfinished_folder_is_reported_and_the_scan_goes_on(
    spool: Spool, directory: Path
) -> None:
    """A folder of such a name is reported; all other files are scanned."""
    (directory / ".new.folder").mkdir()
    put(directory, ".new.file")
    put(directory)
    scanner = Scanner(spool, 0.0)

    for later in (0, 10):
        found = scanner.scan({"msul2"}, {"msul2": LIMIT}, hour_later() + later)

        assert found.windows == {"msul2": [NAME]}
        assert found.trouble == "cannot remove an old .new.* file: Is a directory"
    assert not (directory / ".new.file").exists()


def test_entry_without_a_status_is_reported_and_the_scan_goes_on(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry without a status does not delay the others."""
    put(directory, "1.1.0.echo.msul2")
    put(directory)

    def entries(directory: SpoolDirectory, folder: str = ".") -> Iterator[SimpleNamespace]:
        for entry in in_order(directory, folder):
            if entry.name == "1.1.0.echo.msul2":
                entry.stat = fail
            yield entry

    def fail(**_: bool) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(SpoolDirectory, "entries", entries)

    found = Scanner(spool, 0.0).scan({"msul2"}, {"msul2": LIMIT}, time.time())

    assert found.windows == {"msul2": [NAME]}
    assert found.trouble == "cannot look at an entry: Input/output error"


def descriptors() -> int:
    """Return how many descriptors this process has open, and the one that it takes to look."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_folder_in_place_of_a_note_counts_as_no_note(spool: Spool, directory: Path) -> None:
    """It counts as no attempts, delays no file, and leaves no descriptor open."""
    put(directory)
    (directory / ".notes" / NAME).mkdir()
    before = descriptors()

    claim = spool.claim(NAME, LIMIT, time.time())

    assert (claim.found.verdict, claim.attempts) == (Verdict.READY, 0)
    assert descriptors() == before


@pytest.mark.parametrize("name", ["quarantine", ".notes", ".lonc.lock"])
@pytest.mark.parametrize("how", ["removed", "renamed", "exchanged"])
def test_missing_folder_or_lock_is_made_again_by_the_next_scan(
    spool: Spool, directory: Path, name: str, how: str
) -> None:
    """A folder, or the lock, that is no longer there is made anew, and the work goes on."""
    path = directory / name
    if how == "removed":
        path.unlink() if path.is_file() else path.rmdir()
    else:
        path.rename(directory.with_name("away"))
    if how == "exchanged":
        path.touch() if name == ".lonc.lock" else path.mkdir()
    put(directory, data=b"several\nlines\n")
    with pytest.raises(SpoolError, match=f"^its {re.escape(name)} was removed or replaced$"):
        spool.claim(NAME, LIMIT, time.time())

    found = Scanner(spool, 0.0).scan({"msul2"}, {"msul2": LIMIT}, time.time())

    assert found.opened
    assert [each.reason for each in found.moved] == ["several_lines"]
    assert (directory / "quarantine" / NAME).exists()
    assert path.exists()
    assert not spool.open()


def test_file_stays_if_the_quarantine_was_removed(spool: Spool, directory: Path) -> None:
    """A file that could not be moved is not taken for a missing one."""
    put(directory)
    (directory / "quarantine").rmdir()

    with pytest.raises(SpoolError, match=r"^its quarantine was removed$"):
        spool.quarantine(NAME, "unknown_host")
    assert not spool.quarantine("1.1.2.gone.msul2", "unknown_host")
    assert (directory / NAME).exists()


def test_quarantine_removed_during_a_scan_is_made_again_by_the_next(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file counts as waiting, and is quarantined by the next scan."""
    put(directory, data=b"several\nlines\n")
    before_opening(monkeypatch, NAME, (directory / "quarantine").rmdir)
    scanner = Scanner(spool, 0.0)

    found = scanner.scan({"msul2"}, {"msul2": LIMIT}, time.time())

    assert found.waiting["msul2"] == 1
    assert found.trouble == "cannot move to quarantine: its quarantine was removed"
    monkeypatch.undo()
    assert len(scanner.scan({"msul2"}, {"msul2": LIMIT}, time.time()).moved) == 1


def test_file_in_place_of_the_quarantine_is_named(directory: Path) -> None:
    """The reason names it, as `not a directory` alone would mean the delayed directory."""
    (directory / "quarantine").touch()

    with pytest.raises(
        SpoolError, match=r"^its folder quarantine: not a directory, or a symbolic link"
    ):
        Spool(directory, settle=1.0).open()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("elsewhere"), "Too many levels of symbolic links"),
    ],
)
def test_lock_that_is_not_a_regular_file_is_refused(
    directory: Path, make: Callable[[Path], None], reason: str
) -> None:
    """The reason is returned at once, and no descriptor stays open."""
    make(directory / ".lonc.lock")
    spool = Spool(directory, settle=1.0)
    before = descriptors()

    with pytest.raises(SpoolError, match=f"^its lock .lonc.lock: {reason}$"):
        spool.open()

    assert descriptors() == before
    assert not (directory / "elsewhere").exists()
