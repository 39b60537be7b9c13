# SPDX-License-Identifier: GPL-2.0-or-later
"""Being somebody else for a moment: what another user may do with the file system."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEB = 12345
"""A user id, and the id of a group of his own."""

DAEMON = 12346
"""Another one."""

SHARED = 23456
"""A group that both may be in."""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@contextlib.contextmanager
def as_user(uid: int, *groups: int) -> Iterator[None]:
    """Do something as a user without privileges, in a group of his own and in these."""
    before, group = os.getgroups(), os.getegid()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(before)


def shared_directory(parent: Path, uid: int, gid: int) -> Path:
    """Make a delayed directory of this user, which a group may write to."""
    parent.chmod(0o711)
    path = parent / "shared"
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(0o770)
    return path
