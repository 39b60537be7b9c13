# SPDX-License-Identifier: GPL-2.0-or-later
"""A real rsyslog or syslog-ng with our example of a configuration, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).resolve().parents[2] / "config"
LOG, LEVELS = "/var/log/lonc/lonc.log", "/var/log/lonc-levels/"

DEBIAN = Path(sys.prefix) / "debian"
"""Where scripts/test unpacks what cannot be installed: syslog-ng and rsyslog conflict."""


@dataclass(frozen=True)
class Shipper:
    """A program that reads the daemon's log file, and writes one file for each level."""

    name: str
    program: str

    def command(self, folder: Path) -> list[str]:
        """Return the command that runs it in the foreground, with `folder` for all its files."""
        conf, pid = str(folder / "shipper.conf"), str(folder / "shipper.pid")
        if self.name == "rsyslog":
            return [self.program, "-n", "-f", conf, "-i", pid]
        files = ["--persist-file", str(folder / "persist"), "--control", str(folder / "ctl")]
        modules = ":".join(map(str, DEBIAN.glob("usr/lib/syslog-ng/3.*")))
        if modules:
            files += ["--module-path", modules]
        return [self.program, "--foreground", "--no-caps", "-f", conf, "--pidfile", pid, *files]

    def configuration(self, log: Path, folder: Path) -> str:
        """Return our example of a configuration with other paths, and what must surround it."""
        text = (CONFIG / f"{self.name}.conf").read_text("utf-8")
        assert LOG in text
        text = text.replace(LOG, str(log)).replace(LEVELS, f"{folder / 'levels'}/")
        if self.name == "rsyslog":
            return f'global(workDirectory="{folder}")\n{text}'
        return f"@version: 3.38\noptions {{ stats-freq(0); }};\n{text}"

    def complaints(self, output: str) -> list[str]:
        """Return the lines of its output that are not usual."""
        # rsyslog looks for the file by name while supervisord rotates it, and looks again.
        usual = ("poll_tree cannot stat", "syslog-ng starting up", "syslog-ng shutting down")
        return [line for line in output.splitlines() if not any(text in line for text in usual)]

    @contextlib.contextmanager
    def run(self, log: Path, folder: Path) -> Iterator[Path]:
        """Run it on a log file; yield the folder with a file for each level."""
        levels = folder / "levels"
        levels.mkdir()
        (folder / "shipper.conf").write_text(self.configuration(log, folder), "utf-8")
        libraries = [*DEBIAN.glob("usr/lib/*-linux-gnu"), *DEBIAN.glob("lib/*-linux-gnu")]
        libraries.append(DEBIAN / "usr/lib/syslog-ng")
        output = folder / "shipper.output"
        with (
            output.open("wb") as file,
            subprocess.Popen(
                self.command(folder),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))},
            ) as process,
        ):
            try:
                yield levels
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
        complaints = self.complaints(output.read_text())
        assert not complaints, complaints


def find(name: str) -> Shipper:
    """Return the program "rsyslog" or "syslog-ng"; skip the test if it is not installed."""
    path = f"{DEBIAN / 'usr/sbin'}:/usr/sbin:/sbin:/usr/local/sbin:/usr/bin"
    program = shutil.which({"rsyslog": "rsyslogd"}.get(name, name), path=path)
    if program is None:
        pytest.skip(f"{name} is not installed (scripts/test installs it)")
    return Shipper(name, program)


def count_lines(levels: Path) -> dict[str, int]:
    """Count the lines in each file."""
    return {path.name: path.read_bytes().count(b"\n") for path in levels.iterdir()}
