# SPDX-License-Identifier: GPL-2.0-or-later
"""The instructions that a request takes of the daemon, counted by callgrind."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from bench.processes import BenchError, Load, Workshop, stop
from bench.scenarios import ENCRYPTED

if TYPE_CHECKING:
    from bench.processes import Target

COUNTED_REQUESTS = 3000


def instructions(workshop: Workshop, load: Load) -> float:
    """Count the daemon's instructions a request, those of the kernel not among them.

    They differ by some per cent from run to run, however busy the machine is.
    """
    if not shutil.which("valgrind"):
        raise BenchError("there is no valgrind here (Debian's package is of that name)")
    folder = workshop.new_folder()
    output = folder / "callgrind"
    wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    wrapper.append(f"--callgrind-out-file={output}")
    target = workshop.start_ours(folder, 1, workshop.lond(), wrapper=wrapper)
    workshop.load(target.sockets, load)
    _control(target, "--instr=on")
    answered = workshop.load(target.sockets, load)["answered"]
    _control(target, "--dump")
    stop(target.process)
    found = re.search(r"^totals: (\d+)", output.with_suffix(".1").read_text(), re.MULTILINE)
    if not found:
        raise BenchError(f"callgrind counted nothing: see {output}.1")
    return int(found[1]) / answered


def _control(target: Target, order: str) -> None:
    command = ["callgrind_control", order, str(target.pid)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise BenchError(f"callgrind_control failed: {done.stderr.strip()}")


def print_all(workshop: Workshop) -> None:
    """Print the instructions a request, with much and with little to do at once."""
    loads = {
        f"{mode}-{clients}{name}": Load(
            clients, mode, prefix=prefix, requests=COUNTED_REQUESTS, seconds=120.0
        )
        for name, prefix in (("", Load.prefix), ("-encrypted", ENCRYPTED))
        for mode in ("conn", "keep")
        for clients in (1, 16)
    }
    for name, load in loads.items():
        print(f"{name}: {instructions(workshop, load):,.0f} instructions a request")
