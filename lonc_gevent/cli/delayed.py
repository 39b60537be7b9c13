# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent delayed`: the delayed directory, quarantined files included.

It works on the directory itself, so it needs no running daemon, and disturbs none: a file moves by
one rename.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lonc_gevent.configuration.accounts import user_ids
from lonc_gevent.delayed.key_file import make_key, read_key
from lonc_gevent.delayed.listing import Item, items, look_up
from lonc_gevent.delayed.requests import host_of, name_before
from lonc_gevent.delayed.spool import Spool
from lonc_gevent.errors import SpoolError
from lonc_gevent.perm_log import perm_log_of
from lonc_gevent.printable import escape

from .common import EXIT_BAD_CONFIG, echo, load_or_exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.settings import Configuration

HEAD: Final = ("AGE", "HOST", "VERB", "SIZE", "TRIES", "STATE", "NAME")

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class _Context:
    """What the group leaves for its commands: the configuration, read when one asks for it."""

    def __init__(self, config: Path | None) -> None:
        self._config = config

    def open(self) -> tuple[Spool, Configuration]:
        """Return the open spool; exit with 2 if there is none."""
        if self._config is None:
            raise click.UsageError("Missing option '--config'.")
        configuration = load_or_exit(self._config)
        settings = configuration.settings
        key = None
        if settings.delayed.key_file:
            try:
                key = read_key(Path(settings.delayed.key_file))
            except ValueError as error:
                echo(f"{settings.delayed.key_file}: {error}", err=True)
        spool = Spool(
            Path(settings.delayed.directory),
            uids=user_ids(settings.sockets.allow_uids),
            settle=settings.delayed.settle,
            key=key,
            lock=None,
        )
        with _failing(settings.delayed.directory):
            spool.open()
        return spool, configuration


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn what the file system refuses into one line, and exit 2."""
    try:
        yield
    except FileNotFoundError:
        reason = "there is no such file"
    except FileExistsError:
        reason = "there is such a file already"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except SpoolError as error:
        reason = str(error)
    else:
        return
    echo(f"{what}: {reason}", err=True)
    raise SystemExit(EXIT_BAD_CONFIG)


@click.group("delayed")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The TOML file.",
)
@click.pass_context
def command(context: click.Context, config: Path | None) -> None:
    """Look at requests that wait in files for their host, and at those in quarantine.

    NAME is a file's name, as `list` shows it. It works with and without a running daemon. Exit
    codes: 0 done, 2 not.
    """
    context.obj = _Context(config)


@command.command("list")
@click.pass_obj
def list_command(context: _Context) -> None:
    """Show all files, in the order in which they are sent; those in quarantine last."""
    spool, configuration = context.open()
    limits = {host.id: host.pool.max_request_bytes for host in configuration.hosts}
    with _failing(str(spool.path)):
        rows = [_row(item) for item in items(spool, configuration.known, limits, time.time())]
    if not rows:
        echo("no delayed requests")
        return
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD) - 1)]
    for row in (HEAD, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        echo("  ".join([*cells, row[-1]]))


def _row(item: Item) -> tuple[str, ...]:
    cells = (
        duration(item.age),
        item.host or "-",
        item.verb or "-",
        str(item.size),
        str(item.attempts),
        item.state,
        item.name,
    )
    return tuple(map(escape, cells))


def duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: 12s, 5m, 3h, 2d."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


@command.command("show")
@click.argument("name")
@click.option("--reveal", is_flag=True, help="Print the request itself, and nothing else.")
@click.pass_obj
def show_command(context: _Context, name: str, *, reveal: bool) -> None:
    """Show what is known about one file; the request itself only with --reveal."""
    spool, configuration = context.open()
    limits = {host.id: host.pool.max_request_bytes for host in configuration.hosts}
    with _failing(name):
        item = look_up(spool, name, configuration.known, limits, time.time())
    if reveal:
        if item.request is None:
            echo(f"{name}: cannot be opened: {item.state}", err=True)
            raise SystemExit(EXIT_BAD_CONFIG)
        sys.stdout.buffer.write(item.request)
        return
    for head, cell in zip(HEAD, _row(item), strict=True):
        echo(f"{head.lower():<6} {cell}")


@command.command("retry")
@click.argument("name")
@click.pass_obj
def retry_command(context: _Context, name: str) -> None:
    """Take a file out of quarantine: it is sent again, its attempts forgotten."""
    spool, _ = context.open()
    with _failing(name):
        target = spool.retry(name)
    echo(f"{target}: waits to be sent")


@command.command("discard")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard_command(context: _Context, name: str, *, yes: bool) -> None:
    """Remove a file for good, waiting or in quarantine. Its request will never be sent.

    Its D line in lonnet.perm.log gets an S line of its own, with `discarded` for the request.
    """
    spool, configuration = context.open()
    with _failing(name):
        spool.find(name)
    if not yes and not click.confirm(f"Remove {escape(name)} for good?", err=True):
        raise SystemExit(EXIT_BAD_CONFIG)
    with _failing(name):
        spool.discard(name)
    echo(f"{name}: removed")
    host = host_of(name_before(name))
    fault = host and perm_log_of(configuration.settings).record("S", host, b"discarded")
    if fault:
        echo(f"{configuration.settings.delayed.perm_log}: {fault}", err=True)


@command.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
def new_key_command(file: Path) -> None:
    """Make a key for `delayed.key_file`, in a new file with mode 0600."""
    with _failing(str(file)):
        key = make_key(file)
    echo(f"{file}: key {key.id}. Without it, what it has sealed cannot be sent: keep a copy.")
