# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts checked as if they were files, for the tests beside this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lonc_gevent.configuration.check import Checked, check
from lonc_gevent.configuration.problems import is_fatal

if TYPE_CHECKING:
    from lonc_gevent.configuration.settings import Configuration

BASE = '[network]\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n'
HOSTS = (
    b"msul1:msu:library:one.example\nmsul2:msu:access:two.example\ns10.l2:x:access:one.example\n"
)


def run(toml: str | bytes, hosts: bytes = HOSTS, conf: bytes | None = None) -> Checked:
    """Check texts as if they were files in /etc/lonc."""
    files = {"/etc/lonc/hosts.tab": hosts, "/lonTabs/hosts.tab": hosts}
    if conf is not None:
        files["/etc/lonc/loncapa.conf"] = conf

    def read(path: str) -> bytes | str:
        return files.get(path, "does not exist")

    data = toml if isinstance(toml, bytes) else toml.encode()
    return check(data, file="lonc.toml", folder="/etc/lonc", read=read)


def good(toml: str, hosts: bytes = HOSTS, conf: bytes | None = None) -> Configuration:
    """Check texts that must pass."""
    checked = run(toml, hosts, conf)
    assert not checked.problems, [str(problem) for problem in checked.problems]
    assert checked.configuration is not None
    return checked.configuration


def problems_of(toml: str | bytes, hosts: bytes = HOSTS, conf: bytes | None = None) -> list[str]:
    """Check texts that have problems; return these as lines."""
    checked = run(toml, hosts, conf)
    assert checked.problems
    assert (checked.configuration is None) == is_fatal(checked.problems)
    return [str(problem) for problem in checked.problems]
