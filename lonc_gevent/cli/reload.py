# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent reload`: restart the running daemon in place, and wait for the result."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

import click

from lonc_gevent.configuration.files import Files, examine
from lonc_gevent.errors import ConfigError

from .admin_client import EXIT_NO_DAEMON, FAILURES, OK, ask, no_daemon
from .common import EXIT_BAD_CONFIG, config_option, echo, exit_bad_config

if TYPE_CHECKING:
    from pathlib import Path

    from lonc_gevent.configuration.files import Examined

TIMEOUT: Final = 150.0
"""Seconds: for the rehearsal, for requests in progress, and for the start of the new program."""

MAX_BAD_LINES: Final = 100


@click.command("reload")
@config_option
def command(config: Path) -> None:
    """Restart the running daemon in place, as HUP does, and wait for the result.

    If the new code or configuration cannot be started nothing changes, and the problems are
    printed on stderr, one a line. Exit codes: 0 restarted, 2 refused, 5 no daemon is running.
    """
    examined = examine(config)
    # Also a file that is no TOML is for the daemon to refuse, so that its status shows that.
    settings = examined.settings or _without_bad_lines(config).settings
    if settings is None:
        exit_bad_config(_error(examined))
    path = settings.admin.socket
    try:
        code, body = ask(path, "/reload", method="POST", timeout=TIMEOUT)
    except FAILURES as error:
        if examined.settings is None:
            exit_bad_config(_error(examined))
        echo(no_daemon(path, error), err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None
    text = body.decode("utf-8", "backslashreplace")
    if code != OK:
        for line in text.splitlines():
            echo(line, err=True)
        raise SystemExit(EXIT_BAD_CONFIG)
    echo(text.rstrip("\n"))


def _error(examined: Examined) -> ConfigError:
    return ConfigError([str(problem) for problem in examined.problems])


def _without_bad_lines(config: Path) -> Examined:
    """Examine a file without the lines at which its parsing as TOML fails."""
    content = Files().read(str(config))
    lines = content.decode("utf-8", "replace").splitlines() if isinstance(content, bytes) else []
    for _ in range(MAX_BAD_LINES):
        try:
            tomllib.loads("\n".join(lines))
        except ValueError as error:
            place = re.search(r"\(at line (\d+)", str(error))
            lines.pop(min(int(place[1]), len(lines)) - 1 if place else -1)
        else:
            break
    return examine(config, Files({str(config): "\n".join(lines).encode()}))
