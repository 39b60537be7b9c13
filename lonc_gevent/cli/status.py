# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent status`: the running daemon's hosts, as a table or as JSON."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection, HTTPException
from signal import SIG_BLOCK, SIGINT, pthread_sigmask, sigtimedwait
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lonc_gevent.admin.status import Status

from .common import config_option, echo, load_or_exit
from .table import render

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Group

EXIT_NO_DAEMON: Final = 5

TIMEOUT: Final = 10.0
"""Seconds to wait for the daemon's answer."""

WATCH_INTERVAL: Final = 1.0
"""Seconds between two looks with --watch."""

WATCH_TIMEOUT: Final = 2.0
"""Seconds to wait for the daemon's answer with --watch, and so at most for Ctrl-C to be heard."""

WIDTH: Final = 80
"""Columns where the output is no terminal."""


@click.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole document as JSON.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
def command(config: Path, *, as_json: bool, watch: bool) -> None:
    """Show the running daemon's hosts, worst first.

    CONN is the number of lond connections, idle and busy. QUEUE is how many requests wait, and how
    long the oldest has. P50 and P99 are milliseconds, over the last five minutes. DELAYED is
    the number of delayed requests that wait, and with a `!` of those in quarantine. Exit codes: 0,
    5 no daemon there, 2 bad usage.
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch do not go together")
    path = load_or_exit(config).settings.admin.socket
    try:
        document = fetch(path)
        if as_json:
            click.echo(document)
            return
        status = read(document)
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDTH
        if not watch:
            console.print(render(status))
            return
        _watch(path, console, status)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        echo(no_daemon(path, error), err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None


def no_daemon(path: str, error: Exception) -> str:
    """Return the message for a socket on which no daemon answers."""
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    return f"{path}: no daemon answers here ({reason})"


def _watch(path: str, console: Console, status: Status) -> None:
    """Redraw in place until Ctrl-C. A daemon that goes away is waited for.

    Ctrl-C is waited for where nothing is half done: a KeyboardInterrupt may come anywhere, and be
    lost there. Nothing is to be interrupted after this.
    """
    pthread_sigmask(SIG_BLOCK, {SIGINT})
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        shown: Group | Text = render(status, console.height)
        while True:
            live.update(shown, refresh=True)
            if sigtimedwait({SIGINT}, WATCH_INTERVAL):
                return
            try:
                shown = render(read(fetch(path, WATCH_TIMEOUT)), console.height)
            except (OSError, HTTPException, msgspec.DecodeError) as error:
                shown = Text(no_daemon(path, error), style="red")


def read(document: bytes) -> Status:
    """Return the document that `fetch` got. Raises msgspec.DecodeError."""
    return msgspec.json.decode(document, type=Status)


class UnixConnection(HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def fetch(path: str, timeout: float = TIMEOUT) -> bytes:
    """Ask the daemon for its status document. Raises OSError and HTTPException."""
    with closing(UnixConnection(path, timeout)) as connection:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise HTTPException(f"it said {response.status} {response.reason}")
        return body
