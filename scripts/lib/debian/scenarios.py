# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/debian-root tries in a bare system."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from debian import install
from debian.root import REPOSITORY, USER

if TYPE_CHECKING:
    from collections.abc import Callable

    from debian.root import Root

APT = "export DEBIAN_FRONTEND=noninteractive\napt-get -qq update\napt-get -qq -y install "


def prepare(root: Root, user: str) -> str:
    """Put the repository's files into the home of a user; return its folder.

    A user cannot install Debian's packages, so this installs what README.md names.
    """
    home = "/root" if user == "root" else f"/home/{user}"
    if user != "root":
        root.run(f"useradd --create-home --shell /bin/bash {USER}")
    root.run(APT + ("python3" if user == "root" else "python3 python3-venv"))
    copy_repository(root, f"{home}/lonc-gevent")
    root.run(f"chown -R {user}: {home}/lonc-gevent")
    return f"{home}/lonc-gevent"


def copy_repository(root: Root, target: str) -> None:
    """Copy the files that git knows, as they are in the work tree."""
    listed = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others"]
    files = subprocess.run([*listed, "--exclude-standard"], check=True, capture_output=True).stdout
    folder = root.folder / target.lstrip("/")
    folder.mkdir(parents=True)
    pack = ["tar", "-C", str(REPOSITORY), "-c", "-T", "-"]
    packed = subprocess.run(pack, check=True, input=files, capture_output=True).stdout
    unpack = ["tar", "-C", str(folder), "-x", "--no-same-owner"]
    subprocess.run(unpack, check=True, input=packed)


def quickstart(root: Root, user: str) -> str:
    """Run the demonstration of README.md."""
    folder = prepare(root, user)
    return root.run("scripts/quickstart", user=user, folder=folder).stdout


def test(root: Root, user: str) -> str:
    """Run all tests."""
    folder = prepare(root, user)
    return root.run("scripts/test -n 2", user=user, folder=folder).stdout


def systemd(root: Root, user: str) -> str:
    """Run the tests that need a machine with systemd. They run as root, the daemon as nobody."""
    folder = prepare(root, user)
    root.run("bash -c 'source scripts/lib/setup.sh; set_up dev'", folder=folder)
    root.run(f"chmod o+x {folder}/..")
    root.boot()
    # Not below /tmp, which the unit has of its own.
    tests = "TMPDIR=/srv .venv/bin/python -m pytest -q -m slow tests/system/test_systemd.py"
    return root.run(tests, folder=folder).stdout


SCENARIOS: dict[str, Callable[[Root, str], str]] = {
    "quickstart": quickstart,
    "test": test,
    "systemd": systemd,
    "install-systemd": install.systemd,
    "install-supervisord": install.supervisord,
    "install-loncapa": install.loncapa,
    "upgrade": install.upgrade,
    "debian-upgrade": install.debian_upgrade,
}
"""Name -> what runs it: gets a fresh system and a user, returns the output, raises RootError."""
