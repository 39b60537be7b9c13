# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent delayed`: the delayed directory, quarantined files included.

It works on the directory itself: with or without a running daemon, as a file is moved by one
rename.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from lonc_gevent.delayed.key_file import make_key, read_key
from lonc_gevent.delayed.listing import Item, Listing
from lonc_gevent.delayed.reasons import advice_on
from lonc_gevent.delayed.requests import host_of, name_before
from lonc_gevent.delayed.spool import spool_of
from lonc_gevent.errors import SpoolError
from lonc_gevent.perm_log import perm_log_of
from lonc_gevent.printable import escape

from .common import (
    EXIT_BAD_CONFIG,
    complete_host,
    config_option,
    echo,
    load_or_exit,
    timestamp,
    user_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD: Final = ("AGE", "HOST", "VERB", "SIZE", "TRIES", "STATE", "NAME")

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Directory:
    """The delayed directory of a configuration, open. Exits with 2 if it cannot be opened."""

    def __init__(self, config: Path) -> None:
        self.configuration = configuration = load_or_exit(config)
        settings = configuration.settings
        key = None
        if settings.delayed.key_file:
            try:
                key = read_key(Path(settings.delayed.key_file))
            except ValueError as error:
                echo(f"{settings.delayed.key_file}: {error}", err=True)
        self.spool = spool_of(settings, key, lock=None)
        limits = {host.id: host.pool.max_request_bytes for host in configuration.hosts}
        self.listing = Listing(self.spool, configuration.known, limits, time.time())
        with _failing(settings.delayed.directory):
            self.spool.open()

    def items(self) -> list[Item]:
        """Return all files."""
        with _failing(str(self.spool.path)):
            return list(self.listing.items())

    def look_up(self, name: str) -> Item:
        """Return one file. Raises FileNotFoundError, OSError and SpoolError."""
        return self.listing.item(name)

    def select(
        self, name: str | None, host: str | None, reason: str | None, *, everything: bool
    ) -> list[Item]:
        """Return the file of this name, or the files in quarantine for a host and a reason."""
        if (name is None) is not bool(host or reason or everything):
            raise click.UsageError("give either NAME, or --host, --reason or --all")
        if name is not None:
            with _failing(name):
                return [self.look_up(name)]
        return [
            item
            for item in self.items()
            if item.quarantined and host in (None, item.host) and reason in (None, item.quarantined)
        ]


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Print an error of the file system as one line, and exit with 2."""
    try:
        yield
    except FileNotFoundError:
        reason = "no such file"
    except FileExistsError:
        reason = "a file of this name waits already"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except SpoolError as error:
        reason = str(error)
    else:
        return
    echo(f"{what}: {reason}", err=True)
    raise SystemExit(EXIT_BAD_CONFIG)


@click.group("delayed")
@config_option
def command(config: Path) -> None:
    """Show and manage requests that wait in files for their host, and those in quarantine.

    NAME is a file's name, as `list` shows it. It works with and without a running daemon. Exit
    codes: 0 done, 2 failed.
    """


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command("list")
@config_option
@json_option
def list_command(config: Path, *, as_json: bool) -> None:
    """List all files, in the order in which they are sent; those in quarantine last."""
    found = Directory(config).items()
    if as_json:
        click.echo(msgspec.json.encode([_fields(item) for item in found]))
        return
    if not found:
        echo("no delayed requests")
        return
    rows = [_row(item) for item in found]
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


def _fields(item: Item) -> dict[str, object]:
    """Return a file as JSON: all that is known but the request."""
    advice = advice_on(item.state)
    fields = {name: value for name, value in item._asdict().items() if name != "request"}
    since = timestamp(time.time() - item.age)
    return {**fields, "name": escape(item.name), "since": since, **advice._asdict()}


def duration(seconds: float) -> str:
    """Return a duration in its largest whole unit: 12s, 5m, 3h, 2d."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


@command.command("show")
@config_option
@json_option
@click.argument("name")
@click.option("--reveal", is_flag=True, help="Print the request itself, and nothing else.")
def show_command(config: Path, name: str, *, as_json: bool, reveal: bool) -> None:
    """Show one file: what it is, since when, by whom, why it is there, and what to do.

    The request itself is printed only with --reveal.
    """
    with _failing(name):
        item = Directory(config).look_up(name)
    if reveal:
        if item.request is None:
            echo(f"{name}: cannot be opened: {item.state}", err=True)
            raise SystemExit(EXIT_BAD_CONFIG)
        sys.stdout.buffer.write(item.request)
    elif as_json:
        click.echo(msgspec.json.encode(_fields(item)))
    else:
        advice = advice_on(item.state)
        rows = [*zip(map(str.lower, HEAD), _row(item), strict=True)]
        rows += [("since", timestamp(time.time() - item.age)), ("by", user_name(item.uid))]
        rows += [("why", advice.why), ("do", advice.action)]
        for head, cell in rows:
            echo(f"{head:<6} {cell}")


def selection(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select files."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--all", "everything", is_flag=True, help="All in quarantine."),
        click.option("--reason", help="Those in quarantine for this reason."),
        click.option("--host", shell_complete=complete_host, help="Those of this host."),
        click.argument("name", required=False),
        config_option,
    ):
        function = option(function)
    return function


