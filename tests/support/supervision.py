# SPDX-License-Identifier: GPL-2.0-or-later
"""A real supervisord, or systemd, that runs the daemon with the files of config/."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

ROOT = Path(__file__).resolve().parents[2]


def _events(log: bytes, event: str) -> list[dict[str, Any]]:
    """Return the events of this name in a log that is still being written."""
    found = []
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [each for each in found if each.get("event") == event]


class Supervisor:
    """supervisord for a network's daemon, in a folder of its own."""

    def __init__(self, net: Network, conf: str, replace: dict[str, str], **env: str) -> None:
        self.run = net.directory / "run"
        self.logs = net.directory / "logs"
        program = net.directory / "bin" / "lonc-gevent"
        for folder in (self.run, self.logs, program.parent):
            folder.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lonc_gevent "$@"\n')
        program.chmod(0o755)
        text = (ROOT / "config" / conf).read_text(encoding="utf-8")
        for old, new in replace.items():
            assert old in text, old
            text = text.replace(old, new)
        self.conf = net.directory / conf
        self.conf.write_text(text, encoding="utf-8")
        self._bin = Path(sys.executable).parent
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LONC_BIN": str(program.parent),
            "LONC_CONFIG": str(net.config),
            "LONC_RUN": str(self.run),
            "LONC_LOGS": str(self.logs),
            "LONC_INCLUDE": "",
            **env,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in the foreground of a session of its own."""
        command = [str(self._bin / "supervisord"), "-n", "-c", str(self.conf)]
        with (self.run / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def ctl(self, *words: str) -> str:
        """Return what supervisorctl says to these words."""
        done = subprocess.run(
            [str(self._bin / "supervisorctl"), "-c", str(self.conf), *words],
            env=self._env,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE * 2,
        )
        return done.stdout.strip()

    def pid(self, program: str = "lonc-gevent") -> int:
        """Return the pid of a program of its; 0 if it does not run."""
        answer = self.ctl("pid", program)
        return int(answer) if answer.isdigit() else 0

    @property
    def own_log(self) -> list[str]:
        """The lines of supervisord's own log."""
        path = self.logs / "supervisord.log"
        return path.read_text().splitlines() if path.exists() else []

    def events(self, event: str, name: str = "lonc.log") -> list[dict[str, Any]]:
        """Return the events of this name in the daemon's log, as far as it is not rotated."""
        path = self.logs / name
        return _events(path.read_bytes() if path.exists() else b"", event)

    def wait_for(self, event: str, times: int = 1, name: str = "lonc.log") -> dict[str, Any]:
        """Wait until the daemon has logged the event so many times; return the last one."""
        wait_until(lambda: len(self.events(event, name)) >= times, f"event {event}")
        return self.events(event, name)[-1]

    def stop(self) -> None:
        """Stop it, and with it all that it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE * 2)


@contextlib.contextmanager
def supervisord(
    net: Network, conf: str = "supervisord.conf", replace: dict[str, str] | None = None, **env: str
) -> Iterator[Supervisor]:
    """Run the network's daemon under supervisord."""
    net.write()
    made = Supervisor(net, conf, replace or {}, **env)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Unit:
    """The unit of config/, for a network's daemon, in the systemd that runs this machine."""

    USER, GROUP = "nobody", "nogroup"

    def __init__(self, net: Network, env: dict[str, str]) -> None:
        self.name = f"lonc-test-{os.getpid()}.service"
        self._path = Path("/run/systemd/system") / self.name
        program = net.directory / "lonc-gevent"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lonc_gevent "$@"\n')
        program.chmod(0o755)
        text = (ROOT / "config" / "lonc-gevent.service").read_text(encoding="utf-8")
        more = "".join(f"Environment={name}={value}\n" for name, value in env.items())
        for old, new in {
            "/opt/lonc/bin/lonc-gevent": str(program),
            "/etc/lonc/lonc.toml": str(net.config),
            "User=www": f"User={self.USER}",
            "Group=www": f"Group={self.GROUP}",
            "[Service]\n": f"[Service]\n{more}ReadWritePaths={net.directory}\n",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        self._path.write_text(text, encoding="utf-8")
        self.ctl("daemon-reload")
        shutil.chown(net.directory, self.USER, self.GROUP)

    def ctl(self, *words: str) -> int:
        """Run systemctl; return its exit code."""
        return subprocess.run(["systemctl", *words], check=False, timeout=PATIENCE * 4).returncode

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        command = ["systemctl", "show", "--value", f"--property={name}", self.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the events of this name in the journal."""
        command = ["journalctl", "--unit", self.name, "--output=cat", "--no-pager"]
        return _events(subprocess.run(command, check=True, capture_output=True).stdout, event)

    def wait_for(self, event: str, times: int = 1) -> dict[str, Any]:
        """Wait until the daemon has logged the event so many times; return the last one."""
        wait_until(lambda: len(self.events(event)) >= times, f"event {event}", PATIENCE * 2)
        return self.events(event)[-1]

    def close(self) -> None:
        """Stop the daemon and remove the unit."""
        self.ctl("stop", self.name)
        self._path.unlink()
        self.ctl("daemon-reload")
