# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/quickstart shows, once .venv is there: requests, a lond that fails, the status."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from demo import Demo, DemoError, free_port, wait_until

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS = 15.0
"""That a reply, or a state of the demo, may take."""

COLUMNS = ("host", "state", "connections", "queue", "requests", "con_lost")
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def main() -> int:
    """Run the demo, or stop a kept one; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", allow_abbrev=False)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave the demo running")
    choice.add_argument("--stop", action="store_true", help="stop what --keep left")
    parser.add_argument("--web", action="store_true", help="with the example web application")
    parser.add_argument("--workers", choices=["sync", "gevent"], default="sync", help="gunicorn's")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        demo = Demo(ROOT)
        if options.stop:
            print("The demo is stopped." if demo.stop() else "No demo is running here.")
        else:
            run(demo, options)
    except KeyboardInterrupt:
        print("\nquickstart: interrupted; nothing is left running", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (DemoError, OSError) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def run(demo: Demo, options: argparse.Namespace) -> None:
    """Run the whole demo. Nothing keeps running that is not to be kept, whatever happens."""
    if demo.running():
        raise DemoError("a kept demo is running already; scripts/quickstart --stop ends it")
    url = ""
    if options.web:
        bind = f"127.0.0.1:{free_port()}"
        demo.add("demo-web.conf", LONC_WEB_BIND=bind, LONC_WEB_WORKERS=options.workers)
        url = f"http://{bind}/"
    kept = False
    try:
        show(demo, url, keep=options.keep)
        kept = options.keep
        if url and not kept:
            print("  Ctrl-C ends the demo.", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        if not kept:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            demo.stop()
    if kept:
        show_commands(demo)
    else:
        heading("Everything is stopped.")
        print(
            f"  {short(ROOT / 'scripts' / 'quickstart')} --keep leaves it running, to look around."
        )


def show(demo: Demo, url: str, *, keep: bool) -> None:
    """Start the network and send some requests.

    Raises DemoError if a reply is not as it should be.
    """
    demo.write()
    heading(f"The network: {', '.join(demo.hosts)}; its files are in {short(demo.home)}")
    if demo.base != demo.home:
        print(f"  (its sockets are in {demo.base}: the path of this folder is too long for them)")
    began = time.monotonic()
    demo.start(outlive=keep)
    print("  supervisord runs the daemon and a fake lond for each host")
    print(f"  ready after {time.monotonic() - began:.1f} s")
    if keep or url:
        show_status_commands(demo)

    first, second, third = demo.hosts[:3]
    heading("Requests: one line into sockets/<host>, one line back")
    expect(demo, first, "ping", first)
    expect(demo, second, "echo:Good morning", "Good morning")
    expect(demo, third, "encrypt:eget:between us", "between us", "encrypted both ways")

    heading(f"The lond of {second} is stopped")
    demo.control("stop", f"lond-{second}")
    expect(demo, second, "ping", "con_lost", "no lond took it")
    expect(demo, first, "ping", first, "other hosts are not affected")
    if url:
        expect_page(url, {first: "up", second: "down", third: "up"})
        print(f"  {url} shows it, too")

    heading("It is started again")
    demo.control("start", f"lond-{second}")
    expect(demo, second, "ping", second)

    heading("Status, by signal USR1")
    show_status(demo)
    if url:
        expect_page(url, dict.fromkeys(demo.hosts, "up"))
        heading("The web application, under gunicorn")
        print(f"  {url}")


def expect(demo: Demo, host: str, request: str, expected: str, remark: str = "") -> None:
    """Send a request and show its reply, once it is the expected one. Raises DemoError."""
    reply = ""

    def is_expected() -> bool:
        nonlocal reply
        reply = ask(demo, host, request)
        return reply == expected

    # A lond that has just started is tried again within one backoff step.
    good = wait_until(is_expected, SECONDS)
    shown = colour("31" if reply == "con_lost" else "32", f"{reply:<14}")
    print(f"  {host:<8} {request:<26} {shown} {remark}".rstrip(), flush=True)
    if not good:
        raise DemoError(f"{host} should have answered {expected!r}; see {short(demo.events)}")


def ask(demo: Demo, host: str, request: str) -> str:
    """Do what every web process does: a line into the host's socket, and a line back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(str(demo.sockets / host))
        client.sendall(request.encode() + b"\n")
        reply = client.makefile("rb").readline()
    if not reply.endswith(b"\n"):
        raise DemoError(f"the socket of {host} was closed in place of a reply")
    return reply[:-1].decode(errors="backslashreplace")


def expect_page(url: str, states: dict[str, str]) -> None:
    """Wait until the web application shows these hosts so. Raises DemoError."""

    def shows() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - ours
                page = answer.read().decode()
        except OSError:
            return False
        return all(
            f'<tr class="{state}"><th scope="row">{host}</th>' in page
            for host, state in states.items()
        )

    if not wait_until(shows, SECONDS):
        raise DemoError(f"{url} does not show what it should; see web.log")


def show_status(demo: Demo) -> None:
    """Have the daemon log the status of each host, and show it as a table."""
    demo.control("signal", "USR1", "lonc-gevent")
    events: list[dict[str, Any]] = []

    def complete() -> bool:
        events[:] = demo.read_events("status")
        return len(events) >= len(demo.hosts)

    if not wait_until(complete, SECONDS):
        raise DemoError("USR1 brought no `status` event for some host")
    for row in (COLUMNS, *([event.get(name, "-") for name in COLUMNS] for event in events)):
        print("  {:<8}  {:<10}  {:>11}  {:>5}  {:>8}  {:>8}".format(*row))


def show_status_commands(demo: Demo) -> None:
    """Print where the status is: the page, and the table in a terminal."""
    command = short(Path(sys.executable).parent / "lonc-gevent")
    print(f"  status page: http://{demo.listen}/")
    print(f"  in a terminal: {command} status --watch --config {short(demo.config)}")


def show_commands(demo: Demo) -> None:
    """Print commands for a kept demo, ready to be pasted."""
    commands = Path(sys.executable).parent
    control = shlex.quote(f"unix://{demo.base}/supervisor.sock")
    heading("The demo keeps running. Try:")
    show_status_commands(demo)
    config = short(demo.config)
    print(f"  {short(commands / 'lonc-gevent')} send --config {config} {demo.hosts[1]} echo:hello")
    print(f"  tail -f {short(demo.events)}")
    print(f"  {short(commands / 'supervisorctl')} -s {control} status")
    heading("and stop it:")
    print(f"  {short(ROOT / 'scripts' / 'quickstart')} --stop")


def short(path: Path) -> str:
    """Return a path as one would type it here: relative, inside the repository."""
    return shlex.quote(os.path.relpath(path) if Path.cwd().is_relative_to(ROOT) else str(path))


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{colour('1', text)}", flush=True)


def colour(code: str, text: str) -> str:
    """Return text in a colour, on a terminal."""
    return f"\x1b[{code}m{text}\x1b[0m" if COLOURED else text


if __name__ == "__main__":
    sys.exit(main())
