# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent status`: the verdict on the running daemon, and its hosts."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, NoReturn

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.styled import Styled
from rich.text import Text

from lonc_gevent.admin.status import LEVELS, NO_ANSWER, HostDetail, HostStatus, Status
from lonc_gevent.configuration.files import load
from lonc_gevent.errors import ConfigError

from .admin_client import (
    EXIT_NO_DAEMON,
    FAILURES,
    NOT_FOUND,
    OK,
    TIMEOUT,
    ask,
    host_path,
    no_daemon,
)
from .common import complete_host, config_option, echo, load_or_exit, unknown_host
from .table import render, render_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXIT_UNKNOWN: Final = 3
"""Exit code of --check if there is no verdict, as Icinga and Nagios have it."""

CHECK_WORDS: Final = ("OK", "WARNING", "CRITICAL")
"""First word of --check by level, as Icinga and Nagios have it; the index is the exit code."""

WATCH_INTERVAL: Final = 1.0
"""Seconds between two pictures of --watch."""

WATCH_TIMEOUT: Final = 2.0
"""Seconds to wait for the daemon's answer with --watch."""

PIPE_WIDTH: Final = 10_000
"""Columns where the output is no terminal: nothing is cut."""

QUIT: Final = b"qQ"
"""Keys that end --watch, beside Ctrl-C, which the terminal turns into SIGINT."""


@click.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole document as JSON.")
@click.option("--watch", is_flag=True, help="Repeat every second; q or Ctrl-C ends it.")
@click.option("--all", "everyone", is_flag=True, help="Give healthy hosts a line each, too.")
@click.option("--trouble", is_flag=True, help="Show only hosts in trouble.")
@click.option("--check", is_flag=True, help="Print one line, and exit as a plugin of Icinga does.")
@click.argument("hosts", nargs=-1, metavar="[HOST]...", shell_complete=complete_host)
def command(  # noqa: PLR0913 - one for each option
    config: Path,
    hosts: tuple[str, ...],
    *,
    as_json: bool,
    watch: bool,
    everyone: bool,
    trouble: bool,
    check: bool,
) -> None:
    """Show how well the running daemon is, and why: its hosts, the worst first.

    SINCE is how long the host has been in its STATE. QUEUE is how many requests wait, and for how
    long. LOST counts the requests that got con_lost in the last five minutes. DELAYED is the number
    of delayed requests that wait, and with a `!` of those in quarantine. Wide terminals show more:
    CONN is the number of lond connections, idle and busy; P50 and P99 are milliseconds over the
    last five minutes; REPLY is the age of lond's last reply.

    With HOST, shows all that is known of each, and its last 50 changes of state.

    Exit codes: 0, 5 no daemon is running, 2 bad usage. With --check: 0 well, 1 trouble, 2 bad, 3 no
    answer.
    """
    if as_json + watch + check > 1 or (hosts and (watch or trouble)):
        raise click.UsageError("these options exclude each other")
    if check:
        _check(config, hosts)
    settings = load_or_exit(config).settings
    path = settings.admin.socket
    try:
        if hosts:
            _show_hosts(path, hosts, as_json=as_json)
            return
        document = fetch(path)
        if as_json:
            click.echo(document)
            return
        status = read(document)
        console = Console(highlight=False)

        def only(host: HostStatus) -> bool:
            """Return whether the host gets a line of its own."""
            if everyone or host.level != "well":
                return True
            return not trouble and host.delayed_waiting + host.queue > 0

        if watch:
            _watch(path, console, status, only)
            return
        width = console.width if console.is_terminal else 0
        console.width = width or PIPE_WIDTH
        console.print(render(status, width=width, only=only))
    except FAILURES as error:
        echo(no_daemon(path, error), err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None


def _check(config: Path, hosts: tuple[str, ...]) -> NoReturn:
    """Print the verdict as a plugin of Icinga does, and exit."""
    try:
        path = load(config).settings.admin.socket
        document = read(fetch(path))
    except ConfigError as error:
        echo(f"UNKNOWN: {error.problems[0]}")
        raise SystemExit(EXIT_UNKNOWN) from None
    except FAILURES as error:
        echo(f"UNKNOWN: {NO_ANSWER}: {no_daemon(path, error)}")
        raise SystemExit(EXIT_UNKNOWN) from None
    known = {host.host: host for host in document.hosts}
    if hosts:
        for name in hosts:
            if name not in known:
                echo(f"UNKNOWN: {unknown_host(name, known).message}")
                raise SystemExit(EXIT_UNKNOWN)
        levels = [known[name].level for name in hosts]
        text = ", ".join(f"{name} is {known[name].state}" for name in hosts)
    else:
        levels = [document.verdict.level]
        text = "; ".join(reason.text for reason in document.verdict.reasons)
    code = max(map(LEVELS.index, levels))
    totals = document.totals
    figures = (
        f"down={totals.states.get('down', 0)} lost={totals.lost_lately} waiting={totals.queue}"
        f" oldest={totals.oldest_wait_s}s"
    )
    echo(f"{CHECK_WORDS[code]}: {text or document.verdict.headline} | {figures}")
    raise SystemExit(code)


def _show_hosts(path: str, hosts: tuple[str, ...], *, as_json: bool) -> None:
    """Print the details of hosts."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for host in hosts:
        code, body = ask(path, host_path(host))
        if code == NOT_FOUND:
            raise unknown_host(host, [each.host for each in read(fetch(path)).hosts])
        if as_json:
            click.echo(body)
        else:
            console.print(render_host(msgspec.json.decode(body, type=HostDetail)))


def _watch(path: str, console: Console, status: Status, only: Callable[[HostStatus], bool]) -> None:
    """Redraw in place until q or Ctrl-C. If the daemon stops, its last picture stays, dimmed."""

    def picture() -> Group:
        return render(status, width=console.width, height=console.height, only=only)

    with (
        _until_quit() as wait,
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        live.update(picture(), refresh=True)
        since = time.strftime("%H:%M:%S")
        while not wait(WATCH_INTERVAL):
            try:
                status = read(fetch(path, WATCH_TIMEOUT))
            except FAILURES as error:
                text = Text(f"✕ {no_daemon(path, error)}; last answer {since}", "bold red")
                live.update(Group(text, Styled(picture(), "dim")), refresh=True)
            else:
                since = time.strftime("%H:%M:%S")
                live.update(picture(), refresh=True)


@contextmanager
def _until_quit() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for so many seconds, and returns True at once for q or Ctrl-C.

    A signal only writes to a pipe: a KeyboardInterrupt could be raised anywhere, and be lost there.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda *_: None)
    fds, keys, before = [reader], sys.stdin.isatty(), None
    if keys:
        fds.append(sys.stdin.fileno())
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)

    def wait(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(fds, [], [], left)
            if reader in ready or any(key in QUIT for fd in ready for key in os.read(fd, 64)):
                return True
        return False

    try:
        yield wait
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def read(document: bytes) -> Status:
    """Return the document that `fetch` got. Raises msgspec.DecodeError."""
    return msgspec.json.decode(document, type=Status)


def fetch(path: str, timeout: float = TIMEOUT) -> bytes:
    """Return the daemon's status document. Raises OSError and HTTPException."""
    code, body = ask(path, "/status", timeout=timeout)
    if code != OK:
        raise HTTPException(f"status {code}")
    return body
