# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands, one a module; each has a click command named `command`.

Exit codes are those of contract.md, "Command line": a bad configuration is 2 everywhere.
"""

from __future__ import annotations

import os
import pwd
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from lonc_gevent.configuration.files import load
from lonc_gevent.errors import ConfigError
from lonc_gevent.printable import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lonc_gevent.configuration.settings import Configuration

EXIT_BAD_CONFIG = 2

MAX_NAMED = 10
"""Hosts that an error names if none is like the one that was given."""

DEFAULT_CONFIG = Path("/etc/lonc/lonc.toml")


def _config_of(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path:
    """Return the option, else that of a command before this one, else the default."""
    parent = ctx.parent
    while value is None and parent is not None:
        value, parent = parent.params.get("config"), parent.parent
    return value or Path(os.environ.get("LONC_CONFIG") or DEFAULT_CONFIG)


config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    callback=_config_of,
    help=f"The TOML file; without it $LONC_CONFIG, then {DEFAULT_CONFIG}.",
)


def complete_host(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of the served hosts that begin so, for the completion of a shell."""
    try:
        configuration = load(_config_of(ctx, _param, ctx.params.get("config")))
    except ConfigError:
        return []
    return [host.id for host in configuration.hosts if host.id.startswith(incomplete)]


def unknown_host(host: str, known: Iterable[str]) -> click.UsageError:
    """Return the error for a host that is not served, with the host ids most like it."""
    known = sorted(known)
    likely = get_close_matches(host, known, n=3, cutoff=0.5)
    if likely:
        return click.UsageError(
            f"no host {host!r} is served here; did you mean {' or '.join(likely)}?"
        )
    some = f"; there are {', '.join(known[:MAX_NAMED])}" if known else ""
    return click.UsageError(f"no host {host!r} is served here{some}")


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


def timestamp(seconds: float) -> str:
    """Return an RFC 3339 time, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def user_name(uid: int) -> str:
    """Return the name of a user, `uid N` if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
