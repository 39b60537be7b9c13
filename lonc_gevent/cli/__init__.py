# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: the list of commands. Most have a module of their own in this package.

A command's module is imported when it is used: `send` and `status` need no gevent.
"""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper
from pathlib import Path
from pkgutil import resolve_name
from typing import Final, cast

import click

from lonc_gevent import __version__

COMMANDS: Final = {
    "run": "lonc_gevent.cli.run:command",
    "check": "lonc_gevent.cli.check:command",
    "send": "lonc_gevent.cli.send:command",
    "delayed": "lonc_gevent.cli.delayed:command",
    "status": "lonc_gevent.cli.status:command",
    "pause": "lonc_gevent.cli.hosts:pause",
    "resume": "lonc_gevent.cli.hosts:resume",
    "reconnect": "lonc_gevent.cli.hosts:reconnect",
    "reload": "lonc_gevent.cli.reload:command",
    "doctor": "lonc_gevent.cli.doctor:command",
    "example": "lonc_gevent.cli.example:command",
    "lond": "lonc_gevent.fake_lond.command:lond_command",
}
"""Command -> its module and object, written as in an entry point."""


_PLAIN: Final = str.maketrans("●○◌‖✕✓·", "*o~=x+|") | {ord("…"): "..."}


class Commands(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command, None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", resolve_name(COMMANDS[cmd_name]))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-c", "--config", metavar="FILE", type=click.Path(path_type=Path), help="As of each command."
)
@click.version_option(__version__, prog_name="lonc-gevent")
def main(config: Path | None) -> None:  # noqa: ARG001 - read from the context (common.py)
    """Run and check the local proxy daemon of the LON-CAPA network, and show its status."""
    codecs.register_error("signs", _plain_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="signs")


def _plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII in place of the signs that the encoding of the output does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return text.translate(_PLAIN).encode("ascii", "replace").decode(), error.end
