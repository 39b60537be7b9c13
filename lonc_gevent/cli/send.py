# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent send`: one request through the running daemon."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from lonc_gevent import client
from lonc_gevent.protocol.lines import LINE_END

from .common import complete_host, config_option, echo, load_or_exit, unknown_host

if TYPE_CHECKING:
    from pathlib import Path

EXIT_CON_LOST = 4
EXIT_NO_DAEMON = 5
EXIT_TIMED_OUT = 6


@click.command("send")
@config_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=360.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait for the whole reply; the default is over what the daemon itself waits.",
)
@click.argument("host", shell_complete=complete_host)
@click.argument("request")
def command(config: Path, timeout: float, host: str, request: str) -> None:
    """Send REQUEST to HOST (a host id) and print the reply.

    REQUEST `-` reads it from stdin. Exit codes: 0 a reply, 4 con_lost, 5 no daemon is running, 6
    timed out, 2 bad usage.
    """
    sockets = client.Sockets.of(load_or_exit(config))
    line = sys.stdin.buffer.read() if request == "-" else request.encode(errors="surrogateescape")
    line = line.removesuffix(LINE_END)
    if LINE_END in line:
        raise click.UsageError("a request is one line; this has several")
    try:
        reply = client.reply(line, host, timeout=timeout, sockets=sockets)
    except client.UnknownHostError:
        raise unknown_host(host, sockets.hosts) from None
    except client.TimedOutError:
        echo(f"{host}: no reply within {timeout:g} s", err=True)
        raise SystemExit(EXIT_TIMED_OUT) from None
    except (client.NoDaemonError, client.HungUpError) as error:
        echo(error, err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None
    except client.ConLost:
        sys.stdout.buffer.write(client.CON_LOST + LINE_END)
        raise SystemExit(EXIT_CON_LOST) from None
    sys.stdout.buffer.write(reply + LINE_END)
