# SPDX-License-Identifier: GPL-2.0-or-later
"""A real rsyslogd with our config/rsyslog.conf, in a folder of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from harness import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = Path(__file__).resolve().parents[2] / "config" / "rsyslog.conf"
LOGS, LEVELS = "/var/log/lonc/", "/var/log/lonc-levels/"


def find() -> str | None:
    """Return the path of rsyslogd; None if it is not here (Debian's package is rsyslog)."""
    return shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")


@contextlib.contextmanager
def rsyslogd(program: str, log: Path, folder: Path) -> Iterator[Path]:
    """Run it on a log file; yield the folder with a file for each level."""
    levels, work = folder / "levels", folder / "work"
    levels.mkdir()
    work.mkdir()
    text = CONF.read_text(encoding="utf-8")
    text = text.replace(f"{LOGS}lonc.log", str(log)).replace(LEVELS, f"{levels}/")
    conf = folder / "rsyslog.conf"
    conf.write_text(f'global(workDirectory="{work}")\n{text}', encoding="utf-8")
    with (
        (folder / "rsyslogd.output").open("wb") as output,
        subprocess.Popen(
            [program, "-n", "-f", str(conf), "-i", str(folder / "rsyslogd.pid")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
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
    said = (folder / "rsyslogd.output").read_text().splitlines()
    # It looks for the file by name while supervisord rotates it, and looks again.
    assert not [line for line in said if "poll_tree cannot stat" not in line], said


def lines(levels: Path) -> dict[str, int]:
    """Count the lines in each file."""
    return {path.name: path.read_bytes().count(b"\n") for path in levels.iterdir()}
