# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo network: its files below var/demo, and the supervisord that runs it.

Nothing is left behind: every process of the demo has LONC_RUN=<the demo's folder> in its
environment, so that a later run finds it, too, even if supervisord itself was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_SOCKET_PATH = 107
"""Bytes of a Unix socket's path that the kernel takes."""

LONGEST_NAME = "/sockets/supervisor.sock.4194304"
"""supervisord binds its socket under this name first, with its pid at the end."""

START_SECONDS = 30.0
STOP_SECONDS = 25.0
"""Longer than the longest stopwaitsecs of config/supervisord.conf."""

TOML = """\
# Written by scripts/quickstart, anew each time. config/lonc.toml explains every key.

[network]
hosts_tab = "hosts.tab"
loncapa_conf = "loncapa.conf"  # has our own host id

[sockets]
directory = {sockets}

[pool]
retry_backoff_min = 0.2  # seconds
retry_backoff_max = 1.0

[delayed]
directory = {delayed}
perm_log = "logs/lonnet.perm.log"

[admin]
socket = {admin}
listen = "{listen}"  # the status page, for a browser

[daemon]
pid_file = "logs/lonc.pid"
report_file = "logs/loncstatus.txt"

[log]
sample = 1  # every transaction
"""
HOST = '\n[hosts."{}"]\naddress = "127.0.0.1"\nport = {}\n'


class DemoError(Exception):
    """What a person has to know, in one line."""


def wait_until(reached: Callable[[], bool], seconds: float) -> bool:
    """Ask ten times a second until `reached`, for at most so many seconds; True if it was."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def free_port() -> int:
    """Return a port on the loopback address that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Demo:
    """The demo of the repository at `root`, for one process at a time.

    home   its files
    base   its sockets: `home`, or a folder with a shorter path

    Raises DemoError if another quickstart is at work.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "var" / "demo"
        self.logs = self.home / "logs"
        self.config = self.home / "lonc.toml"
        self.events = self.logs / "lonc.log"
        self.home.mkdir(parents=True, exist_ok=True)
        self.base = self.home
        if len(os.fsencode(self.home)) + len(LONGEST_NAME) > LONGEST_SOCKET_PATH:
            name = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
            self.base = Path(tempfile.gettempdir(), f"lonc-demo-{os.geteuid()}-{name}")
            self.base.mkdir(mode=0o700, exist_ok=True)
            if self.base.lstat().st_uid != os.geteuid():
                raise DemoError(f"{self.base} belongs to another user")
        self.sockets = self.base / "sockets"
        lines = (root / "config" / "hosts.tab").read_text("utf-8").splitlines()
        self.hosts = [line.split(":")[0].strip() for line in lines if line and line[0] not in "#^"]
        self._ports = {host: free_port() for host in self.hosts}
        self.listen = f"127.0.0.1:{free_port()}"
        self._bin = Path(sys.executable).parent
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = 1 + len(self.hosts)
        self._env = os.environ | {
            "LONC_BIN": str(self._bin),
            "LONC_CONFIG": str(self.config),
            "LONC_RUN": str(self.base),
            "LONC_LOGS": str(self.logs),
            "LONC_INCLUDE": "demo-londs.conf",
            **{f"LONC_PORT_{host.upper()}": str(port) for host, port in self._ports.items()},
        }
        # A lock on the folder itself: no file to leave behind, and it ends with the process.
        try:
            fcntl.flock(os.open(self.home.parent, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another scripts/quickstart is at work here; wait for it") from None

    def add(self, include: str, **variables: str) -> None:
        """Run the one program of another include file of config/, with these variables."""
        self._env |= variables
        self._env["LONC_INCLUDE"] += f" {include}"
        self._programs += 1

    def write(self) -> None:
        """Write the network's files anew."""
        for folder in (self.logs, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)
        self.logs.mkdir()
        for name in ("hosts.tab", "loncapa.conf"):
            shutil.copyfile(self.root / "config" / name, self.home / name)
        paths = {"sockets": "", "delayed": "delayed", "admin": "lonc-admin"}
        values = {key: json.dumps(str(self.sockets / paths[key])) for key in paths}
        toml = TOML.format(**values, listen=self.listen)
        toml += "".join(HOST.format(host, port) for host, port in self._ports.items())
        self.config.write_text(toml, "utf-8")

    # -- processes ----------------------------------------------------------------------------

    def _pids(self) -> list[int]:
        """Return the pids of the demo's processes."""
        if self._process is not None:
            self._process.poll()  # reaps it
        mark = b"\0LONC_RUN=%s\0" % os.fsencode(self.base)
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in b"\0" + (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile, or belongs to another user
        return found

    def running(self) -> bool:
        """Return whether a process of the demo runs."""
        return bool(self._pids())

    def start(self, *, outlive: bool) -> None:
        """Start supervisord; return when all its programs run and the daemon is ready.

        outlive  whether it keeps running when this process ends

        Raises DemoError.
        """
        command = [str(self._bin / "supervisord"), "--nodaemon", "--configuration", self._conf]
        setpriv = shutil.which("setpriv")
        if setpriv and not outlive:
            command = [setpriv, "--pdeathsig", "TERM", *command]
        with (self.logs / "supervisord.err").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.base,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not wait_until(self._all_running, START_SECONDS):
            raise DemoError(f"not everything was running within {START_SECONDS:.0f} s")
        if not wait_until(lambda: bool(self.read_events("ready")), START_SECONDS):
            raise DemoError(f"the daemon did not log `ready` within {START_SECONDS:.0f} s")

    @property
    def _conf(self) -> str:
        return str(self.root / "config" / "supervisord.conf")

    def _all_running(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"supervisord ended; see {self.logs}/supervisord.err")
        # Before supervisord listens there is one line without a state.
        words = [line.split() for line in self._supervisorctl("status").splitlines()]
        states = {each[0]: each[1] for each in words if len(each) > 1}
        for program, state in states.items():
            if state in ("BACKOFF", "EXITED", "FATAL", "UNKNOWN"):
                raise DemoError(f"{program} does not keep running; see {self.logs}")
        return len(states) == self._programs and set(states.values()) == {"RUNNING"}

    def _supervisorctl(self, *words: str) -> str:
        done = subprocess.run(
            [str(self._bin / "supervisorctl"), "--configuration", self._conf, *words],
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=START_SECONDS,
        )
        return done.stdout.strip()

    def control(self, *words: str) -> None:
        """Have supervisorctl start, stop or signal a program. Raises DemoError."""
        output = self._supervisorctl(*words)
        if not output.endswith((": started", ": stopped", ": signalled")):
            raise DemoError(f"supervisorctl {' '.join(words)}: {output or 'no output'}")

    def stop(self) -> bool:
        """Stop all that runs; return whether anything did. Raises DemoError if it was killed."""
        pids = self._pids()
        # supervisord leads their session and stops its programs; if it is dead, this does.
        _send([pid for pid in pids if _leads_session(pid)] or pids, signal.SIGTERM)
        if not wait_until(lambda: not self.running(), STOP_SECONDS):
            _send(self._pids(), signal.SIGKILL)
            raise DemoError("part of the demo did not stop and was killed")
        if self.base != self.home:
            shutil.rmtree(self.base, ignore_errors=True)
        return bool(pids)

    def read_events(self, name: str) -> list[dict[str, Any]]:
        """Return all events of one name that the daemon has logged so far."""
        lines = self.events.read_bytes().split(b"\n")[:-1] if self.events.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == name]


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it ended meanwhile
