# SPDX-License-Identifier: GPL-2.0-or-later
"""The systemd unit in config/."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lonc_gevent.cli.check import user_of
from lonc_gevent.cli.common import EXIT_BAD_CONFIG
from lonc_gevent.cli.run import EXIT_ALREADY_RUNNING, LAST_LINES
from lonc_gevent.configuration.settings import Admin
from lonc_gevent.daemon.drain import LAST_WORDS

UNIT = Path(__file__).resolve().parents[2] / "config" / "lonc-gevent.service"


def test_systemd_likes_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say against it."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here (Debian's package is systemd)")
    unit = tmp_path / UNIT.name
    # It looks whether the program is there.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/lonc/bin/lonc-gevent", sys.executable)
    unit.write_text(text, encoding="utf-8")

    done = subprocess.run(
        [analyze, "verify", "--man=no", unit],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_check_finds_the_user_of_the_unit(tmp_path: Path) -> None:
    config = Path("/etc/lonc/lonc.toml")

    assert user_of(UNIT, config) == "www"
    assert user_of(UNIT, tmp_path / "other.toml") is None
    assert user_of(tmp_path / "none.service", config) is None


def test_the_values_fit_together() -> None:
    """The unit waits longer than a stop takes, and does not retry what retrying cannot mend."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT, encoding="utf-8")
    service = parser["Service"]

    assert service["Type"] == "notify"
    assert service["ExecReload"] == service["ExecStart"].replace(" run ", " reload ")
    codes = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert codes == {EXIT_BAD_CONFIG, EXIT_ALREADY_RUNNING}
    longest = Admin().stop_timeout + LAST_WORDS + LAST_LINES
    assert int(service["TimeoutStopSec"]) >= longest * 1.5
