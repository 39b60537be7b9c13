# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo network: its files below var/demo, and the supervisord that runs it.

What is promised here is that nothing is left behind. supervisord leads a session of its own, and
everything it starts has the demo's folder as its working directory: so whatever belongs to the
demo can be found again, by another run too, even if supervisord itself was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

LONGEST_SOCKET_PATH = 107
"""Bytes of a Unix socket's path that the kernel takes."""
START_SECONDS = 30.0
STOP_SECONDS = 25.0
"""More than the longest stopwaitsecs of config/supervisord.conf."""
PROGRAMS_GONE = ("BACKOFF", "EXITED", "FATAL", "UNKNOWN")


class DemoError(Exception):
    """Something a person has to know, in one line."""


def wait_until(reached: Callable[[], bool], seconds: float) -> bool:
    """Ask ten times a second until `reached`, for at most so many seconds; True if it was."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def signals_held() -> Iterator[None]:
    """Let no signal in between a process's start and the note that it was started.

    Held by handlers, not by a mask: a mask would be passed on to the process.
    """
    came: list[tuple[int, FrameType | None]] = []
    before = {
        number: signal.signal(number, lambda *arguments: came.append(arguments))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came_number, _ in came:
            signal.raise_signal(came_number)


class Demo:
    """The demo of the repository at `root`. `base` holds its sockets: `home`, if they fit there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "var" / "demo"
        self.logs = self.home / "logs"
        self.config = self.home / "lonc.toml"
        self.events = self.logs / "lonc.log"
        self.hosts: tuple[str, ...] = ()
        self.beside: dict[str, dict[str, str]] = {}
        """Programs beside lonc and its londs: include file -> its variables; one in each."""
        self.base = self.home
        self._bin = Path(sys.executable).parent
        self._state = self.home / "state.json"
        self._supervisord: subprocess.Popen[bytes] | None = None
        self._session = 0
        self._ports: dict[str, int] = {}

    # -- one at a time ------------------------------------------------------------------------

    def lock(self) -> None:
        """Be the only quickstart of this repository until this process ends.

        Raises DemoError if there is another one.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        # A lock on the folder itself: no file to leave behind, and it ends with the process.
        folder = os.open(self.home.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another scripts/quickstart is at work here; wait for it") from None
        self._remember()

    def _remember(self) -> None:
        """Take over what an earlier run wrote down, so that it can be seen and stopped."""
        try:
            state = json.loads(self._state.read_bytes())
            self._session, self.base = int(state["session"]), Path(state["base"])
        except (OSError, ValueError, KeyError, TypeError):
            self._session, self.base = 0, self.home

    def running(self) -> bool:
        """Whether anything of the demo runs."""
        return next(self._processes(), 0) != 0

    def _processes(self) -> Iterator[int]:
        """Yield the demo's pids: in supervisord's session, with the demo's folder as theirs."""
        if self._supervisord is not None:
            self._supervisord.poll()  # reaps it
        for entry in Path("/proc").glob("[0-9]*") if self._session else ():
            pid = int(entry.name)
            try:
                if os.getsid(pid) == self._session and self.base.samefile(entry / "cwd"):
                    yield pid
            except OSError:
                continue  # gone meanwhile, or a zombie

    # -- files --------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the network's files anew, with ports that are free now.

        Raises DemoError if there is no place short enough for the sockets.
        """
        for folder in (self.logs, self.home / "sockets"):
            shutil.rmtree(folder, ignore_errors=True)
        self.logs.mkdir()
        for name in ("hosts.tab", "loncapa.conf"):
            shutil.copyfile(self.root / "config" / name, self.home / name)
        lines = (self.home / "hosts.tab").read_text(encoding="utf-8").splitlines()
        self.hosts = tuple(
            line.split(":")[0].strip() for line in lines if line.strip() and line[0] not in "#^"
        )
        self._ports = dict(zip(self.hosts, free_ports(len(self.hosts)), strict=True))
        self.base = self._place_for_sockets()
        self.config.write_text(self._toml(), encoding="utf-8")

    def _place_for_sockets(self) -> Path:
        def longest(base: Path) -> int:
            # supervisord binds its socket under this name first, with its pid at the end
            names = ["supervisor.sock.4194304", "sockets/lonc-admin"]
            names += [f"sockets/{host}" for host in self.hosts]
            return max(len(os.fsencode(base / name)) for name in names)

        if longest(self.home) <= LONGEST_SOCKET_PATH:
            return self.home
        base = Path(tempfile.mkdtemp(prefix="lonc-demo-"))
        if longest(base) > LONGEST_SOCKET_PATH:
            base.rmdir()
            raise DemoError(f"paths of Unix sockets end at 107 bytes: {base} is too deep for them")
        return base

    def _toml(self) -> str:
        sockets = "sockets" if self.base == self.home else str(self.base / "sockets")
        lines = [
            "# Written by scripts/quickstart, anew each time. config/lonc.toml explains every key.",
            "",
            "[network]",
            'hosts_tab = "hosts.tab"',
            'loncapa_conf = "loncapa.conf"  # says our own host id',
            "",
            "[sockets]",
            f"directory = {quoted(sockets)}",
            "",
            "[pool]",
            "retry_backoff_min = 0.2  # seconds: a demo is impatient",
            "retry_backoff_max = 1.0",
            "",
            "[delayed]",
            f"directory = {quoted(sockets + '/delayed')}",
            'perm_log = "logs/lonnet.perm.log"',
            "",
            "[admin]",
            f"socket = {quoted(sockets + '/lonc-admin')}",
            "",
            "[daemon]",
            'pid_file = "logs/lonc.pid"',
            'report_file = "logs/loncstatus.txt"',
            "",
            "[log]",
            "sample = 1  # every transaction",
        ]
        for host, port in self._ports.items():
            lines += ["", f"[hosts.{quoted(host)}]", 'address = "127.0.0.1"', f"port = {port}"]
        return "\n".join(lines) + "\n"

    def socket_of(self, host: str) -> Path:
        """Return the path of the Unix socket that stands for a host."""
        return self.base / "sockets" / host

    # -- supervisord --------------------------------------------------------------------------

    def start(self, *, outlive: bool) -> None:
        """Start supervisord; return when all its programs run and the daemon is ready.

        With `outlive` it goes on when this process ends, otherwise it stops then, however
        that comes about. Raises DemoError, with all that is needed to see why.
        """
        command = [str(self._bin / "supervisord"), "--nodaemon", "--configuration", self._conf()]
        setpriv = shutil.which("setpriv")
        if setpriv and not outlive:
            command = [setpriv, "--pdeathsig", "TERM", *command]
        with (self.logs / "supervisord.err").open("wb") as output, signals_held():
            self._supervisord = subprocess.Popen(
                command,
                cwd=self.base,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self._session = self._supervisord.pid
            state = {"session": self._session, "base": str(self.base)}
            self._state.write_text(json.dumps(state), encoding="utf-8")
        if not wait_until(self._all_running, START_SECONDS):
            raise DemoError(f"not everything was running within {START_SECONDS:.0f} s")
        if not wait_until(lambda: any(self.read_events("ready")), START_SECONDS):
            raise DemoError(f"the daemon did not log `ready` within {START_SECONDS:.0f} s")

    def _conf(self) -> str:
        return str(self.root / "config" / "supervisord.conf")

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "LONC_BIN": str(self._bin),
            "LONC_CONFIG": str(self.config),
            "LONC_RUN": str(self.base),
            "LONC_LOGS": str(self.logs),
            "LONC_INCLUDE": " ".join(["demo-londs.conf", *self.beside]),
            **{name: value for each in self.beside.values() for name, value in each.items()},
            **{f"LONC_PORT_{host.upper()}": str(port) for host, port in self._ports.items()},
        }

    def _all_running(self) -> bool:
        if self._supervisord is not None and self._supervisord.poll() is not None:
            raise DemoError(f"supervisord ended: {last_line(self.logs / 'supervisord.err')}")
        lines = [line.split() for line in self.supervisorctl("status").splitlines()]
        states = {words[0]: words[1] for words in lines if len(words) > 1}
        for program, state in states.items():
            if state in PROGRAMS_GONE:
                # The daemon's last words are events, a fake lond's go to its one log.
                log = self.logs / f"{program}.log"
                said = last_line(self.logs / "lonc.err") or last_line(self.events)
                said = last_line(log) if log.exists() else said
                raise DemoError(f"{program} does not stay up: {said or 'it said nothing'}")
        # Before supervisord listens there is one line without a state.
        count = len(self.hosts) + 1 + len(self.beside)
        return len(states) == count and set(states.values()) == {"RUNNING"}

    def supervisorctl(self, *words: str) -> str:
        """Return what supervisorctl says to these words, whatever it thinks of them."""
        command = [str(self._bin / "supervisorctl"), "--configuration", self._conf(), *words]
        done = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=START_SECONDS,
        )
        return done.stdout.strip()

    def tell(self, what: str, program: str, *, signal_name: str = "") -> None:
        """Have supervisorctl start, stop or signal a program. Raises DemoError if it does not."""
        words = [what, signal_name, program] if signal_name else [what, program]
        said = self.supervisorctl(*words)
        if not said.endswith((": started", ": stopped", ": signalled")):
            raise DemoError(f"supervisorctl {' '.join(words)}: {said or 'no answer'}")

    def stop(self) -> bool:
        """Stop all that runs, supervisord last; False if something had to be killed."""
        if not self._session:
            return True
        # supervisord stops its programs, each in its own time. If it is dead, they are told here.
        programs = set(self._processes())
        self._signal({self._session} & programs or programs, signal.SIGTERM)
        clean = wait_until(lambda: not self.running(), STOP_SECONDS)
        if not clean:
            self._signal(set(self._processes()), signal.SIGKILL)
            wait_until(lambda: not self.running(), STOP_SECONDS)
        self._state.unlink(missing_ok=True)
        if self.base != self.home and self.base.name.startswith("lonc-demo-"):
            shutil.rmtree(self.base, ignore_errors=True)
        self._session = 0
        return clean

    @staticmethod
    def _signal(pids: set[int], number: signal.Signals) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it was quicker

    # -- the daemon's log ---------------------------------------------------------------------

    def read_events(self, name: str) -> list[dict[str, Any]]:
        """All events of one name that the daemon has logged so far."""
        events = []
        for line in self.events.read_bytes().splitlines() if self.events.exists() else ():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # its end is not written yet
            if event.get("event") == name:
                events.append(event)
        return events


def free_ports(count: int) -> list[int]:
    """Ports on the loopback address that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def last_line(path: Path) -> str:
    """Return the last line of a file that says anything; "" if there is none."""
    text = path.read_text(errors="backslashreplace") if path.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def quoted(text: str) -> str:
    """Return a TOML string: a JSON one is, as long as only what has to be is escaped."""
    return json.dumps(text, ensure_ascii=False)
