# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent run`: the daemon, in the foreground."""

from __future__ import annotations

import faulthandler
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import gevent
from msgspec.structs import replace

from lonc_gevent.configuration import shard
from lonc_gevent.configuration.files import Files
from lonc_gevent.daemon import handover, rehearsal
from lonc_gevent.daemon.life_cycle import Daemon
from lonc_gevent.daemon.process_limits import STANDARD, open_standard_descriptors
from lonc_gevent.daemon.requirements import examine, log_problems
from lonc_gevent.errors import AlreadyRunningError, ConfigError
from lonc_gevent.logs import Logs
from lonc_gevent.logs.capture import capture_foreign, capture_hub_errors

from .common import config_option, echo, exit_bad_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lonc_gevent.configuration.shard import Shard
    from lonc_gevent.daemon.handover import Handover

EXIT_ALREADY_RUNNING = 3

LAST_LINES = 2.0
"""Seconds that a slow log reader has to take the last lines."""


class ShardType(click.ParamType):  # type: ignore[type-arg]
    """`I/N` on the command line."""

    name = "shard"

    def convert(
        self, value: str | Shard, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Read it; bad usage if it is none."""
        if not isinstance(value, str):
            return value
        try:
            return shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("run")
@config_option
@click.option(
    "--shard",
    "part",
    type=ShardType(),
    metavar="I/N",
    help="Serve only the hosts of process I (from 0) of N that share the socket directory.",
)
def command(config: Path, part: Shard | None) -> None:
    """Run the daemon in the foreground, one JSON line per event on stdout.

    It is ready when it logs the event `ready`; TERM or INT stops it. Exit codes: 0 stopped
    cleanly, 2 bad usage or configuration, 3 another instance holds the socket directory, 1
    anything else.
    """
    open_standard_descriptors()
    with _running(config, part, handover.take()) as daemon:
        daemon.run()


def rehearse(config: Path) -> None:
    """Do what `run` would do with this handover, short of serving; hand the files back.

    It runs in a child process of a daemon that is about to restart in place. Exits as `run` does,
    with all problems on stderr.
    """
    inherited = handover.take()
    arguments = list(inherited.arguments)
    options = arguments[arguments.index("run") + 1 :] if "run" in arguments else []
    part = command.make_context("run", options).params["part"]
    files = Files()
    with _running(config, part, inherited, files) as daemon:
        if inherited.is_restart:  # not asked by a program that is too old to hand over
            daemon.rehearse()
            rehearsal.hand_back(files.contents)


@contextmanager
def _running(
    config: Path, part: Shard | None, inherited: Handover, files: Files | None = None
) -> Iterator[Daemon]:
    """Make the daemon with its log; exit as the command does if it cannot be started."""
    files = files or Files(inherited.files)
    examined = examine(config, files, to_start=not inherited.files)
    try:
        configuration = examined.accepted()
    except ConfigError as error:
        exit_bad_config(error)
    faulthandler.enable(STANDARD[-1])
    log = configuration.settings.log
    logs = Logs(1, level=log.level, format=log.format, schema=log.schema)
    release_foreign = capture_foreign(logs)
    release_hub = capture_hub_errors(gevent.get_hub(), logs.logger)
    log_problems(logs.logger, examined.problems)
    try:
        # What was examined is what the daemon runs on, whatever becomes of the files.
        inherited = replace(inherited, files=files.contents)
        daemon = Daemon(configuration, logs, config, shard=part, inherited=inherited)
        del inherited  # the daemon drops it after the start
        yield daemon
    except ConfigError as error:
        exit_bad_config(error)
    except AlreadyRunningError as error:
        echo(error, err=True)
        raise SystemExit(EXIT_ALREADY_RUNNING) from None
    finally:
        logs.close(LAST_LINES)
        release_hub()
        release_foreign()
