# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent check`: read all that `run` would read, and list the problems."""

from __future__ import annotations

import os
import pwd
import re
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from lonc_gevent.admin.server import listen_tcp
from lonc_gevent.configuration.files import Files
from lonc_gevent.configuration.problems import Problem, Severity
from lonc_gevent.daemon.requirements import examine
from lonc_gevent.errors import ConfigError

from .common import EXIT_BAD_CONFIG, config_option, echo
from .explanation import explanation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.settings import Settings

UNIT: Final = Path("/etc/systemd/system/lonc-gevent.service")
"""The unit of config/lonc-gevent.service, where it is installed."""

TIMEOUT: Final = 2.0
"""Seconds to wait for the program that has the port of admin.listen."""


@click.command("check")
@config_option
@click.option("--strict", is_flag=True, help="Exit with 2 for warnings, too.")
@click.option("--user", metavar="NAME", help="Check as this user, for root; otherwise the unit's.")
@click.option("--explain", is_flag=True, help="List each key, its value, and where it is from.")
@click.option("--for-restart", is_flag=True, hidden=True)  # run by the daemon before a restart
def command(
    config: Path, *, strict: bool, user: str | None, explain: bool, for_restart: bool
) -> None:
    """Read everything that `run` would read, and list the problems.

    All problems at once, one a line on stderr: file, key or line, what was found, what was
    expected. A line that begins with `warning:` is not an error. Exit codes: 0 good, 2 not.
    """
    if for_restart:
        import_module("lonc_gevent.cli.run").rehearse(config)
        return
    if user is None and os.geteuid() == 0:
        user = user_of(UNIT, config)
    if user is not None:
        _become(user)
    files = Files()
    examined = examine(config, files)
    if explain:
        for line in explanation(str(config), examined, files):
            echo(line)
    problems = list(examined.problems)
    if examined.configuration is not None:
        problems += _port_faults(str(config), examined.configuration.settings)
    if user is None and os.geteuid() == 0:
        found = "checked as root: permissions of the daemon's user were not checked"
        problems.append(Problem(str(config), "", found, "see --user", Severity.WARNING))
    errors = False
    for problem in problems:
        is_error = strict or problem.severity is not Severity.WARNING
        errors |= is_error
        echo(f"{problem}" if is_error else f"warning: {problem}", err=True)
    if errors:
        raise SystemExit(EXIT_BAD_CONFIG)
    configuration = examined.accepted()
    echo(
        f"{config}: good; we are {configuration.settings.network.host_id},"
        f" {len(configuration.hosts)} hosts to serve"
    )


def user_of(unit: Path, config: Path) -> str | None:
    """Return the user of a systemd unit that runs the daemon with this configuration, or None."""
    try:
        text = unit.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    user = re.search(r"^User=(\S+)\s*$", text, re.MULTILINE)
    return user[1] if user and str(config.absolute()) in text else None


def _become(name: str) -> None:
    """Give up root's privileges for those of a user; bad usage if that is impossible."""
    try:
        user = pwd.getpwnam(name)
        if user.pw_uid != os.geteuid():
            os.initgroups(name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
    except KeyError:
        raise click.BadParameter(f"no user {name!r} on this machine", param_hint="--user") from None
    except PermissionError:
        raise click.BadParameter(
            "only root can check as another user", param_hint="--user"
        ) from None


def _port_faults(file: str, settings: Settings) -> Iterator[Problem]:
    """See that the port of admin.listen is free, or a daemon of this host has it."""
    address = settings.admin.listen
    if not address:
        return
    try:
        listen_tcp(address).close()
    except ConfigError as error:
        if _host_behind(address) != settings.network.host_id:
            found = str(error).removeprefix("admin.listen: ")
            yield Problem(file, "admin.listen", found, "expected a port that is free")


def _host_behind(address: str) -> str:
    """Return the host id of the daemon that listens on an address, "" if it is none."""
    try:
        with closing(HTTPConnection(address, timeout=TIMEOUT)) as connection:
            connection.request("GET", "/status")
            status = msgspec.json.decode(connection.getresponse().read(), type=dict[str, object])
    except (OSError, HTTPException, msgspec.DecodeError):
        return ""
    return str(status.get("host_id"))
