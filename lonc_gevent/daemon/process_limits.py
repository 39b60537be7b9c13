# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of the daemon's own process: those that it sets, and the memory that it may have."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us have; each client needs one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_core_dumps() -> None:
    """Let the kernel write no core file: all keys and requests of the moment would be in it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


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
