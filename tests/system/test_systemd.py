# SPDX-License-Identifier: GPL-2.0-or-later
"""The systemd unit in config/, also under a real systemd (`scripts/debian-root try 12 systemd`)."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bad_starts import (
    CODE,
    CONFIGURATIONS,
    copy_code,
    socket_directory_of_another_daemon,
    spoilt,
    value_that_is_none,
)
from supervision import Unit

from lonc_gevent.cli.check import user_of
from lonc_gevent.cli.common import EXIT_BAD_CONFIG
from lonc_gevent.cli.run import EXIT_ALREADY_RUNNING, LAST_LINES
from lonc_gevent.configuration.settings import Admin
from lonc_gevent.daemon.drain import LAST_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network

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


@pytest.fixture
def unit(net: Network) -> Iterator[Unit]:
    """Run a network's daemon, with a copy of the code, as a unit of this machine's systemd."""
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir():
        pytest.skip("needs root and a machine, or container, that systemd runs")
    net.add("msul2")
    net.write()
    made = Unit(net, copy_code(net))
    assert made.ctl("start", made.name) == 0
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_daemon_serves_through_every_start_that_would_fail(net: Network, unit: Unit) -> None:
    """Each way of bad_starts.py, one after another, under one daemon."""
    pid = unit.show("MainPID")
    ways = [*CONFIGURATIONS, *CODE]
    ways.remove(socket_directory_of_another_daemon)  # that daemon would be root's
    with net.client("msul2") as client:
        for number, way in enumerate(ways, 1):
            with spoilt(net, way) as reason:
                assert unit.ctl("kill", "--kill-whom=main", "--signal=HUP", unit.name) == 0
                problems = unit.wait_for("reload_refused", number)["problems"]
            assert any(reason in problem for problem in problems), (way.__name__, problems)
            assert client.ask(b"ping") == b"msul2"
            assert net.ask("msul2", b"ping") == b"msul2"
        with spoilt(net, value_that_is_none):
            assert unit.ctl("reload", unit.name) != 0

        assert unit.ctl("reload", unit.name) == 0

        assert len(unit.events("ready")) == 2
        assert client.ask(b"ping") == b"msul2"
    assert (unit.show("MainPID"), unit.show("NRestarts")) == (pid, "0")
    assert unit.show("ActiveState") == "active"
