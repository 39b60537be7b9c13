# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured and what measures it, each in a process of its own; and what they cost."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.machine import busy_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HERE = Path(__file__).parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0
CPUCLOCK_SCHED = 2
OURS, HAPROXY, HAPROXY_LINGER, BARE = "ours", "haproxy", "haproxy-linger", "bare"
TARGETS = (OURS, HAPROXY, HAPROXY_LINGER, BARE)
TARGET_NAMES = {
    OURS: "lonc-gevent",
    HAPROXY: "HAProxy",
    HAPROXY_LINGER: "HAProxy (linger)",
    BARE: "bare relay",
}

HAPROXY_CONF = """\
# One thread, as lonc has one; no log, no statistics; room for all clients at once.
global
    maxconn 8000
    nbthread 1
defaults
    mode tcp
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    option tcp-smart-connect
"""
NO_LINGER = "    option nolinger\n"
"""Without it each connection to lond leaves a port in TIME_WAIT. One address has 28,000 of them,
and Linux lends each out again after a second: a connection a request then ends at 14,000 a second,
at twice the CPU, as HAProxy and the kernel look for free ones. Both are measured."""
HAPROXY_HOST = """\
listen h{number}
    bind {path} mode 666 backlog 4096
    server lond 127.0.0.1:{port}
"""


class BenchError(Exception):
    """Something a person has to know, in one line."""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of a process and all its threads so far.

    It is the process's CPU clock, as clock_getcpuclockid(3) names it: what /proc/PID/stat says, in
    nanoseconds and not in ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@dataclass(frozen=True)
class Load:
    """What load.c is to do; its top explains each of these."""

    clients: int = 16
    mode: str = "conn"
    bytes: int = 64
    prefix: str = "echo:"
    reply: int = 0
    rate: float = 0.0
    seconds: float = 1.0
    requests: int = 0
    warm: int = 0

    def arguments(self) -> list[str]:
        """Return load's arguments, all but the sockets."""
        return [
            *("--clients", str(self.clients), "--mode", self.mode, "--bytes", str(self.bytes)),
            *("--prefix", self.prefix, "--reply", str(self.reply), "--rate", str(self.rate)),
            *("--seconds", str(self.seconds), "--requests", str(self.requests)),
            *("--warm", str(self.warm)),
        ]


@dataclass(frozen=True)
class Target:
    """A relay that runs: one of TARGETS, with some hosts."""

    kind: str
    process: subprocess.Popen[bytes]
    sockets: list[str]

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid


