# SPDX-License-Identifier: GPL-2.0-or-later
"""Socket files in a directory that another user can write to as well."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

import pytest

from lonc_gevent.errors import ConfigError
from lonc_gevent.frontend import listeners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODE: Final = 0o666


@pytest.fixture
def secret(short_path: Path) -> Path:
    """Give a file that others must not be able to read."""
    path = short_path / "secret"
    path.write_text("x")
    path.chmod(0o600)
    return path


def mode_of(path: Path) -> int:
    """Return the permission bits of what the path names, a link not followed."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_socket_has_its_mode_whatever_the_umask(short_path: Path) -> None:
    """The mode is the one that was asked for."""
    before = os.umask(0o077)
    try:
        listeners.listen(short_path / "s", MODE, os.getegid()).close()
    finally:
        os.umask(before)

    assert mode_of(short_path / "s") == MODE


@pytest.mark.parametrize("replace", [os.symlink, os.link], ids=["symlink", "hardlink"])
def test_listen_leaves_file_alone_that_was_put_in_place_of_the_socket(
    short_path: Path,
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
    replace: Callable[[Path, Path], None],
) -> None:
    """A link that replaces the socket between bind and chmod changes nothing, and is an error."""
    path = short_path / "s"
    before = secret.stat()

    class Replaced(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            path.unlink()
            replace(secret, path)

    monkeypatch.setattr(listeners, "socket", Replaced)
    with pytest.raises(ConfigError, match="replaced by another file"):
        listeners.listen(path, MODE, os.getegid() + 1)

    assert (mode_of(secret), secret.stat().st_gid) == (0o600, before.st_gid)


@pytest.mark.parametrize("replace", [os.symlink, os.link], ids=["symlink", "hardlink"])
def test_inherited_socket_whose_file_was_replaced_is_closed(
    short_path: Path, secret: Path, replace: Callable[[Path, Path], None]
) -> None:
    """After a restart in place, a link where the socket was is not followed."""
    path = short_path / "s"
    sock = listeners.listen(path, 0o600)
    inode = path.stat().st_ino
    path.unlink()
    replace(secret, path)

    assert listeners.take_up(path, sock.detach(), inode, MODE) is None
    assert mode_of(secret) == 0o600
