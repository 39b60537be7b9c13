# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent check`: read all that `run` would read, and list the problems."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from lonc_gevent.configuration.problems import Severity, is_fatal
from lonc_gevent.daemon.requirements import examine

from .common import EXIT_BAD_CONFIG, config_option, echo

if TYPE_CHECKING:
    from pathlib import Path


@click.command("check")
@config_option
@click.option("--strict", is_flag=True, help="Exit with 2 for warnings, too.")
@click.option("--for-restart", is_flag=True, hidden=True)  # run by the daemon before a restart
def command(config: Path, *, strict: bool, for_restart: bool) -> None:
    """Read everything that `run` would read, and list the problems.

    All problems at once, one a line on stderr: file, key or line, what was found, what was
    expected. A line that begins with `warning:` is not an error. Exit codes: 0 good, 2 not.
    """
    examined = examine(config)
    errors = False
    for problem in examined.problems:
        is_error = strict or problem.severity is not Severity.WARNING
        errors |= is_error
        if not for_restart or problem.severity is Severity.FATAL:
            echo(f"{problem}" if is_error else f"warning: {problem}", err=True)
    if is_fatal(examined.problems) if for_restart else errors:
        raise SystemExit(EXIT_BAD_CONFIG)
    if for_restart:
        import_module("lonc_gevent.cli.run")
    configuration = examined.accepted()
    echo(
        f"{config}: good; we are {configuration.settings.network.host_id},"
        f" {len(configuration.hosts)} hosts to serve"
    )
