# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent doctor`: examine a lond, every lond, or this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from lonc_gevent.doctor.examination import Doctor
from lonc_gevent.doctor.survey import HEAD, survey, tables

from .common import complete_host, config_option, echo, load_or_exit, unknown_host
from .this_machine import examine_machine

if TYPE_CHECKING:
    from pathlib import Path

    from lonc_gevent.configuration.settings import Configuration

EXIT_NOT_WELL: Final = 4


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
@click.option("--all", "everyone", is_flag=True, help="Examine every lond, and print a table.")
@click.argument("host", required=False, shell_complete=complete_host)
def command(config: Path, timeout: float, host: str | None, *, everyone: bool) -> None:
    """Try the lond of HOST (a host id) step by step, and report what was found.

    Address, TCP, each form of init, version, sethost, the key, a sealed ping; then which settings
    fit, and what differs from protocol.md. With --all, a line for each host, and the tables for
    lonc.toml that fit. Without HOST, this machine: configuration, daemon, sockets, delayed
    directory, descriptors, name server. No daemon is needed. No challenge and no key is shown: the
    report can be sent to others. Exit codes: 0 all well, 4 not, 2 bad usage.
    """
    if everyone and host:
        raise click.UsageError("expected HOST or --all")
    if everyone:
        well = _examine_all(load_or_exit(config), timeout)
    elif host is None:
        findings = list(examine_machine(config))
        for finding in findings:
            echo(finding)
        well = not any(finding.problem for finding in findings)
        echo("no problem found" if well else "problems found: see the lines with !")
    else:
        configuration = load_or_exit(config)
        settings = next((each for each in configuration.hosts if each.id == host), None)
        if settings is None:
            raise unknown_host(host, [each.id for each in configuration.hosts])
        well = Doctor(configuration, settings, echo, timeout).examine()
    if not well:
        raise SystemExit(EXIT_NOT_WELL)


def _examine_all(configuration: Configuration, timeout: float) -> bool:
    results = survey(configuration, timeout)
    rows = [HEAD, *(result.row for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        echo("  ".join([*cells, row[-1]]).rstrip())
    works = sum(result.works for result in results)
    echo(f"{works} of {len(results)} hosts answer with the configured settings")
    for line in tables(results):
        echo(line)
    return works == len(results)
