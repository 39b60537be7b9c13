# SPDX-License-Identifier: GPL-2.0-or-later
"""`delay`: a request as a file in the delayed directory (protocol.md, section 2)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from users import DAEMON, SHARED, WEB, as_user, only_root, shared_directory

from lonc_gevent.client import delay
from lonc_gevent.client.delayed import is_saved
from lonc_gevent.delayed.requests import UNFINISHED_PREFIX

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_file(tmp_path: Path, end: bytes) -> None:
    """It holds the request and one newline, and nobody else may read it."""
    path = delay(b"put:msu:smith:a\xff" + end, "msul2", tmp_path)

    assert path.parent == tmp_path
    assert path.read_bytes() == b"put:msu:smith:a\xff\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_names_sort_in_order(tmp_path: Path) -> None:
    """Delayed requests of a process are replayed in the order in which they were made."""
    paths = [delay(b"echo:%d" % number, "msul2", tmp_path) for number in range(120)]

    assert sorted(paths) == paths


def test_many_writers(tmp_path: Path) -> None:
    """Threads and processes never write over each other's files."""
    code = (
        "import sys; from pathlib import Path; from lonc_gevent.client import delay\n"
        "for n in range(50): delay(b'echo', 'msul2', Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: delay(b"echo", "msul2", tmp_path), range(100)))

    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 250


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is whole and on disk, the file has a name that no reader takes."""
    seen: list[list[str]] = []
    fsync = os.fsync

    def looking(fd: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])
        fsync(fd)

    monkeypatch.setattr(os, "fsync", looking)
    path = delay(b"echo:x", "msul2", tmp_path)

    assert seen == [[UNFINISHED_PREFIX + path.name], [path.name]]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """A disk that fails is an OSError, and what was not promised will not be sent."""
    calls = 0

    def fail(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match="Input/output"):
        delay(b"echo:x", "msul2", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_is_no_path(tmp_path: Path) -> None:
    """A host that cannot be one never leads out of the directory."""
    with pytest.raises(ValueError, match="not a valid host id"):
        delay(b"echo", "../x", tmp_path)


def test_reading_again(tmp_path: Path) -> None:
    """What was changed is found out; what the daemon has taken already was there."""
    path = delay(b"echo:x", "msul2", tmp_path)

    assert is_saved(path, b"echo:x")
    path.write_bytes(b"echo:y\n")
    assert not is_saved(path, b"echo:x")
    path.unlink()
    assert is_saved(path, b"echo:x")


def mode_and_group(path: Path) -> tuple[int, int]:
    """Return a file's mode and group."""
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_gid


@only_root
def test_the_daemon_is_another_user(short_path: Path) -> None:
    """In a directory that is shared through a group, the file is shared through it, too."""
    directory = shared_directory(short_path, DAEMON, SHARED)

    with as_user(WEB, SHARED):
        path = delay(b"echo:x", "msul2", directory)
        assert is_saved(path, b"echo:x")
    with as_user(DAEMON, SHARED):
        assert path.read_bytes() == b"echo:x\n"

    assert mode_and_group(path) == (0o640, SHARED)
    assert path.stat().st_uid == WEB


@only_root
@pytest.mark.parametrize(
    ("directory_mode", "expected"), [(0o2777, (0o640, SHARED)), (0o777, (0o600, WEB))]
)
def test_a_group_that_the_writer_is_not_in(
    short_path: Path, directory_mode: int, expected: tuple[int, int]
) -> None:
    """The file has the directory's group if the directory gives it; else it is the writer's."""
    directory = shared_directory(short_path, DAEMON, SHARED)
    directory.chmod(directory_mode)

    with as_user(WEB):
        path = delay(b"echo:x", "msul2", directory)

    assert mode_and_group(path) == expected


@only_root
def test_a_directory_of_our_own(short_path: Path) -> None:
    """Where the daemon is the writer's own user, nobody else may read the file."""
    directory = shared_directory(short_path, WEB, SHARED)

    with as_user(WEB, SHARED):
        path = delay(b"echo:x", "msul2", directory)

    assert mode_and_group(path) == (0o600, WEB)


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """A web process with a strange umask can still read what it wrote, and nobody else can."""
    for umask in (0, 0o777):
        before = os.umask(umask)
        try:
            path = delay(b"echo:x", "msul2", tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
