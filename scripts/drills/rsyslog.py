# SPDX-License-Identifier: GPL-2.0-or-later
"""500,000 log lines through supervisord's rotation into a real rsyslog with mmjsonparse.

The daemon logs every transaction; supervisord writes and rotates the file; rsyslog follows it,
parses each line and writes it to the file of its level. Every line that supervisord got must arrive
there whole and once. What the daemon had to drop because supervisord was too slow is told; it must
be reported in the log itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aggregator
import gevent
import msgspec
from gevent import socket
from harness import Network, network
from supervision import Supervisor, supervisord

ROTATION = "5MB"
BACKUPS = 60
CLIENTS = 16


def storm(path: str, requests: int) -> None:
    """Send so many requests."""
    todo = iter(range(requests))

    def client() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(path)
            for number in todo:
                sock.sendall(b"echo:%d\n" % number)
                reply = b""
                while not reply.endswith(b"\n"):
                    reply += sock.recv(65536)
                assert reply == b"%d\n" % number

    gevent.joinall([gevent.spawn(client) for _ in range(CLIENTS)], raise_error=True)


def lines_of(paths: list[Path]) -> Counter[bytes]:
    """Return all lines of these files, and how often each is there."""
    found: Counter[bytes] = Counter()
    for path in paths:
        found.update(path.read_bytes().splitlines())
    return found


def run(net: Network, running: Supervisor, program: str, options: argparse.Namespace) -> bool:
    """Log so many lines, let all arrive, compare."""
    running.wait_for("ready")
    log = running.logs / "lonc.log"
    began = time.monotonic()
    with aggregator.rsyslogd(program, log, net.directory) as levels:
        storm(str(net.sockets / "msul2"), options.lines)
        logged = time.monotonic() - began
        running.ctl("stop", "lonc-gevent")
        files = sorted(running.logs.glob("lonc.log*"))
        sent = lines_of(files)
        total = sum(sent.values())
        deadline = time.monotonic() + 120
        while sum(aggregator.lines(levels).values()) < total and time.monotonic() < deadline:
            time.sleep(0.2)
        arrived_in = time.monotonic() - began
        by_file = aggregator.lines(levels)
        arrived = lines_of(sorted(levels.iterdir()))
    events = [msgspec.json.decode(line) for line in sent]
    kinds = Counter(event["event"] for event in events)
    dropped = sum(event["dropped"] for event in events if event["event"] == "log_lines_dropped")
    unparsed = by_file.pop("unparsed.log", 0)
    missing, extra = sent - arrived, arrived - sent
    print(
        f"{options.lines} transactions logged in {logged:.1f} s; supervisord wrote {total} lines to"
        f" {len(files)} files of up to {ROTATION}; the daemon dropped {dropped} and said so"
    )
    print(
        f"rsyslog had them after {arrived_in:.1f} s: {by_file}, unparsed {unparsed},"
        f" missing {sum(missing.values())}, twice or foreign {sum(extra.values())}"
    )
    whole = kinds["transaction"] + dropped >= options.lines
    return whole and not unparsed and not missing and not extra and len(files) > 1


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    options = parser.parse_args()
    program = aggregator.find()
    if program is None:
        sys.exit("there is no rsyslogd here: as root, apt-get install rsyslog")
    rotation = {
        "stdout_logfile_maxbytes=50MB": f"stdout_logfile_maxbytes={ROTATION}",
        "stdout_logfile_backups=10": f"stdout_logfile_backups={BACKUPS}",
    }
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory), tables={"log": {"sample": 1}}) as net,
    ):
        net.add("msul2")
        with supervisord(net, replace=rotation) as running:
            good = run(net, running, program, options)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
