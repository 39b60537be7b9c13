# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/howto/install.md; scripts/debian-root runs its commands on bare systems."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "lib"))

from debian.install import blocks
from debian.root import RootError

from lonc_gevent.configuration import files

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
HEADINGS = (
    "Program",
    "Configuration on a LON-CAPA server",
    "Configuration without LON-CAPA",
    "User",
    "Start under systemd",
    "Start under supervisord",
    "First request",
    "Upgrade",
    "Go back",
    "After an upgrade of Python or Debian",
)


@pytest.mark.parametrize("heading", HEADINGS)
def test_headings_that_scenarios_follow_have_commands(heading: str) -> None:
    assert all(blocks(heading))


def test_heading_without_commands_is_refused() -> None:
    with pytest.raises(RootError, match="no commands below 'Another supervisor'"):
        blocks("Another supervisor")


def test_examples_in_documents_exist() -> None:
    """Each `lonc-gevent example NAME` names a file of config/."""
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"lonc-gevent example ([\w.-]+\w)", document.read_text("utf-8"))
    }

    assert {name for name in named if not (CONFIG / name).is_file()} == set()
    assert "lonc-gevent.service" in named


def test_folders_of_the_unit_are_those_of_tmpfiles_and_configuration() -> None:
    """The unit, the snippet for supervisord and the short configuration agree."""
    unit = (CONFIG / "lonc-gevent.service").read_text("utf-8")
    parents = {"Runtime": "/run", "State": "/var/lib", "Logs": "/var/log"}
    made = {
        f"{parents[kind]}/{name}"
        for kind, name in re.findall(r"^(Runtime|State|Logs)Directory=(\S+)$", unit, re.MULTILINE)
    }
    snippet = (CONFIG / "lonc-gevent.tmpfiles").read_text("utf-8")
    (user,) = re.findall(r"^User=(\S+)$", unit, re.MULTILINE)

    assert set(re.findall(rf"^d (\S+) 07.. {user} {user} -$", snippet, re.MULTILINE)) == made
    settings = files.load(CONFIG / "server.toml").settings
    assert settings.sockets.directory == "/run/lonc/sockets"
    assert settings.admin.socket == "/run/lonc/sockets/lonc-admin"
    assert settings.delayed.directory == "/var/lib/lonc/delayed"
    assert made == {"/run/lonc", "/var/lib/lonc", "/var/log/lonc"}
    sysusers = (CONFIG / "lonc-gevent.sysusers").read_text("utf-8")
    assert f"\nu {user} " in sysusers
