# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands, one a module; each has a click command named `command`.

Exit codes are those of contract.md, "Command line": a bad configuration is 2 everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from lonc_gevent.configuration.files import load
from lonc_gevent.errors import ConfigError
from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from lonc_gevent.configuration.settings import Configuration

EXIT_BAD_CONFIG = 2

config_option = click.option(
    "--config",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The TOML file.",
)


def echo(text: object, *, err: bool = False) -> None:
    """Print one line on stdout, or stderr; what is not printable is escaped."""
    click.echo(escape(str(text)), err=err)


def load_or_exit(path: Path) -> Configuration:
    """Return the configuration; if a problem is fatal, print all problems and exit with 2."""
    try:
        return load(path)
    except ConfigError as error:
        exit_bad_config(error)


def exit_bad_config(error: ConfigError) -> NoReturn:
    """Print each problem as one line on stderr, and exit with 2."""
    for problem in error.problems:
        echo(problem, err=True)
    raise SystemExit(EXIT_BAD_CONFIG)
