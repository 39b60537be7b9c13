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
def test_a_delayed_request_is_a_file_with_one_line(tmp_path: Path, end: bytes) -> None:
    """Only its owner can read it."""
    path = delay(b"put:msu:smith:a\xff" + end, "msul2", tmp_path)

    assert path.parent == tmp_path
    assert path.read_bytes() == b"put:msu:smith:a\xff\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_names_sort_in_the_order_of_writing(tmp_path: Path) -> None:
    paths = [delay(b"echo:%d" % number, "msul2", tmp_path) for number in range(120)]

    assert sorted(paths) == paths


def test_concurrent_writers_do_not_overwrite_files(tmp_path: Path) -> None:
    """Neither threads nor processes."""
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


def test_a_file_has_its_name_only_when_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the daemon ignores its name."""
    seen: list[list[str]] = []
    fsync = os.fsync

    def looking(fd: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])
        fsync(fd)

    monkeypatch.setattr(os, "fsync", looking)
    path = delay(b"echo:x", "msul2", tmp_path)

    assert seen == [[UNFINISHED_PREFIX + path.name], [path.name]]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """It raises OSError, and the request will not be sent."""
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


def test_an_invalid_host_id_is_refused(tmp_path: Path) -> None:
    """It cannot lead out of the directory."""
    with pytest.raises(ValueError, match="not a valid host id"):
        delay(b"echo", "../x", tmp_path)


def test_is_saved_compares_the_content(tmp_path: Path) -> None:
    """A file that the daemon has removed counts as saved."""
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
def test_a_directory_shared_by_group_gets_files_shared_by_group(short_path: Path) -> None:
    """The file has the directory's group, which can read it."""
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
def test_the_group_of_a_writer_outside_the_directory_s_group(
    short_path: Path, directory_mode: int, expected: tuple[int, int]
) -> None:
    """The directory's with the set-group-ID bit, else the writer's own, which cannot read it."""
    directory = shared_directory(short_path, DAEMON, SHARED)
    directory.chmod(directory_mode)

    with as_user(WEB):
        path = delay(b"echo:x", "msul2", directory)

    assert mode_and_group(path) == expected


@only_root
def test_in_a_directory_of_the_writer_only_the_owner_reads(short_path: Path) -> None:
    directory = shared_directory(short_path, WEB, SHARED)

    with as_user(WEB, SHARED):
        path = delay(b"echo:x", "msul2", directory)

    assert mode_and_group(path) == (0o600, WEB)


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Only the owner can read and write the file."""
    for umask in (0, 0o777):
        before = os.umask(umask)
        try:
            path = delay(b"echo:x", "msul2", tmp_path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
