# SPDX-License-Identifier: GPL-2.0-or-later
"""5,000 critical requests while the daemon or the lond is killed at random: none is lost.

Each call has one outcome: its own reply, from a request that lond did receive; or CON_DELAYED,
and then there is exactly one file with exactly this request, until the daemon has sent it. How
many ran twice is said: a reply that was lost is asked for again (protocol.md, section 2).
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness import network, wait_until

from lonc_gevent.client import CON_DELAYED, ClientError, Sockets, critical

if TYPE_CHECKING:
    from harness import Network

HOST = "msul2"
WORKERS = 16
REPLAY_SECONDS = 120.0
REPLAYS = importlib.util.find_spec("lonc_gevent.delayed") is not None
"""Whether this daemon sends delayed requests; otherwise their files must be there at the end."""


class Killer(threading.Thread):
    """Kills the daemon or the lond, and starts it again, until it is told to stop."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        self.ended = threading.Event()
        self.kills: Counter[str] = Counter()
        self.trouble: BaseException | None = None

    def run(self) -> None:
        """Kill by turns of a coin."""
        try:
            while not self.ended.wait(random.uniform(0.2, 1.5)):
                if random.random() < 0.5:
                    self._kill_lond()
                else:
                    self._kill_daemon()
        except BaseException as error:  # noqa: BLE001 - the drill's thread says it
            self.trouble = error

    def _kill_lond(self) -> None:
        lond = self.net.londs[HOST]
        lond.kill()
        time.sleep(random.choice((0.0, 0.0, 2.5)))  # 2.5: longer than `critical` is patient
        lond.start()
        self.kills["lond"] += 1

    def _kill_daemon(self) -> None:
        daemon = self.net.daemon
        assert daemon
        if random.random() < 0.8:
            daemon.kill()
        else:
            daemon.end()
        daemon.close()
        time.sleep(random.choice((0.0, 0.0, 2.0)))
        self.net.start()
        self.kills["daemon"] += 1


def call(sockets: Sockets, number: int) -> bytes:
    """Make one critical call; return its outcome, an error's name in brackets."""
    time.sleep(random.uniform(0, 0.25))
    try:
        return critical(b"echo:%d" % number, HOST, timeout=20, sockets=sockets)
    except ClientError as error:
        return f"<{type(error).__name__}>".encode()


def waiting(sockets: Sockets) -> Counter[bytes]:
    """Return the requests that wait in files."""
    found: Counter[bytes] = Counter()
    for path in sockets.delayed.glob("[!.]*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # sent meanwhile; the quarantine
            found[path.read_bytes()] += 1
    return found


def run(net: Network, calls: int) -> bool:
    """Call, kill, look; print the verdict; return whether all is well."""
    net.tables["daemon"] = {"pid_file": "pid"}
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.tables["delayed"] = {"settle": 0.5, "scan_interval": 0.5, "max_attempts": 1000}
    net.add(HOST, "--delay-ms", "0-60")
    net.start()
    sockets = Sockets.read(net.config)
    killer = Killer(net)
    killer.start()
    began = time.monotonic()
    with ThreadPoolExecutor(WORKERS) as threads:
        outcomes = list(threads.map(lambda number: call(sockets, number), range(calls)))
    took = time.monotonic() - began
    killer.ended.set()
    killer.join()
    if killer.trouble:
        raise killer.trouble
    if REPLAYS:
        wait_until(lambda: not waiting(sockets), "all delayed ones are sent", REPLAY_SECONDS)
    files = waiting(sockets)
    received = Counter(net.londs[HOST].received)

    answered = {n for n, outcome in enumerate(outcomes) if outcome == b"%d" % n}
    delayed = {n for n, outcome in enumerate(outcomes) if outcome == CON_DELAYED}
    other = Counter(o for n, o in enumerate(outcomes) if n not in answered | delayed)
    unseen = [n for n in answered if not received[b"echo:%d" % n]]
    if REPLAYS:
        lost = [n for n in delayed if not received[b"echo:%d" % n]]
    else:
        lost = [n for n in delayed if files[b"echo:%d\n" % n] != 1]
    strange = files.keys() - {b"echo:%d\n" % n for n in delayed}
    twice = sum(1 for count in received.values() if count > 1)
    kills = ", ".join(f"{name} {count} times" for name, count in killer.kills.items())
    print(f"{calls} calls in {took:.0f} s by {WORKERS} threads; killed meanwhile: {kills}")
    print(
        f"{len(answered)} answered, {len(delayed)} delayed"
        f" ({'and sent since' if REPLAYS else 'their files are there'}), {twice} ran twice or more"
    )
    print(
        f"other outcomes: {dict(other) or 'none'}; lost: {len(lost)}; answered though never"
        f" received: {len(unseen)}; files nobody was told of: {len(strange)}"
    )
    return not (other or lost or unseen or strange) and bool(delayed)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lonc") as directory, network(Path(directory)) as net:
        net.pool = {"retry_backoff_min": 0.2, "retry_backoff_max": 1.0, "max_connections": WORKERS}
        good = run(net, arguments.calls)
    print("good: none lost" if good else "NOT good")
    sys.exit(not good)


if __name__ == "__main__":
    main()
