# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent pause`, `resume` and `reconnect`: commands for hosts of the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from .admin_client import EXIT_NO_DAEMON, FAILURES, NOT_FOUND, ask, host_path, no_daemon
from .common import complete_host, config_option, echo, load_or_exit, unknown_host

if TYPE_CHECKING:
    from pathlib import Path

_CODES: Final = " Exit codes: 0 done, 2 no such host, 5 no daemon is running."


def _command(name: str, text: str) -> click.Command:
    """Make the command that sends `POST /hosts/HOST/NAME` for each host."""

    @click.command(name, help=text + _CODES)
    @config_option
    @click.argument(
        "hosts", nargs=-1, required=True, metavar="HOST...", shell_complete=complete_host
    )
    def command(config: Path, hosts: tuple[str, ...]) -> None:
        configuration = load_or_exit(config)
        path = configuration.settings.admin.socket
        for host in hosts:
            try:
                code, body = ask(path, host_path(host, name), method="POST")
            except FAILURES as error:
                echo(no_daemon(path, error), err=True)
                raise SystemExit(EXIT_NO_DAEMON) from None
            if code == NOT_FOUND:
                raise unknown_host(host, [each.id for each in configuration.hosts])
            echo(body.decode("utf-8", "backslashreplace").rstrip("\n"))

    return command


pause = _command(
    "pause",
    "Hold the requests for each HOST in its queue, up to queue_timeout, and close its connections"
    " once they are idle.",
)
resume = _command(
    "resume", "Send the queued requests of each HOST again; a host that was down is tried at once."
)
reconnect = _command(
    "reconnect",
    "Close the connections of each HOST once they are idle; the next request opens new ones.",
)
