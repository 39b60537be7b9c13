# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/quickstart does once .venv is there: the demo, from first file to last process."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from demo import Demo, DemoError, wait_until
from web import Web, Workers, wait_for_interrupt

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
REPLY_SECONDS = 10.0
BACK_AGAIN_SECONDS = 10.0
LONGEST_BACKOFF = 1.0
"""Seconds: retry_backoff_max of the demo's lonc.toml."""
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
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    demo = Demo(ROOT)
    try:
        demo.lock()
        if arguments.stop:
            stop_kept(demo)
        else:
            run(demo, keep=arguments.keep, workers=arguments.workers if arguments.web else None)
    except DemoError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: interrupted; nothing is left running", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain of it once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # No room, no right to write here, an address taken: the system says it well enough.
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Let all of them do what Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt


def stop_kept(demo: Demo) -> None:
    """Stop what --keep left."""
    if not demo.running():
        demo.stop()  # clears away what a killed one left
        print("No demo is running here.")
    elif demo.stop():
        print("The demo is stopped.")
    else:
        raise DemoError("the demo is stopped, but part of it had to be killed")


def run(demo: Demo, *, keep: bool, workers: Workers | None) -> None:
    """Run the whole demo. Whatever happens, nothing goes on running that is not to be kept."""
    if demo.running():
        raise DemoError("a kept demo is running already; scripts/quickstart --stop ends it")
    demo.stop()
    kept = False
    web = Web(demo, workers) if workers else None
    try:
        show(demo, web, keep=keep)
        kept = keep
        if web is not None and not keep:
            print("  Ctrl-C ends the demo.")
            wait_for_interrupt()
    finally:
        if not kept:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            clean = demo.stop()
    if keep:
        say_how_to_talk(demo)
    elif clean:
        heading("Everything is stopped.")
    else:
        raise DemoError("part of the demo did not stop and had to be killed")


def show(demo: Demo, web: Web | None, *, keep: bool) -> None:
    """Start the network and send what there is to see.

    Raises DemoError if anything is not as it should be.
    """
    demo.write()
    heading(f"The network: {', '.join(demo.hosts)}; its files are in {short(demo.home)}")
    if demo.base != demo.home:
        print(f"  (its sockets are in {demo.base}: the path of this folder is too long for them)")
    began = time.monotonic()
    demo.start(outlive=keep)
    print("  supervisord runs the daemon and a fake lond for each host")
    print(f"  ready after {time.monotonic() - began:.1f} s")

    first, second, third = demo.hosts[:3]
    heading("Requests: one line into sockets/<host>, one line back")
    for host in demo.hosts:
        # A lond that was slower to start than the daemon is tried again within one backoff step.
        wait_until(lambda host=host: ask(demo, host, "ping") == host, BACK_AGAIN_SECONDS)  # type: ignore[misc]
    expect(demo, first, "ping", first)
    expect(demo, second, "echo:Good morning", "Good morning")
    expect(demo, third, "encrypt:eget:between us", "between us", "went, and came, encrypted")

    heading(f"The lond of {second} is stopped")
    demo.tell("stop", f"lond-{second}")
    expect(demo, second, "ping", "con_lost", "no lond took it")
    expect(demo, first, "ping", first, "the others do not notice")
    if web is not None:
        web.expect(up={first, third}, down={second})
        print(f"  {web.url} shows it, too")

    heading("It is started again")
    demo.tell("start", f"lond-{second}")
    # lonc does not ask a lond that was down before its gate opens: within one backoff step.
    time.sleep(LONGEST_BACKOFF)
    expect(demo, second, "ping", second, patience=BACK_AGAIN_SECONDS)

    heading("Status, by signal USR1")
    show_status(demo)
    if web is not None:
        web.expect(up=set(demo.hosts), down=set())
        heading(f"The web application, under gunicorn with {web.workers} workers")
        print(f"  {web.url}")


def expect(
    demo: Demo, host: str, request: str, expected: str, remark: str = "", *, patience: float = 0.0
) -> None:
    """Send a request and show its reply; for `patience` seconds, again after a con_lost.

    Raises DemoError if the reply is not the expected one.
    """
    reply = ask(demo, host, request)
    deadline = time.monotonic() + patience
    while reply == "con_lost" and time.monotonic() < deadline:
        time.sleep(0.2)
        reply = ask(demo, host, request)
    shown = f"  {host:<8} {request:<26} "
    shown += colour("31" if reply == "con_lost" else "32", f"{reply:<14}")
    print(f"{shown} {remark}".rstrip(), flush=True)
    if reply != expected:
        raise DemoError(
            f"{host} should have answered {expected!r}; see {short(demo.events)}, its end above all"
        )


def ask(demo: Demo, host: str, request: str) -> str:
    """Do what every web process does: a line into the host's socket, and a line back."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(REPLY_SECONDS)
            client.connect(str(demo.socket_of(host)))
            client.sendall(request.encode() + b"\n")
            reply = client.makefile("rb").readline()
    except OSError as error:
        raise DemoError(f"no reply from the socket of {host}: {error}") from None
    if not reply.endswith(b"\n"):
        raise DemoError(f"the socket of {host} was closed in place of a reply")
    return reply[:-1].decode(errors="backslashreplace")


def show_status(demo: Demo) -> None:
    """Have the daemon log the status of each host, and show it as a table."""
    seen = len(demo.read_events("status"))
    demo.tell("signal", "lonc-gevent", signal_name="USR1")

    def all_there() -> bool:
        return len(demo.read_events("status")) >= seen + len(demo.hosts)

    if not wait_until(all_there, REPLY_SECONDS):
        raise DemoError("USR1 brought no `status` event for some host")
    events = demo.read_events("status")[seen:]
    rows = [COLUMNS, *(tuple(str(event.get(name, "-")) for name in COLUMNS) for event in events)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        # words to the left, numbers to the right
        words = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        print("  " + "  ".join(words + numbers))


def say_how_to_talk(demo: Demo) -> None:
    """For --keep: the commands that are useful now, ready to be pasted."""
    commands = Path(sys.executable).parent
    lonc = short(commands / "lonc-gevent")
    control = shlex.quote(f"unix://{demo.base}/supervisor.sock")
    heading("The demo goes on running. Talk to it:")
    print(f"  {lonc} send --config {short(demo.config)} {demo.hosts[1]} echo:hello")
    print(f"  tail -f {short(demo.events)}")
    print(f"  {short(commands / 'supervisorctl')} -s {control} status")
    heading("and stop it:")
    print(f"  {short(ROOT / 'scripts' / 'quickstart')} --stop")


def short(path: Path) -> str:
    """Return a path as one would type it here: relative, if we are in the repository."""
    return shlex.quote(os.path.relpath(path) if Path.cwd().is_relative_to(ROOT) else str(path))


def heading(text: str) -> None:
    """Print a line that begins something."""
    print(f"\n{colour('1', text)}", flush=True)


def colour(code: str, text: str) -> str:
    """Return text in a terminal's colour, if this is one."""
    return f"\x1b[{code}m{text}\x1b[0m" if COLOURED else text


if __name__ == "__main__":
    sys.exit(main())