class Workshop:
    """A folder with the compiled tools and all that runs; a context manager that clears it all."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._londs: dict[tuple[int, str], int] = {}
        self._targets: dict[tuple[str, int, int], Target] = {}
        self._started: list[subprocess.Popen[bytes]] = []
        self._numbers = 0

    def __enter__(self) -> Self:
        temporary = tempfile.TemporaryDirectory(prefix="lonc-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._stack.enter_context(temporary))
        for name in ("load", "lond"):
            self._compile(name)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _compile(self, name: str) -> None:
        command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        command += ["-o", str(self.folder / name), str(HERE / f"{name}.c"), "-lm"]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode:
            raise BenchError(f"{name}.c does not compile: {done.stderr}")

    # -- processes ----------------------------------------------------------------------------

    def start(self, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        """Start a process that will not outlive us, its stdout and stderr in files."""
        with output.open("wb") as out, output.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
        self._stack.callback(stop, process)
        self._started.append(process)
        return process

    def used_seconds(self) -> float:
        """Return the CPU seconds that the benchmark itself and all it started have used."""
        ended = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        running = [cpu_seconds(each.pid) for each in self._started if each.poll() is None]
        return sum(each.ru_utime + each.ru_stime for each in ended) + sum(running)

    def others_seconds(self) -> float:
        """Return the CPU seconds that all others have used, plus a constant."""
        return busy_seconds() - self.used_seconds()

    def wait_for(self, what: str, output: Path, process: subprocess.Popen[bytes]) -> str:
        """Wait until the regular expression is in the output; return all of that."""
        deadline = time.monotonic() + START_SECONDS
        while not re.search(what, text := output.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                errors = output.with_suffix(".err").read_text().strip()
                raise BenchError(f"{output.stem} did not start: {errors or text}")
            time.sleep(0.005)
        return text

    def lond(self, delay: int = 0, kind: str = OURS) -> int:
        """Return the port of a lond that answers after `delay` microseconds.

        Each kind of target has its own: a port in TIME_WAIT is taken for one destination only.
        """
        key = (delay, kind)
        if key not in self._londs:
            output = self.folder / f"lond-{delay}-{kind}.out"
            command = [str(self.folder / "lond"), "--delay", str(delay)]
            command += ["--raw"] * (kind != OURS)
            said = self.wait_for(r"ready \d+\n", output, self.start(command, output))
            self._londs[key] = int(said.split()[1])
        return self._londs[key]

    # -- targets ------------------------------------------------------------------------------

    def target(self, kind: str, hosts: int = 1, delay: int = 0) -> Target:
        """Return a target with these hosts, warm; it is started the first time, then kept."""
        key = (kind, hosts, delay)
        if key not in self._targets:
            makers: dict[str, Callable[[Path, int, int], Target]] = {
                OURS: self.start_ours,
                HAPROXY: self._start_haproxy,
                HAPROXY_LINGER: self._start_haproxy_linger,
                BARE: self._start_bare,
            }
            folder = self.new_folder()
            port = self.lond(delay, kind)
            target = self._targets[key] = makers[kind](folder, hosts, port)
            warm = Load(clients=5 * hosts, mode="keep", requests=100 * hosts, seconds=5)
            self.load(target.sockets, warm)
        return self._targets[key]

    def new_folder(self) -> Path:
        """Make a folder whose path is short enough for sockets."""
        self._numbers += 1
        folder = self.folder / str(self._numbers)
        folder.mkdir()
        return folder

    def start_ours(
        self, folder: Path, hosts: int, port: int, *, wrapper: Iterable[str] = ()
    ) -> Target:
        """Start the daemon, all defaults, its log in a file; return once it is ready."""
        names = [f"h{number}" for number in range(hosts)]
        tab = "".join(f"{name}:dom:library:localhost\n" for name in names)
        (folder / "hosts.tab").write_text(tab)
        lines = ["[network]", 'host_id = "h0"', 'hosts_tab = "hosts.tab"', f"lond_port = {port}"]
        for name in names:
            lines += [f"[hosts.{name}]", 'address = "127.0.0.1"']
        (folder / "lonc.toml").write_text("\n".join(lines) + "\n")
        command = [*wrapper, sys.executable, "-m", "lonc_gevent", "run"]
        command += ["--config", str(folder / "lonc.toml")]
        process = self.start(command, folder / "lonc.out")
        self.wait_for('"event": ?"ready"', folder / "lonc.out", process)
        return Target(OURS, process, [str(folder / "sockets" / name) for name in names])

    def _start_haproxy_linger(self, folder: Path, hosts: int, port: int) -> Target:
        return self._start_haproxy(folder, hosts, port, options="")

    def _start_haproxy(
        self, folder: Path, hosts: int, port: int, *, options: str = NO_LINGER
    ) -> Target:
        sockets = [str(folder / f"h{number}") for number in range(hosts)]
        parts = [
            HAPROXY_HOST.format(number=number, path=path, port=port)
            for number, path in enumerate(sockets)
        ]
        (folder / "haproxy.cfg").write_text(HAPROXY_CONF + options + "".join(parts))
        command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
        process = self.start(command, folder / "haproxy.out")
        deadline = time.monotonic() + START_SECONDS
        while not Path(sockets[-1]).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"haproxy did not start: {(folder / 'haproxy.err').read_text()}")
            time.sleep(0.005)
        return Target(HAPROXY, process, sockets)

    def _start_bare(self, folder: Path, hosts: int, port: int) -> Target:
        sockets = [str(folder / f"h{number}") for number in range(hosts)]
        command = [sys.executable, str(HERE / "bare_relay.py"), str(port), *sockets]
        process = self.start(command, folder / "bare.out")
        self.wait_for("ready", folder / "bare.out", process)
        return Target(BARE, process, sockets)

    @contextmanager
    def apart(self, target: Target) -> Iterator[None]:
        """Give a target a core of its own, and all else that runs here the others.

        So what a client waits for is the target. Where three processes share two cores, the slices
        that the scheduler gives them, some ms each, are most of what a p99 shows.
        """
        cores = os.sched_getaffinity(0)
        own = {max(cores)}
        ours = [0, *(each.pid for each in self._started if each.poll() is None)]
        for pid in ours:
            os.sched_setaffinity(pid, own if pid == target.pid else cores - own or cores)
        try:
            yield
        finally:
            for pid in ours:
                os.sched_setaffinity(pid, cores)

    # -- load ---------------------------------------------------------------------------------

    def begin_load(self, sockets: list[str], load: Load) -> subprocess.Popen[bytes]:
        """Start a load and wait until what it does counts; `end_load` waits for its end."""
        command = [str(self.folder / "load"), *load.arguments(), *sockets]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout  # noqa: S101 - for mypy
        process.stdout.readline()
        return process

    def end_load(self, process: subprocess.Popen[bytes]) -> dict[str, float]:
        """Wait for a load's end; return what it counted and measured."""
        output, _ = process.communicate(timeout=120)
        if process.returncode or not output:
            raise BenchError(f"load ended with {process.returncode}, and no answers")
        result: dict[str, float] = json.loads(output)
        return result

    def load(self, sockets: list[str], load: Load) -> dict[str, float]:
        """Run a load to its end."""
        return self.end_load(self.begin_load(sockets, load))

    def measure(self, target: Target, load: Load) -> dict[str, float]:
        """Run a load to its end; return its result, and the target's CPU time a request."""
        process = self.begin_load(target.sockets, load)
        before = cpu_seconds(target.pid)
        result = self.end_load(process)
        used = cpu_seconds(target.pid) - before
        result["cpu_us"] = used * 1e6 / max(result["answered"], 1)
        result["cpu_share"] = used / result["seconds"]
        return result


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, if need be by force."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
