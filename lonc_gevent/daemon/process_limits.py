# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits and attributes of the daemon's own process."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lonc_gevent.configuration.settings import Configuration

CGROUPS: Final = Path("/sys/fs/cgroup")

STANDARD: Final = (0, 1, 2)
"""Descriptors of stdin, stdout and stderr."""

RESERVED: Final = 128
"""Descriptors for the admin socket and its clients, files, name resolution and a restart."""


def open_standard_descriptors() -> None:
    """Open /dev/null in place of stdin, stdout and stderr if they are closed.

    Otherwise the next file or socket would get the number, and log lines would be written to it.
    """
    for standard in STANDARD:
        try:
            os.fstat(standard)
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(fd, True)  # noqa: FBT003 - it takes no keyword


def set_limits(*, core_dumps: bool) -> None:
    """Set the process's umask and limits.

    The umask never takes permissions from the daemon's own user and never gives others write
    permission. The limit of descriptors is raised as far as the system allows. Without
    `core_dumps` the kernel writes no core file, which would contain keys and requests.
    """
    os.umask(os.umask(0o022) & 0o077 | 0o022)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor_limit(hard=True),) * 2)
    if not core_dumps:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def descriptor_limit(*, hard: bool = False) -> int:
    """Return the limit of open descriptors of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[hard]


def max_clients(configuration: Configuration, limit: int) -> int:
    """Return the number of clients that leaves enough descriptors for everything else.

    limit: the limit of descriptors. Half of them at least are for clients.
    """
    londs = sum(host.pool.max_connections for host in configuration.hosts)
    return max(limit - len(configuration.sockets) - londs - RESERVED, limit // 2)


def memory_limit() -> int:
    """Return the bytes that the process may have: by RLIMIT_AS, its control groups, the machine."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    group = ""
    with suppress(OSError):
        group = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    for folder in (CGROUPS / group, *(CGROUPS / group).parents):
        with suppress(OSError, ValueError):  # ValueError: "max"
            limits.append(int((folder / "memory.max").read_text()))
    return min(limits)
