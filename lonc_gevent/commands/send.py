# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent send`: one request through the running daemon."""

from __future__ import annotations

import sys
from socket import AF_UNIX, SOCK_STREAM, socket
from time import monotonic
from typing import TYPE_CHECKING

import click

from lonc_gevent.rules.wire import CON_LOST, LINE_END

from . import config_option, load_or_exit

if TYPE_CHECKING:
    from pathlib import Path

    from lonc_gevent.rules.settings import Configuration

EXIT_CON_LOST = 4
EXIT_NO_DAEMON = 5
EXIT_TIMED_OUT = 6

CHUNK = 1024 * 1024


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
@click.argument("host")
@click.argument("request")
def command(config: Path, timeout: float, host: str, request: str) -> None:
    """Send REQUEST to HOST (a host id) and print the reply.

    REQUEST `-` reads it from stdin. Exit codes: 0 a reply, 4 con_lost, 5 no daemon there, 6 timed
    out, 2 bad usage.
    """
    path = socket_path(load_or_exit(config), host)
    line = sys.stdin.buffer.read() if request == "-" else request.encode(errors="surrogateescape")
    line = line.removesuffix(LINE_END)
    if LINE_END in line:
        raise click.UsageError("a request is one line; this has several")
    try:
        reply = exchange(path, line + LINE_END, timeout)
    except TimeoutError:
        click.echo(f"{host}: no reply within {timeout:g} s", err=True)
        raise SystemExit(EXIT_TIMED_OUT) from None
    except OSError as error:
        click.echo(f"{path}: no daemon answers here ({error.strerror or error})", err=True)
        raise SystemExit(EXIT_NO_DAEMON) from None
    sys.stdout.buffer.write(reply)
    if reply == CON_LOST:
        raise SystemExit(EXIT_CON_LOST)


def socket_path(configuration: Configuration, host: str) -> str:
    """Return the path of the host's socket. Raises click.UsageError if it has none."""
    directory = configuration.settings.sockets.directory
    for name, host_id in configuration.sockets.items():
        if host_id == host:
            return f"{directory}/{name}"
    known = ", ".join(sorted(configuration.sockets.values())[:10])
    raise click.UsageError(f"no host {host!r} is served here; there are {known}")


def exchange(path: str, line: bytes, timeout: float) -> bytes:
    """Send a line to the Unix socket and return the reply line.

    Raises TimeoutError, and OSError when nobody is there or it left without a whole reply.
    """
    deadline = monotonic() + timeout
    received = bytearray()
    with socket(AF_UNIX, SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        sock.sendall(line)
        while not received.endswith(LINE_END):
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            data = sock.recv(CHUNK)
            if not data:
                raise ConnectionResetError(0, "it closed without a whole reply")
            received += data
    return bytes(received)
