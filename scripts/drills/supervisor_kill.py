# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL to the daemon, again and again: supervisord starts it anew, and clients work again.

The sockets that the killed one left must not stop the next one. The time from the kill to the first
reply is told.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from harness import Client, Network, network, wait_until
from supervision import Supervisor, supervisord

BOUND = 5.0
"""Seconds; supervisord looks for ended programs once a second."""


def replies(net: Network) -> bool:
    """Whether a request gets its reply."""
    try:
        with Client(net.sockets / "msul2", timeout=2.0) as client:
            client.send(b"ping\n")
            return client.line() == b"msul2\n"
    except OSError:
        return False


def kill(net: Network, running: Supervisor) -> float:
    """Kill it once; return the seconds until the first reply of the next one."""
    wait_until(lambda: "RUNNING" in running.ctl("status"), "it is up long enough")
    pid = running.pid()
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: replies(net), "a reply", 30.0)
    took = time.monotonic() - began
    assert running.pid() not in (0, pid)
    return took


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory)) as net,
    ):
        net.add("msul2")
        with supervisord(net) as running:
            running.wait_for("ready")
            took = [kill(net, running) for _ in range(options.times)]
    print(
        f"{options.times} kills: from kill to first reply"
        f" {min(took):.2f} to {max(took):.2f} s, median {statistics.median(took):.2f} s"
    )
    good = max(took) <= BOUND
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
