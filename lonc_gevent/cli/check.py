# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent check`: read all that `run` would read, and say what is wrong."""

from __future__ import annotations

from importlib import import_module
from time import time
from typing import TYPE_CHECKING

import click

from lonc_gevent.configuration.files import doubts
from lonc_gevent.errors import ConfigError

from .common import config_option, exit_bad_config, load_or_exit

if TYPE_CHECKING:
    from pathlib import Path


@click.command("check")
@config_option
@click.option("--for-restart", is_flag=True, hidden=True)  # what HUP asks of the new code
def command(config: Path, *, for_restart: bool) -> None:
    """Read everything that `run` would read, and say what is wrong.

    All problems at once, one a line on stderr: file, key or line, what was found, what was
    expected. Exit codes: 0 good, 2 not.
    """
    configuration = load_or_exit(config, to_run=True)
    problems = [str(problem) for problem in doubts(str(config), configuration, time())]
    if problems:
        exit_bad_config(ConfigError(problems))
    if for_restart:
        import_module("lonc_gevent.cli.run")
    click.echo(
        f"{config}: good; we are {configuration.settings.network.host_id},"
        f" {len(configuration.hosts)} hosts to serve"
    )
