# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else can write to, or read, what must be ours alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from lonc_gevent.configuration.permissions import readers, writers

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, ""), (0o640, ""), (0o660, "group 4321"), (0o606, "everybody")]
)
def test_writers_of_a_file_by_its_mode(tmp_path: Path, mode: int, expected: str) -> None:
    """Neither root nor we are anybody else."""
    path = tmp_path / "file"
    path.touch()
    if os.geteuid() == 0:
        os.chown(path, -1, 4321)
    else:
        expected = expected.replace("4321", str(os.getegid()))
    path.chmod(mode)

    assert writers(path) == expected
    assert writers(tmp_path / "none") == ""


def test_readers_of_a_file_by_its_mode(tmp_path: Path) -> None:
    """A secret is for us alone."""
    path = tmp_path / "file"
    path.touch(0o600)
    assert readers(path) == ""
    path.chmod(0o604)
    assert readers(path) == "everybody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_of_a_file_can_write_to_it(tmp_path: Path) -> None:
    """The owner of a file can write to it, whatever its mode."""
    path = tmp_path / "file"
    path.touch(0o400)
    os.chown(path, 4321, -1)

    assert writers(path) == "uid 4321"


def test_sticky_directory_is_as_safe_as_its_owner(tmp_path: Path) -> None:
    """Where others can add but not replace, as in /tmp, our files are safe."""
    tmp_path.chmod(0o777)
    assert writers(tmp_path) == "everybody"
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    assert writers(tmp_path) == ""


def test_file_that_others_can_write_to_is_logged_at_the_start(net: Network) -> None:
    """What others can write to is a warning event at the start."""
    net.add("msul2")
    net.write()
    (net.directory / "hosts.tab").chmod(0o666)
    net.write = lambda: None  # type: ignore[method-assign]
    net.start()

    reported = net.wait_for("too_open", key="network.hosts_tab")
    assert reported["level"] == "warning"
    assert reported["who"] == "everybody can write to it"
    assert not net.find("too_open", key="sockets.directory")


def test_configuration_that_others_can_write_to_is_logged_at_the_start(net: Network) -> None:
    """Who can write to the TOML file chooses whom we speak to, and how: that is reported, too."""
    net.add("msul2")
    net.write()
    net.config.chmod(0o666)
    net.write = lambda: None  # type: ignore[method-assign]
    net.start()

    reported = net.wait_for("too_open", key="--config")
    assert (reported["path"], reported["who"]) == (str(net.config), "everybody can write to it")
