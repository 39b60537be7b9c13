# SPDX-License-Identifier: GPL-2.0-or-later
"""The real daemon and real fake londs, as processes, for tests to start, talk to and kill."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from _typeshed import FileDescriptorLike

PATIENCE = 15.0
"""Seconds that a test waits for a state; far more than it takes, even on a busy machine."""

HANDSHAKE_FAULTS = [
    ("refuse", "refused"),
    ("close", "refused"),
    ("mute-handshake", "handshake_timeout"),
    ("bad-challenge", "challenge_failed"),
    ("garbage", "handshake_garbage"),
    ("long-line", "handshake_garbage"),
    ("drop-handshake", "handshake_lost"),
    ("unable-to-set", "host_not_served"),
]
"""Faults of the fake lond's handshake, and the error of each."""

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = iter(range(20_000 + 1000 * _WORKER, 21_000 + 1000 * _WORKER))


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Wait until the condition holds; fail with `what` if it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


def readable(file: FileDescriptorLike, timeout: float) -> bool:
    """Wait until there is something to read; say whether there is. At any descriptor number."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(timeout, 0) * 1000))


def free_port() -> int:
    """Return a TCP port that is not in use, for a lond that does not run (yet).

    Never the same twice, and none that the kernel gives to anybody: the daemon of another test,
    which runs beside this one, would take that lond for its own.
    """
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is left")


def sockets_in(directory: Path) -> list[str]:
    """Return the names of the Unix sockets in a directory."""
    return sorted(path.name for path in directory.iterdir() if path.is_socket())


class Process:
    """A child process whose stdout lines are collected as they come."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (env or {}),
        )
        self._errors = b""
        self._readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_stdout(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.decode())

    def _read_stderr(self) -> None:
        assert self.process.stderr
        self._errors = self.process.stderr.read()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    @property
    def stderr(self) -> str:
        """All it said on stderr; only once it has ended."""
        self._readers[1].join(PATIENCE)
        return self._errors.decode()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)

    def end(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Ask it to stop, and return its exit code."""
        if self.running:
            self.send_signal(number)
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        for reader in self._readers:
            reader.join(PATIENCE)
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()


class Lond:
    """A fake lond that can be killed and started again on its port."""

    def __init__(self, host_id: str, directory: Path, *options: str, port: int = 0) -> None:
        self.host_id = host_id
        self.record = directory / f"{host_id}.record"
        self.options = options
        self.port = port
        self.process: Process | None = None

    def start(self) -> Lond:
        """Start it, and wait until it is ready."""
        self.process = process = Process(
            "lonc_gevent",
            "lond",
            "--port",
            str(self.port),
            "--id",
            self.host_id,
            "--record",
            str(self.record),
            *self.options,
        )
        wait_until(lambda: process.lines or not process.running, f"{self.host_id} is ready")
        assert process.lines, process.stderr
        self.port = int(process.lines[0].split()[1])
        return self

    def kill(self) -> None:
        """Kill it: its connections are reset or closed by the kernel."""
        if self.process is not None:
            self.process.close()
            self.process = None

    @property
    def received(self) -> list[bytes]:
        """The request lines that it received, in order, without their newlines."""
        if not self.record.exists():
            return []
        return self.record.read_bytes().splitlines()


class Client:
    """One connection of a web process."""

    def __init__(self, path: Path, timeout: float = PATIENCE) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self._rest = b""
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.sock.sendall(data)

    def line(self) -> bytes:
        """Read one line; b"" if the connection ended before its newline and nothing came."""
        while b"\n" not in self._rest:
            data = self.sock.recv(1 << 20)
            if not data:
                rest, self._rest = self._rest, b""
                return rest
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"

    def ask(self, request: bytes) -> bytes:
        """Send a request line and return the reply without its newline."""
        self.send(request + b"\n")
        reply = self.line()
        assert reply.endswith(b"\n"), reply
        return reply[:-1]

    def at_end(self) -> bool:
        """Whether the daemon has closed the connection, with nothing more to read."""
        try:
            return not self._rest and not self.sock.recv(1)
        except ConnectionResetError:
            return True


@dataclass
class Network:
    """A demo network in a directory: a configuration, a daemon, fake londs."""

    directory: Path
    host_id: str = "msul1"
    pool: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    londs: dict[str, Lond] = field(default_factory=dict)
    daemon: Process | None = None

    @property
    def config(self) -> Path:
        """The TOML file."""
        return self.directory / "lonc.toml"

    @property
    def sockets(self) -> Path:
        """The directory of the Unix sockets."""
        return self.directory / "s"

    def add(self, host_id: str, *options: str, start: bool = True, **settings: Any) -> Lond:
        """Add a host with a fake lond; keyword arguments go into its `[hosts.ID]`."""
        lond = Lond(host_id, self.directory, *options)
        if start:
            lond.start()
        else:
            lond.port = free_port()
        self.londs[host_id] = lond
        self.hosts[host_id] = {"address": "127.0.0.1", "port": lond.port, **settings}
        return lond

    def write(self) -> None:
        """Write the configuration."""
        tab = "".join(f"{host}:dom:library:localhost\n" for host in self.hosts)
        (self.directory / "hosts.tab").write_text(tab)
        tables = {
            "network": {"host_id": self.host_id, "hosts_tab": "hosts.tab"},
            "sockets": {"directory": "s"},
            "pool": self.pool,
        }
        for name, keys in self.tables.items():
            tables.setdefault(name, {}).update(keys)
        for host, keys in self.hosts.items():
            tables[f"hosts.{json.dumps(host)}"] = keys
        self.config.write_text(
            "".join(
                f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())
                for name, keys in tables.items()
            )
        )

    def start(self, *, ready: bool = True, env: dict[str, str] | None = None) -> Process:
        """Write the configuration and start the daemon."""
        self.write()
        return self.run(ready=ready, env=env)

    def run(
        self,
        *,
        ready: bool = True,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("lonc_gevent",),
    ) -> Process:
        """Start the daemon with the configuration as it is; `program` is its module, and more."""
        self.daemon = Process(*program, "run", "--config", str(self.config), env=env)
        if ready:
            self.wait_for("ready")
        return self.daemon

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events that the daemon has logged so far."""
        assert self.daemon
        return [json.loads(line) for line in tuple(self.daemon.lines)]

    def find(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the events of this name with these fields."""
        return [
            e
            for e in self.events
            if e["event"] == event and all(e.get(k) == v for k, v in fields.items())
        ]

    def wait_for(self, event: str, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until the event has been logged so many times; return the last one."""
        daemon = self.daemon
        assert daemon
        wait_until(
            lambda: len(self.find(event, **fields)) >= times or not daemon.running,
            f"event {event} {fields}",
        )
        found = self.find(event, **fields)
        assert len(found) >= times, f"ended without {event}: {daemon.stderr}"
        return found[-1]

    def status(self, host: str) -> dict[str, Any]:
        """Ask the daemon for a status event of the host (it also opens the gates)."""
        assert self.daemon
        times = len(self.find("status", host=host)) + 1
        self.daemon.send_signal(signal.SIGUSR1)
        return self.wait_for("status", times, host=host)

    def client(self, host: str, timeout: float = PATIENCE) -> Client:
        """Connect as a web process does."""
        return Client(self.sockets / host, timeout)

    def ask(self, host: str, request: bytes) -> bytes:
        """Send one request on a connection of its own; return the reply without its newline."""
        with self.client(host) as client:
            return client.ask(request)

    def command(
        self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run another command of lonc-gevent with this network's configuration."""
        name, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "lonc_gevent", name, "--config", str(self.config), *rest],
            input=stdin,
            env=os.environ | (env or {}),
            capture_output=True,
            timeout=PATIENCE * 2,
            check=False,
        )

    def close(self) -> None:
        """Stop all; the daemon must have said nothing on stderr."""
        errors = ""
        if self.daemon is not None:
            running = self.daemon.running
            if running:
                self.daemon.end()
            errors = self.daemon.stderr
            self.daemon.close()
        for lond in self.londs.values():
            lond.kill()
        assert not errors, errors


@contextlib.contextmanager
def network(directory: Path, **settings: Any) -> Iterator[Network]:
    """Make a network, and leave nothing of it running."""
    made = Network(directory, **settings)
    try:
        yield made
    finally:
        made.close()
