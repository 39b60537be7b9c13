# SPDX-License-Identifier: GPL-2.0-or-later
"""lonnet.perm.log (protocol.md, section 2)."""

from __future__ import annotations

import grp
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from users import DAEMON, WEB, as_user, only_root

from lonc_gevent.perm_log import PermLog, line_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("request_line", "text"),
    [
        (b"put:a:b\n", b"put:a:b"),
        (b"encrypt:auth:joe:secret\n", b"encrypt:auth"),
        (b"sethost:m:encrypt:auth:joe:secret\n", b"sethost:m:encrypt:auth"),
    ],
)
def test_line_has_the_form_of_lonnets(request_line: bytes, text: bytes) -> None:
    """Of a request that is encrypted only the verb is recorded."""
    line = line_of("S", 7.9, "Sat Nov  7 01:02:03 2026", "h", request_line)
    assert line == b"7:S:h:" + text + b":Sat Nov  7 01:02:03 2026\n"


def test_recorded_line_ends_in_the_local_time_as_perl_writes_it(tmp_path: Path) -> None:
    log = PermLog(str(tmp_path / "perm.log"))
    assert log.record("D", "msul2", b"put:x\n") == ""
    found = re.fullmatch(r"(\d+):D:msul2:put:x:(.{24})\n", (tmp_path / "perm.log").read_text())
    assert found
    assert found[2] == time.ctime(int(found[1]))


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_new_file_has_its_mode_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        PermLog(str(tmp_path / "perm.log"), 0o662).create()
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == ["perm.log"]
    assert (tmp_path / "perm.log").stat().st_mode & 0o777 == 0o662


def test_file_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "perm.log"
    path.touch(0o640)
    PermLog(str(path)).record("F", "h", b"x")
    assert path.stat().st_mode & 0o777 == 0o640


def test_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    assert PermLog(str(tmp_path)).record("S", "h", b"x") == "Is a directory"
    assert PermLog(str(tmp_path / "no" / "log")).record("S", "h", b"x")
    assert PermLog("").record("S", "h", b"x") == ""


@only_root
def test_daemon_and_web_process_of_two_users_both_append(short_path: Path) -> None:
    group = grp.getgrgid(next(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid))
    short_path.chmod(0o777)
    log = PermLog(str(short_path / "log"), 0o660, group.gr_name)
    for uid in (DAEMON, WEB):
        with as_user(uid, group.gr_gid):
            assert log.record("S", "h", b"x") == ""
    with as_user(DAEMON + 1):
        assert log.record("S", "h", b"x") == "Permission denied"
    assert len((short_path / "log").read_bytes().splitlines()) == 2


def test_threads_that_find_no_file_all_record_their_line(tmp_path: Path) -> None:
    """Each makes a file of its own, and one of them becomes the log."""
    log = PermLog(str(tmp_path / "log"))
    barrier = threading.Barrier(16)

    def record() -> str:
        barrier.wait()
        return log.record("D", "h", b"x")

    for _ in range(20):
        (tmp_path / "log").unlink(missing_ok=True)
        with ThreadPoolExecutor(16) as threads:
            results = [threads.submit(record) for _ in range(16)]
        assert {result.result() for result in results} == {""}
        assert len((tmp_path / "log").read_bytes().splitlines()) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