def _ask(question: str, *, yes: bool) -> None:
    if not yes and not click.confirm(question, err=True):
        raise SystemExit(EXIT_BAD_CONFIG)


@command.command("retry")
@selection
def retry_command(
    config: Path,
    name: str | None,
    host: str | None,
    reason: str | None,
    *,
    everything: bool,
    yes: bool,
) -> None:
    """Take files out of quarantine: they are sent again, their attempts forgotten.

    Says so, and exits with 2, if a file would only go back to quarantine.
    """
    directory = Directory(config)
    chosen = directory.select(name, host, reason, everything=everything)
    if name is None:
        _ask(f"Send {len(chosen)} files again?", yes=yes)
    failed = False
    for item in chosen:
        with _failing(item.name):
            target = directory.spool.retry(item.name)
        try:
            state = directory.look_up(target).state
        except FileNotFoundError:
            state = "waiting"  # it has been sent in the meantime
        advice = advice_on(state)
        failed |= not advice.retry
        fate = "waits to be sent" if advice.retry else f"will not be sent: {state}: {advice.why}"
        echo(f"{target}: {fate}" + ("" if advice.retry else f"; {advice.action}"))
    if failed:
        raise SystemExit(EXIT_BAD_CONFIG)


@command.command("discard")
@selection
def discard_command(
    config: Path,
    name: str | None,
    host: str | None,
    reason: str | None,
    *,
    everything: bool,
    yes: bool,
) -> None:
    """Remove files for good: one, waiting or in quarantine, or several of those in quarantine.

    Their requests will never be sent. The D line of each in lonnet.perm.log gets an S line of its
    own, with `discarded` for the request.
    """
    directory = Directory(config)
    chosen = directory.select(name, host, reason, everything=everything)
    what = escape(name) if name is not None else f"{len(chosen)} files"
    _ask(f"Remove {what} for good?", yes=yes)
    settings = directory.configuration.settings
    for item in chosen:
        with _failing(item.name):
            directory.spool.discard(item.name)
        echo(f"{item.name}: removed")
        of = host_of(name_before(item.name))
        fault = of and perm_log_of(settings).record("S", of, b"discarded")
        if fault:
            echo(f"{settings.delayed.perm_log}: {fault}", err=True)


@command.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
def new_key_command(file: Path) -> None:
    """Make a key for `delayed.key_file`, in a new file with mode 0600."""
    with _failing(str(file)):
        key = make_key(file)
    echo(f"{file}: key {key.id}. Without it, what it has sealed cannot be sent: keep a copy.")
