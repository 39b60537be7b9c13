# SPDX-License-Identifier: GPL-2.0-or-later
"""Who else can write to what the daemon trusts, or read what it keeps secret.

Whoever can write to the configuration or to hosts.tab sends our requests where he likes; whoever
can write to the socket directory can put a socket of his own in place of ours and read what web
processes say. `run` warns of it at its start, `check` does not let it pass for secrets.
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


class Opening(NamedTuple):
    """A path that is more open than it should be: the key that names it, and how open."""

    key: str
    path: str
    who: str
    is_secret: bool = False


def openings(configuration: Configuration, config: Path) -> Iterator[Opening]:
    """Find what others can write to, and secrets that others can read. Never raises.

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
        ("network.key_directory", network.key_directory),
    ):
        who = writers(Path(path)) if path else ""
        if who:
            yield Opening(key, path, f"{who} can write to it")
    yield from secrets(configuration)


def secrets(configuration: Configuration) -> Iterator[Opening]:
    """Find keys that others can read or write. Never raises."""
    settings = configuration.settings
    for key, path in (
        ("network.private_key", settings.network.private_key),
        ("delayed.key_file", settings.delayed.key_file),
    ):
        who = readers(Path(path)) if path else ""
        if who:
            yield Opening(key, path, f"{who} can read it", is_secret=True)
        who = writers(Path(path)) if path else ""
        if who:
            yield Opening(key, path, f"{who} can write to it", is_secret=True)


def writers(path: Path) -> str:
    """Say who besides root and us can write to a path; "" if nobody can, or it is not there.

    A directory with the sticky bit is as safe as its owner: others can add, not replace.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    who = _others(found, stat.S_IWGRP, stat.S_IWOTH)
    if found.st_uid not in (ROOT, os.geteuid()):
        who.insert(0, f"uid {found.st_uid}")
    if found.st_mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode):
        who = [one for one in who if one.startswith("uid")]
    return " and ".join(who)


def readers(path: Path) -> str:
    """Say who besides root and us can read a file; "" if nobody can, or it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return " and ".join(_others(found, stat.S_IRGRP, stat.S_IROTH))


def _others(found: os.stat_result, group: int, everybody: int) -> list[str]:
    who = []
    if found.st_mode & everybody:
        who.append("everybody")
    elif found.st_mode & group and found.st_gid != ROOT:
        who.append(f"group {found.st_gid}")
    return who
