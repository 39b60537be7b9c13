# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that other users can write to although the daemon trusts them, and secrets they can read.

A user who can write to the configuration or to hosts.tab chooses where requests are sent; one who
can write to the socket directory can replace our sockets and read what web processes send.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Configuration

ROOT: Final = 0

MODE_OF_SECRETS: Final = "expected mode 0600, or 0640 with a group of the daemon alone"


class Opening(NamedTuple):
    """A path that is more open than it should be: its key, who can do what, and what to do."""

    key: str
    path: str
    who: str
    expected: str


def openings(configuration: Configuration, config: Path) -> Iterator[Opening]:
    """Find paths that others can write to, and secrets that others can read. Never raises.

    config: the TOML file of the configuration
    """
    settings = configuration.settings
    network = settings.network
    for key, path in (
        ("--config", str(config)),
        ("sockets.directory", settings.sockets.directory),
        ("delayed.directory", settings.delayed.directory),
        ("network.hosts_tab", network.hosts_tab),
        ("network.loncapa_conf", network.loncapa_conf),
        ("network.certificate", network.certificate),
        ("network.ca_certificate", network.ca_certificate),
        ("network.crl", network.crl),
        ("network.key_directory", network.key_directory),
    ):
        yield from _openings(key, path)
    yield from _openings("network.private_key", network.private_key, is_secret=True)
    yield from _openings("delayed.key_file", settings.delayed.key_file, is_secret=True)


def _openings(key: str, path: str, *, is_secret: bool = False) -> Iterator[Opening]:
    readable_by = readers(Path(path)) if path and is_secret else ""
    if readable_by:
        yield Opening(key, path, f"{readable_by} can read it", MODE_OF_SECRETS)
    writable_by = writers(Path(path)) if path else ""
    if writable_by:
        if writable_by.startswith("uid"):
            expected = f"expected uid {os.geteuid()} or root as its owner"
        else:
            expected = (
                MODE_OF_SECRETS if is_secret else "expected a mode that lets only its owner write"
            )
        yield Opening(key, path, f"{writable_by} can write to it", expected)


def writers(path: Path) -> str:
    """Return who besides root and us can write to a path; "" for no user, or if it is missing.

    A directory with the sticky bit is as safe as its owner: others can add, not replace.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    who = []
    if found.st_uid not in (ROOT, os.geteuid()):
        who.append(f"uid {found.st_uid}")
    if not (found.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode)):
        who += _others(found, stat.S_IWGRP, stat.S_IWOTH)
    return " and ".join(who)


def readers(path: Path) -> str:
    """Return who besides root and us can read a file; "" for no user, or if it is missing."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return " and ".join(_others(found, stat.S_IRGRP, stat.S_IROTH))


def _others(found: os.stat_result, group: int, everybody: int) -> list[str]:
    if found.st_mode & everybody:
        return ["everybody"]
    if found.st_mode & group and found.st_gid != ROOT:
        return [f"group {found.st_gid}"]
    return []
