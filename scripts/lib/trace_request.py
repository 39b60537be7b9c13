# SPDX-License-Identifier: GPL-2.0-or-later
"""The path of one request through the daemon: which of our functions are called, in which order.

A real daemon, a fake lond, and one client; its pool has an idle connection to lond. Counted are the
calls of functions of lonc_gevent, not of gevent, C or the standard library, from the client's
connect to the end of its connection; with --kept, from the request to the wait for the next one.
Of several requests the one with the fewest calls is shown: in the others a timer ran, too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from harness import PATIENCE, Client, Network, wait_until

import lonc_gevent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

CALLS, FILES = 40, 8
"""The bounds of --check."""

WARM_UP: Final = 20
TRIES: Final = 20
PAUSE: Final = 0.02
"""Requests before the first that is traced, requests that are traced, and seconds after each."""

PACKAGE: Final = str(Path(lonc_gevent.__file__).parent) + os.sep


class Call(NamedTuple):
    """A call of a function: its file, below lonc_gevent/, and its name."""

    file: str
    function: str


class Tracer:
    """Records the calls of our functions in the thread that starts it, while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.calls: list[Call] = []

    def start(self) -> None:
        """See every call of this thread from now on, in whatever greenlet."""
        sys.setprofile(self._see)

    def _see(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if self.on and event == "call" and code.co_filename.startswith(PACKAGE):
            self.calls.append(Call(code.co_filename.removeprefix(PACKAGE), code.co_qualname))


def traces(tracer: Tracer, path: Path, *, kept: bool) -> Iterator[list[Call]]:
    """Send requests through the daemon of this process; give the calls that each took."""
    client = Client(path)
    for number in range(WARM_UP + TRIES):
        time.sleep(PAUSE)
        tracer.calls, tracer.on = [], number >= WARM_UP
        if not kept:
            client.sock.close()
            client = Client(path)
        client.ask(b"get:msu:smith:environment:firstname")
        if not kept:
            client.sock.close()
        time.sleep(PAUSE)  # the daemon has work after the reply, too
        tracer.on = False
        if tracer.calls:
            yield tracer.calls
    client.sock.close()


def run_daemon(report: str, path: str, client: str) -> None:
    """Run the daemon in this process, and write the calls of one request into a file."""
    tracer = Tracer()

    def ask() -> None:
        wait_until(Path(path).exists, "the daemon listens")
        try:
            found = traces(tracer, Path(path), kept=client == "kept")
            Path(report).write_text(json.dumps(min(found, key=len)))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    from lonc_gevent.cli import main as cli  # noqa: PLC0415 - imports are not to be traced

    threading.Thread(target=ask).start()
    tracer.start()
    cli()


def trace(*, kept: bool) -> list[Call]:
    """Return the calls that one request takes."""
    with tempfile.TemporaryDirectory(prefix="lonc") as directory:
        net = Network(Path(directory))
        report = net.directory / "report"
        try:
            net.add("msul2")
            net.write()
            role = ("--daemon", str(report), str(net.sockets / "msul2"), "kept" if kept else "each")
            daemon = net.run(ready=False, program=("trace_request", *role))
            daemon.process.wait(2 * PATIENCE)
        finally:
            net.close()
        return [Call(*call) for call in json.loads(report.read_text())]


def main() -> None:
    """Run it from the command line."""
    if sys.argv[1:2] == ["--daemon"]:
        report, path, client = sys.argv[2:5]
        del sys.argv[1:5]
        run_daemon(report, path, client)
        return
    parser = argparse.ArgumentParser(prog="scripts/trace-request", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kept", action="store_true", help="of a client that stays connected")
    parser.add_argument(
        "--check", action="store_true", help=f"exit 1 above {CALLS} calls or {FILES} files"
    )
    options = parser.parse_args()
    calls = trace(kept=options.kept)
    for call in calls:
        print(f"{call.file:32} {call.function}")
    files = [call.file for call in calls]
    changes = sum(before != after for before, after in pairwise(files))
    print(
        f"{len(calls)} calls of {len(set(calls))} functions in {len(set(files))} files,"
        f" {changes} changes of file"
    )
    if options.check and (len(calls) > CALLS or len(set(files)) > FILES):
        sys.exit(f"more than {CALLS} calls or {FILES} files")


if __name__ == "__main__":
    main()
