# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: which commands there are. Each is a module in `commands/`.

A command's module is imported when it is used: `send` and `status` need no gevent.
"""

from __future__ import annotations

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
    "reload": "lonc_gevent.cli.reload:command",
    "doctor": "lonc_gevent.cli.doctor:command",
    "example": "lonc_gevent.cli.example:command",
    "lond": "lonc_gevent.fake_lond.command:lond_command",
}
"""Command -> where it is, written as in an entry point."""


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command, None if there is no such one."""
        if cmd_name not in COMMANDS:
            return None
        return cast("click.Command", resolve_name(COMMANDS[cmd_name]))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="lonc-gevent")
def main() -> None:
    """Run, check and ask the local proxy daemon of the LON-CAPA network."""
