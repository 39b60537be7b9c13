# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine and the versions, without which figures mean nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str]:
    """Return what a reader needs to know, by name."""
    return {
        "CPU": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": _system(),
        "kernel": platform.release(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "gevent": f"{version('gevent')}, greenlet {version('greenlet')}",
        "cryptography": version("cryptography"),
        "HAProxy": _haproxy(),
        "load before": " ".join(f"{figure:.2f}" for figure in os.getloadavg()),
    }


def _cpu() -> str:
    model, family = platform.machine(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "model":
            family = value.strip()
        elif name.strip() == "cpu MHz":
            virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
            where = ", virtual" if virtual else ""
            return f"{model} (model {family}, {float(value):.0f} MHz{where})"
    return model


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())


def _haproxy() -> str:
    done = subprocess.run(["haproxy", "-v"], capture_output=True, check=False, text=True)
    words = done.stdout.split()
    return words[2] if len(words) > 2 else "?"  # noqa: PLR2004 - "HAProxy version N ..."


def busy_seconds() -> float:
    """Return the CPU seconds that all processes have used since the machine started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[:8])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
