# SPDX-License-Identifier: GPL-2.0-or-later
"""The scene of a chaos run: a daemon with a clock and a log reader of its own, and some londs."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from harness import Network, Process, wait_until

from .record import Received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Lond

HOSTS: Final = ("msul1", "msul2", "nscll1", "s10l2")

POOL: Final[dict[str, Any]] = {
    "connect_timeout": 2.0,
    "handshake_timeout": 2.0,
    "reply_timeout": 4.0,
    "queue_timeout": 4.0,
    "retry_backoff_min": 0.1,
    "retry_backoff_max": 1.0,
    "max_connections": 3,
}

STOP_TIMEOUT: Final = 2.0

CLOCK: Final = Path(__file__).with_name("clock.c")


class ReadProcess(Process):
    """A process whose log reader can stop to read."""

    reading: threading.Event

    def _read_stdout(self) -> None:
        self.reading = threading.Event()
        self.reading.set()
        assert self.process.stdout  # noqa: S101 - it was started with a pipe
        for line in self.process.stdout:
            self.lines.append(line.decode())
            self.reading.wait()


class Scene:
    """A running network. As a context manager: all of it is gone afterwards."""

    def __init__(self, directory: Path) -> None:
        self.net = Network(directory, pool=dict(POOL))
        self.net.tables["admin"] = {"stop_timeout": STOP_TIMEOUT}
        self.delayed = directory / "delayed"
        self.clock = directory / "clock"
        self.clock.write_bytes(bytes(8))
        self.preload = self._build_clock(directory / "clock.so")
        self.deaths: list[tuple[float, float]] = []
        """From and to when the daemon, or a socket, was not there, by our own doing."""
        self.received: dict[str, Received] = {}
        self.stderr: list[str] = []
        self.lines: list[str] = []
        """What earlier daemons have logged."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for host in HOSTS:
            lond = self.net.add(host, "--delay-ms", "0-10")
            self.received[host] = Received(lond.record)
        self.delayed.mkdir(mode=0o700)
        if os.geteuid() == 0:
            self._mount()
        self.net.tables["delayed"] = {
            "directory": str(self.delayed),
            "settle": 0.2,
            "scan_interval": 0.5,
            "max_attempts": 1000,
        }
        self.net.write()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.net.close()
        finally:
            for lond in self.londs.values():
                lond.kill()
            if self.net.daemon is not None:
                self.net.daemon.kill()
            self._stack.close()

    def _mount(self) -> None:
        command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", str(self.delayed)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            self._stack.callback(
                lambda: subprocess.run(["umount", "-l", self.delayed], check=False)
            )

    @property
    def disk_is_small(self) -> bool:
        """Whether the delayed directory has a disk of its own, that can be filled."""
        return os.path.ismount(self.delayed)

    @staticmethod
    def _build_clock(path: Path) -> str:
        """Build what sets a process's clock; "" where there is no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            return ""
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", path, CLOCK], check=True)
        return str(path)

    # -- the daemon ----------------------------------------------------------------------------

    @property
    def daemon(self) -> ReadProcess:
        """The daemon."""
        daemon = self.net.daemon
        assert isinstance(daemon, ReadProcess)  # noqa: S101 - `start` made it
        return daemon

    def start(self) -> None:
        """Start the daemon, and wait until it is ready."""
        env = {
            "LD_PRELOAD": self.preload,
            "CHAOS_CLOCK": str(self.clock),
            "PYTHONFAULTHANDLER": "1",
        }
        daemon = ReadProcess("lonc_gevent", "run", "--config", str(self.net.config), env=env)
        self.net.daemon = daemon
        wait_until(lambda: '"ready"' in "".join(daemon.lines) or not daemon.running, "ready", 30.0)
        if not daemon.running:
            raise RuntimeError(f"the daemon did not start: {daemon.stderr}")

    def restart(self, end: int) -> int:
        """End the daemon by that signal, start another one; return the exit code."""
        began = time.monotonic()
        daemon = self.daemon
        daemon.reading.set()
        try:
            code = daemon.end(end, timeout=STOP_TIMEOUT + 10.0)
        except subprocess.TimeoutExpired:
            code = daemon.end(signal.SIGABRT)  # says on stderr where it is
        self.stderr.append(daemon.stderr)
        self.lines += daemon.lines
        daemon.close()
        self.start()
        self.deaths.append((began, time.monotonic()))
        return code

    @contextmanager
    def away(self) -> Iterator[None]:
        """Note that the daemon is not there for its clients during the block."""
        began = time.monotonic()
        yield
        self.deaths.append((began, time.monotonic()))

    def count(self, event: str) -> int:
        """Return how often the daemon has logged an event."""
        return sum(f'"{event}"' in line for line in tuple(self.daemon.lines))

    @property
    def all_sockets(self) -> bool:
        """Whether every host has its socket."""
        return all((self.net.sockets / host).is_socket() for host in HOSTS)

    def set_clock(self, offset: int) -> None:
        """Set the daemon's clock so many seconds off the machine's."""
        with self.clock.open("r+b") as file:
            file.write(struct.pack("q", offset))

    @property
    def londs(self) -> dict[str, Lond]:
        """The londs by host."""
        return self.net.londs
