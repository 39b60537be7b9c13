# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent doctor`: try a real lond step by step, and say which settings fit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lonc_gevent.doctor.examination import Doctor

from .common import complete_host, config_option, echo, load_or_exit, unknown_host

if TYPE_CHECKING:
    from pathlib import Path

EXIT_NOT_WELL = 4


@click.command("doctor")
@config_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds for each wait; not more than the configuration has for it.",
)
@click.argument("host", shell_complete=complete_host)
def command(config: Path, timeout: float, host: str) -> None:
    """Try the lond of HOST (a host id) step by step, and say what was found.

    Address, TCP, each way to say init, version, sethost, the key, a sealed ping; then which
    settings fit, and what differs from protocol.md. No daemon is needed. No challenge and no key
    is shown: the report can be sent to somebody. Exit codes: 0 all well, 4 not, 2 bad usage.
    """
    configuration = load_or_exit(config)
    for settings in configuration.hosts:
        if settings.id == host:
            break
    else:
        raise unknown_host(host, [settings.id for settings in configuration.hosts])
    if not Doctor(configuration, settings, echo, timeout).examine():
        raise SystemExit(EXIT_NOT_WELL)
