# SPDX-License-Identifier: GPL-2.0-or-later
"""Actions as another user: what the file system permits them."""

from __future__ import annotations

import contextlib
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WEB = 12345
"""A user id, and the id of a group of his own."""

DAEMON = 12346
"""Another one."""

SHARED = 23456
"""A group that both may be in."""

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3

T = TypeVar("T")

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


def unprivileged(function: Callable[[], T]) -> T:
    """Call a function whose child processes are root's, and heed the modes of files all the same.

    They need not be another user: his Python may be out of his reach.
    """
    libc = ctypes.CDLL(None)

    def call() -> T:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                pytest.skip("we may not give privileges up")
        return function()

    # What is dropped is dropped by one thread, and by what it starts.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def shared_directory(parent: Path, uid: int, gid: int) -> Path:
    """Make a delayed directory of this user, which a group may write to."""
    parent.chmod(0o711)
    path = parent / "shared"
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(0o770)
    return path
