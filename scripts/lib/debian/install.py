# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios that run the commands of docs/howto/install.md to the letter, under a real systemd."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from debian.root import REPOSITORY, RootError

if TYPE_CHECKING:
    from debian.root import Root

DOCUMENT = REPOSITORY / "docs" / "howto" / "install.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREVIOUS = "f238790"
"""The last release, as git knows it."""

BEGIN = ("Program", "Configuration without LON-CAPA", "User")
CONFIG = "--config /etc/lonc/lonc.toml"
FAKE_LOND = "systemd-run --quiet --unit=fake-lond lonc-gevent lond --port 5663 --id msul1"
ASK = f"""
for _ in $(seq 100); do
    [ "$(lonc-gevent send {CONFIG} msul1 ping)" != msul1 ] || exit 0
    sleep 0.2
done
exit 1
"""
LOAD = """
systemd-run --quiet --unit=load --property=StandardOutput=truncate:/root/result \
    python3 /root/load.py /run/lonc/sockets/msul1
"""
HUP = """
count() { journalctl --unit=lonc-gevent --output=cat | grep -c '"event":"ready"'; }
before=$(count)
systemctl kill --kill-whom=main --signal=HUP lonc-gevent
for _ in $(seq 300); do
    [ "$(count)" = "$before" ] || exit 0
    sleep 0.2
done
journalctl --unit=lonc-gevent --output=cat
exit 1
"""
DIST_UPGRADE = """
export DEBIAN_FRONTEND=noninteractive
sed -i s/bookworm/trixie/ /etc/apt/sources.list
apt-get -qq update
apt-get -qq -y -o Dpkg::Options::=--force-confold dist-upgrade
apt-get -qq -y autoremove
systemctl is-active lonc-gevent
! lonc-gevent --version
"""
RESTART = "systemctl reset-failed lonc-gevent\nsystemctl restart lonc-gevent\n"
LOADED = "systemctl stop load\ncat /root/result"


def blocks(heading: str) -> list[str]:
    """Return the commands below a heading of the document, one text for each block."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    commands = BLOCK.findall(found[1]) if found else []
    if not commands:
        raise RootError(f"{DOCUMENT} has no commands below {heading!r}")
    return commands


def follow(root: Root, *headings: str, only: int | None = None) -> str:
    """Run the commands below these headings; return their output. Raises RootError.

    only  the number of the only block to run, from 0
    """
    output = ""
    for heading in headings:
        chosen = blocks(heading)
        for block in chosen if only is None else [chosen[only]]:
            output += root.run(f"set -x\n{block}").stdout
    return output


def put_wheel(root: Root, revision: str = "", version: str = "") -> None:
    """Build a wheel and make it the only one in the home of root.

    revision  of git; "": the work tree
    version   that the wheel gets in place of its own
    """
    for old in (root.folder / "root").glob("*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        git = ["git", "-C", str(REPOSITORY)]
        if not revision:
            stash = [*git, "stash", "create"]  # the work tree as a commit; "" if it is HEAD
            done = subprocess.run(stash, check=True, capture_output=True, text=True)
            revision = done.stdout.strip() or "HEAD"
        archive = [*git, "archive", revision]
        packed = subprocess.run(archive, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", name], check=True, input=packed)
        if version:
            module = tree / "lonc_gevent" / "__init__.py"
            text = re.sub('__version__ = ".*"', f'__version__ = "{version}"', module.read_text())
            module.write_text(text)
        command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
        subprocess.run(command, check=True, cwd=tree, capture_output=True)
        (wheel,) = (tree / "dist").iterdir()
        shutil.copy(wheel, root.folder / "root")


def systemd(root: Root, _user: str) -> str:
    """Install under systemd, reboot, send a request."""
    root.boot()
    put_wheel(root)
    output = follow(root, *BEGIN, "Start under systemd", "First request")
    root.reboot()
    return output + root.run(FAKE_LOND + ASK).stdout


def supervisord(root: Root, _user: str) -> str:
    """Install under supervisord, reboot, send a request."""
    root.boot()
    put_wheel(root)
    output = follow(root, *BEGIN, "Start under supervisord", "First request")
    root.reboot()
    return output + root.run(FAKE_LOND + ASK + "supervisorctl status").stdout


def loncapa(root: Root, _user: str) -> str:
    """Install on a machine with the user, the folders and the configuration of LON-CAPA."""
    root.boot()
    put_wheel(root)
    root.run(
        "useradd --create-home --home-dir /home/www www\n"
        "mkdir -p /etc/httpd/conf /home/httpd/lonTabs /home/httpd/sockets /home/httpd/perl/logs\n"
        "chown www: /home/httpd/sockets /home/httpd/perl/logs"
    )
    config = REPOSITORY / "config"
    shutil.copy(config / "loncapa.conf", root.folder / "etc/httpd/conf")
    shutil.copy(config / "hosts.tab", root.folder / "home/httpd/lonTabs")
    output = follow(root, "Program", "Configuration on a LON-CAPA server", "User")
    output += root.run(FAKE_LOND).stdout
    output += follow(root, "Start under systemd", "First request")
    root.reboot()
    return output + root.run(FAKE_LOND + ASK).stdout


def upgrade(root: Root, _user: str) -> str:
    """Upgrade from the last release and go back, both under load; make the environment anew."""
    root.boot()
    put_wheel(root, version="98.0")
    output = follow(root, *BEGIN, "Start under systemd", "First request")
    put_wheel(root, PREVIOUS)
    root.run("/opt/lonc/bin/pip install ./lonc_gevent-*.whl\n" + HUP)
    shutil.copy(Path(__file__).with_name("load.py"), root.folder / "root")

    root.run(LOAD)
    put_wheel(root, version="99.0")
    root.run("/opt/lonc/bin/pip install --upgrade ./lonc_gevent-*.whl\n" + HUP)
    output += expect_none_lost(root, "99.0", f"HUP from {PREVIOUS}")

    root.run(LOAD)
    put_wheel(root, version="98.0")
    output += follow(root, "Go back")
    put_wheel(root, version="99.0")
    output += follow(root, "Upgrade", only=0)
    output += expect_none_lost(root, "99.0", "back and forth")

    # An environment whose Python is gone, as after an upgrade of Debian.
    root.run("ln -sf /usr/bin/python3.0 /opt/lonc/bin/python3\n! lonc-gevent --version")
    output += follow(root, "After an upgrade of Python or Debian")
    return output + root.run(RESTART + ASK).stdout


def debian_upgrade(root: Root, _user: str) -> str:
    """Upgrade Debian 12 below an installation to 13, reboot, and make the environment anew."""
    root.boot()
    put_wheel(root)
    output = follow(root, *BEGIN, "Start under systemd", "First request")
    output += root.run(DIST_UPGRADE).stdout
    root.reboot()
    output += follow(root, "After an upgrade of Python or Debian")
    return output + root.run(RESTART + FAKE_LOND + ASK).stdout


def expect_none_lost(root: Root, version: str, name: str) -> str:
    """Stop the load; return its result as a line.

    Raises RootError if a request was lost, or another version than this one runs.
    """
    root.run(f"""lonc-gevent status {CONFIG} --json | grep -E '"version": *"{version}"'""")
    line = root.run(LOADED).stdout
    result = json.loads(line.splitlines()[-1])
    if result["lost"] or not result["requests"]:
        raise RootError(f"{name}: {line}")
    return f"{name}: {line}"
