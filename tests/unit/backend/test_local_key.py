# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that hands a key to a lond of this machine."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from lonc_gevent.backend.local_key import PREFIX, key_file, remove_left_over
from lonc_gevent.errors import KeyFileError


def test_a_key_file(tmp_path: Path) -> None:
    """Only we can read it, it holds the key as 32 hex digits, and it goes at the end."""
    before = os.umask(0)
    try:
        with key_file(str(tmp_path)) as local:
            path = Path(local.path)
            assert path.parent == tmp_path
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert path.read_text() == local.key.hex()
            assert len(local.key) == 16
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_each_is_another(tmp_path: Path) -> None:
    """Neither names nor keys come twice."""
    with key_file(str(tmp_path)) as one, key_file(str(tmp_path)) as two:
        assert one.path != two.path
        assert one.key != two.key


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_it_goes_whatever_happens(tmp_path: Path, error: type[BaseException]) -> None:
    """An error, a kill: the file is removed; that lond has removed it first is as good."""
    with pytest.raises(error), key_file(str(tmp_path)):
        raise error
    assert list(tmp_path.iterdir()) == []
    with key_file(str(tmp_path)) as local:
        Path(local.path).unlink()


def test_no_place_for_it(tmp_path: Path) -> None:
    """That it cannot be made is a KeyFileError, without the file's name."""
    with pytest.raises(KeyFileError) as caught, key_file(str(tmp_path / "no")):
        pass
    assert PREFIX not in str(caught.value)


def test_what_was_left_over(tmp_path: Path) -> None:
    """Old key files are removed, and nothing else."""
    with subprocess.Popen(["true"]) as ended:
        pass
    gone = (f"{ended.pid}.ab", f"{os.getpid()}.ab", "1234", "x.ab", f"{10**30}.ab", "")
    for name in gone:
        (tmp_path / (PREFIX + name)).touch()
    (tmp_path / "other").touch()

    assert remove_left_over(tmp_path) == len(gone) - 1
    assert {path.name for path in tmp_path.iterdir()} == {"other", PREFIX + gone[4]}


def test_what_another_daemon_has(tmp_path: Path) -> None:
    """The key files of a process at work stay: it may be another shard, in its handshakes."""
    path = tmp_path / f"{PREFIX}{os.getppid()}.ab"
    path.touch()

    assert remove_left_over(tmp_path) == 0
    assert path.exists()
