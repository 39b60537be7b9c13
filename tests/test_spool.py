# SPDX-License-Identifier: GPL-2.0-or-later
"""The delayed directory by itself: what one look at a file, or at all of them, makes of it."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from lonc_gevent.delayed.spool import Spool, record
from lonc_gevent.rules.delayed import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


def test_a_file_that_is_exchanged_while_it_is_looked_at(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read is what was judged: another file in its place at the last moment is judged."""
    put(directory)
    other = put(directory, "other", b"echo:forged\n")
    other.chmod(0o666)
    before_opening(monkeypatch, NAME, lambda: other.rename(directory / NAME))

    found = spool.look(NAME, LIMIT, time.time())

    assert (found.verdict, found.reason) == (Verdict.BAD, "writable_by_others")
    assert found.request == b""


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Give os.umask, and set the umask back at the end."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def test_modes_do_not_depend_on_the_umask(directory: Path, umask: Callable[[int], int]) -> None:
    """While sockets are bound, the umask takes all bits: what is made then is ours all the same."""
    log = directory.with_name("perm.log")
    spool = Spool(directory, settle=1.0)
    umask(0o777)

    spool.open()
    new = spool.directory.write_new(b"x", spool.directory.fd)
    spool.note_attempt(NAME, 1)
    record(str(log), b"1:S:h:x\n")

    umask(0o022)
    paths = [log, *(directory / n for n in (new, ".lonc.lock", f".notes/{NAME}"))]
    folders = [directory / ".notes", directory / "quarantine"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    spool.close()
    spool.close()


def test_a_perm_log_of_others_keeps_its_mode(tmp_path: Path) -> None:
    """What others made for all to write to stays as they made it."""
    log = tmp_path / "perm.log"
    log.touch()
    log.chmod(0o620)

    record(str(log), b"1:S:h:x\n")

    assert stat.S_IMODE(log.stat().st_mode) == 0o620
    assert log.read_bytes() == b"1:S:h:x\n"
