# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `lond`: runs the fake lond in the foreground until TERM or INT."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import click
import gevent
from gevent.event import Event

from .commands import Profile
from .faults import Fault, list_faults, parse_fault
from .server import FakeLond
from .tls import CloseNotify, TlsProfile

_EPILOG = f"""\b
Requests:
  ping               its own id
  load               a number
  version            its revision (modern)
  sethost:ID[:REQ]   ok, or unable_to_set; with REQ, the reply to REQ (modern)
  ekey               a build key
  init               ok; the session key is forgotten
  exit               bye, and the connection is closed
  echo:TEXT          TEXT
  get:DOMAIN:USER:environment:KEY&KEY
                     a made-up user's firstname, lastname, permanentemail and
                     languages, escaped
  eget:TEXT          TEXT, sealed (secret:TEXT is the same)
  big:BYTES          that many bytes
  delay:MS:TEXT      TEXT, MS milliseconds later
  fault:NAME[:NUMBER][:ANYTHING]   plays the request fault NAME; the reply, if
                     there is one, is the request itself
  enc:LENGTH:HEX     any of these, sealed
  init, exit, version, ekey and sethost count behind sethost:ID:, sealed, in
  upper case, and with blanks and carriage returns in the command word, too
  anything else      unknown_cmd

\b
Faults, for --fault NAME[:NUMBER]. STEP counts the lines that the client has
sent: 1 is init, 2 the echoed challenge.
{list_faults()}
"""


_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)"


def _read_faults(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[Fault, ...]:
    try:
        return tuple(parse_fault(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _read_range(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[float, float]:
    found = re.fullmatch(f"{_NUMBER}-{_NUMBER}", value)
    if found is None or float(found[1]) > float(found[2]):
        raise click.BadParameter(f"{value!r}: expected A-B, two numbers of milliseconds, A <= B.")
    return float(found[1]), float(found[2])


@click.command(
    "lond",
    short_help="A fake lond, for development, the demo and tests.",
    epilog=_EPILOG,
    context_settings={"max_content_width": 100},
)
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0 chooses one.")
@click.option("--id", "ids", multiple=True, required=True, help="Its host id; can be repeated.")
@click.option("--client-id", default="msul1", show_default=True, help="The id of its clients.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--habit",
    type=click.Choice(["legacy", "modern"]),
    default="modern",
    show_default=True,
    help="legacy has neither version nor sethost.",
)
@click.option(
    "--revision", type=click.IntRange(1), default=402, show_default=True, help="NNN of 1.NNN."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[:NUMBER]",
    callback=_read_faults,
    help="See below.",
)
@click.option(
    "--delay-ms",
    default="0-0",
    metavar="A-B",
    callback=_read_range,
    help="Delay each reply by a random time from A to B milliseconds.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append each request to this file, in clear, before it is answered.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM file. With all three, init:ssl is accepted.",
)
@click.option("--private-key", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--ca-certificate", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--tls-version", type=click.Choice(["1.0", "1.2", "1.3"]), help="Support only this version."
)
@click.option(
    "--close-notify",
    type=click.Choice(["none", "send", "unread", "late", "both"]),
    default="none",
    show_default=True,
    help="How TLS ends: send one and not read the client's (unread: where it holds a newline), send"
    " one with the next line, or wait for the client's, too.",
)
@click.option("--no-insecure", is_flag=True, help="Accept only ssl and local.")
@click.option("--seal-replies", is_flag=True, help="Seal the reply to every encrypted request.")
def lond_command(  # noqa: PLR0913 - an argument for each option is how click hands them over
    *,
    port: int,
    host: str,
    record: Path | None,
    certificate: Path | None,
    private_key: Path | None,
    ca_certificate: Path | None,
    tls_version: str | None,
    close_notify: CloseNotify,
    no_insecure: bool,
    **options: Any,
) -> None:
    """Run a fake lond in the foreground until TERM or INT.

    Prints `ready PORT` once it listens. Its requests and faults are listed below.
    """
    # Each of the other options is the field of that name of Profile.
    tls = None
    if certificate and private_key and ca_certificate:
        version = tls_version or ""
        tls = TlsProfile(certificate, private_key, ca_certificate, version, close_notify)
    elif certificate or private_key or ca_certificate:
        raise click.UsageError("give --certificate, --private-key and --ca-certificate together.")
    profile = Profile(allow_insecure=not no_insecure, tls=tls, **options)
    lond = FakeLond(profile, host=host, port=port, record=record)
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    try:
        lond.start()
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from None
    click.echo(f"ready {lond.port}")
    stopped.wait()
    lond.stop()
