# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent reload`: restart the running daemon in place, and wait for the result."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPException
from typing import TYPE_CHECKING, Final

import click

from lonc_gevent.configuration.files import examine
from lonc_gevent.errors import ConfigError

from .common import EXIT_BAD_CONFIG, config_option, echo, exit_bad_config
from .status import EXIT_NO_DAEMON, UnixConnection, no_daemon

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT: Final = 150.0
"""Seconds: for the rehearsal, for requests in progress, and for the start of the new program."""


@click.command("reload")
@config_option
def command(config: Path) -> None:
    """Restart the running daemon in place, as HUP does, and wait for the result.

    If the new code or configuration cannot be started nothing changes, and the problems are
    printed on stderr, one a line. Exit codes: 0 restarted, 2 refused, 5 no daemon there.
    """
    examined = examine(config)
    if examined.settings is None:
        exit_bad_config(ConfigError([str(problem) for problem in examined.problems]))
    path = examined.settings.admin.socket
    try:
        with closing(UnixConnection(path, TIMEOUT)) as connection:
            connection.request("POST", "/reload")
            response = connection.getresponse()
            text = response.read().decode("utf-8", "backslashreplace")
    except (OSError, HTTPException) as error:
        echo(no_daemon(path, error), err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None
    if response.status != 200:  # noqa: PLR2004 - HTTP's OK
        for line in text.splitlines():
            echo(line, err=True)
        raise SystemExit(EXIT_BAD_CONFIG)
    echo(text.rstrip("\n"))
