# SPDX-License-Identifier: GPL-2.0-or-later
"""A look inside the daemon while it works: system calls, instructions, where its time goes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import OURS, BenchError, Load, Workshop, stop
from bench.scenarios import ENCRYPTED

if TYPE_CHECKING:
    from bench.processes import Target

STRACED_REQUESTS = 4000
COUNTED_REQUESTS = 3000
CLIENTS = 16
TOP = 30
PROFILE_SECONDS = 8.0
PROFILE_RATE = 250
"""Samples a second."""

CALL_LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)$", re.MULTILINE)


def system_calls(workshop: Workshop, kind: str, mode: str) -> dict[str, float]:
    """Count a target's system calls a request, by name; what an idle moment makes is in it."""
    if not shutil.which("strace"):
        raise BenchError("there is no strace here (Debian's package is of that name)")
    target = workshop.target(kind)
    output = workshop.folder / f"strace-{kind}-{mode}"
    strace = subprocess.Popen(
        ["strace", "-c", "-f", "-q", "-o", str(output), "-p", str(target.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while not _is_traced(target) and strace.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        load = Load(CLIENTS, mode, requests=STRACED_REQUESTS, seconds=60.0)
        answered = workshop.load(target.sockets, load)["answered"]
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(10)
    calls = {
        name: int(count) / answered
        for count, _errors, name in CALL_LINE.findall(output.read_text())
        if name != "total"
    }
    if not calls:
        raise BenchError(f"strace counted nothing: {output.read_text()[:200]}")
    return dict(sorted(calls.items(), key=lambda item: -item[1]))


def _is_traced(target: Target) -> bool:
    status = Path(f"/proc/{target.pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


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


def profile(workshop: Workshop, mode: str) -> list[tuple[str, float]]:
    """Return the functions in which the daemon is found, innermost first, and their shares."""
    spy = Path(sys.executable).parent / "py-spy"
    if not spy.exists():
        raise BenchError("there is no py-spy in this environment (pip install py-spy)")
    target = workshop.target(OURS)
    output = workshop.folder / "profile"
    busy = workshop.begin_load(
        target.sockets, Load(CLIENTS, mode, seconds=PROFILE_SECONDS + 2, warm=CLIENTS)
    )
    command = [str(spy), "record", "--format", "raw", "--output", str(output), "--function"]
    command += ["--rate", str(PROFILE_RATE), "--duration", str(int(PROFILE_SECONDS))]
    try:
        # With native frames one sees libev and the kernel's edge; not everywhere can they be had.
        for native in (["--native"], []):
            done = subprocess.run(
                [*command, *native, "--pid", str(target.pid)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                text=True,
                timeout=60,
            )
            if done.returncode == 0 and output.exists():
                break
        else:
            raise BenchError(f"py-spy failed: {done.stderr.strip()}")
    finally:
        workshop.end_load(busy)
    return _innermost(output.read_text())


def _innermost(folded: str) -> list[tuple[str, float]]:
    """Count by the last frame of each folded stack."""
    counts: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack.rpartition(";")[2]] += int(count)
    total = sum(counts.values()) or 1
    return [(name, count / total) for name, count in counts.most_common(TOP)]


def print_system_calls(workshop: Workshop, kinds: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - a flag of the command line
    """Print the system calls a request, for each target and mode."""
    found = {
        f"{kind}, {mode}": system_calls(workshop, kind, mode)
        for mode in ("conn", "keep")
        for kind in kinds
    }
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, calls in found.items():
        rest = sum(calls.values())
        said = ", ".join(f"{call} {count:.2f}" for call, count in calls.items() if count >= 0.01)  # noqa: PLR2004 - what rounds to nothing
        print(f"{name}: {rest:.2f} system calls a request: {said}")


def print_instructions(workshop: Workshop) -> None:
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


def print_profile(workshop: Workshop) -> None:
    """Print where the time goes, for connections and kept-open clients."""
    for mode in ("conn", "keep"):
        print(f"\n{mode}, {CLIENTS} clients: share of samples by innermost function")
        for name, share in profile(workshop, mode):
            print(f"{share * 100:6.1f} %  {name}")
    print(
        "\nThe clock counts, not the CPU: a write that wakes its reader is also there while the"
        " reader runs in its place."
    )
