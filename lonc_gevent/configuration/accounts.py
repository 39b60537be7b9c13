# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of the users and groups that `sockets.allow_uids` and `allow_gids` name."""

from __future__ import annotations

import grp
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def user_id(user: int | str) -> int | None:
    """Return the id of a user, None if the name does not exist."""
    try:
        return pwd.getpwnam(user).pw_uid if isinstance(user, str) else user
    except KeyError:
        return None


def group_id(group: int | str) -> int | None:
    """Return the id of a group, None if the name does not exist."""
    try:
        return grp.getgrnam(group).gr_gid if isinstance(group, str) else group
    except KeyError:
        return None


def user_ids(users: Iterable[int | str]) -> frozenset[int]:
    """Return the ids of users; `check` reports names that do not exist."""
    return frozenset(number for number in map(user_id, users) if number is not None)


def group_ids(groups: Iterable[int | str]) -> frozenset[int]:
    """Return the ids of groups; `check` reports names that do not exist."""
    return frozenset(number for number in map(group_id, groups) if number is not None)
