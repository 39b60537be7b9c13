# SPDX-License-Identifier: GPL-2.0-or-later
"""20 restarts in place (HUP) in 60 s, under load, the daemon under a real supervisord.

64 clients with a connection for each request and 16 that keep theirs open ask all the time. No
request may fail, no connection may be refused or closed, the pid must stay, and supervisord must
have seen nothing. The longest wait of a request is told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import gevent
from gevent import socket
from gevent.threadpool import ThreadPool
from harness import Network, network
from supervision import Supervisor, supervisord


class Load:
    """Clients that ask all the time, and what came of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.outcomes: Counter[str] = Counter()
        self.longest = 0.0
        self.slow = 0
        self.stop = False

    def _exchange(self, sock: socket.socket, text: bytes) -> None:
        sock.sendall(b"echo:" + text + b"\n")
        reply = b""
        while not reply.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:
                self.outcomes["closed"] += 1
                raise ConnectionResetError
            reply += data
        self.outcomes[
            "ok" if reply == text + b"\n" else "con_lost" if reply == b"con_lost\n" else "wrong"
        ] += 1

    def _timed(self, began: float) -> None:
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        self.slow += took > 0.1

    def connecting(self, number: int) -> None:
        """Ask with a connection for each request."""
        count = 0
        while not self.stop:
            began = time.monotonic()
            count += 1
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.connect(self.path)
                    self._exchange(sock, b"c%d-%d" % (number, count))
            except OSError as error:
                self.outcomes[type(error).__name__] += 1
            self._timed(began)

    def keeping(self, number: int) -> None:
        """Ask on one connection."""
        count = 0
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(self.path)
                while not self.stop:
                    began = time.monotonic()
                    count += 1
                    self._exchange(sock, b"k%d-%d" % (number, count))
                    self._timed(began)
                    gevent.sleep(0.002)  # between two requests it is idle, as real ones are
        except OSError as error:
            self.outcomes[f"kept-open {type(error).__name__}"] += 1


def run(net: Network, running: Supervisor, options: argparse.Namespace) -> bool:
    """Load the daemon, restart it again and again, and print the verdict."""
    threads = ThreadPool(2)  # what waits for processes and files must not hold the clients up
    threads.apply(running.wait_for, ("ready",))
    gevent.sleep(1.5)  # supervisord takes it for started after a second
    pid = threads.apply(running.pid)
    said = len(running.said)
    load = Load(str(net.sockets / "msul2"))
    clients = [gevent.spawn(load.connecting, n) for n in range(options.connecting)]
    clients += [gevent.spawn(load.keeping, n) for n in range(options.keeping)]
    gevent.sleep(1.0)
    quiet_longest, load.longest = load.longest, 0.0
    period = options.seconds / options.times
    began = time.monotonic()
    for number in range(options.times):
        gevent.sleep(max(0.0, began + number * period - time.monotonic()))
        threads.apply(running.ctl, ("signal", "HUP", "lonc-gevent"))
        threads.apply(running.wait_for, ("ready", number + 2))
    gevent.sleep(max(0.0, began + options.seconds - time.monotonic()))
    took = time.monotonic() - began
    load.stop = True
    gevent.joinall(clients, timeout=30, raise_error=True)
    failed = {name: count for name, count in load.outcomes.items() if name != "ok"}
    lines = running.said[said:]
    same = threads.apply(running.pid) == pid
    print(
        f"{options.times} restarts in {took:.1f} s: {load.outcomes['ok']} requests right,"
        f" others: {failed or 'none'}"
    )
    print(
        f"longest wait of a request {load.longest * 1000:.0f} ms"
        f" (before the first restart {quiet_longest * 1000:.0f} ms),"
        f" {load.slow} waited over 100 ms"
    )
    print(f"same pid: {same}; lines in supervisord's log meanwhile: {len(lines)}")
    for line in lines:
        print(f"  {line}")
    finished = all(client.successful() for client in clients)
    return not failed and same and not lines and finished


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connecting", type=int, default=64)
    parser.add_argument("--keeping", type=int, default=16)
    parser.add_argument("--delay-ms", default="0-2", help="of the lond's replies")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as directory,
        network(Path(directory)) as net,
    ):
        net.add("msul2", "--delay-ms", options.delay_ms)
        with supervisord(net) as running:
            good = run(net, running, options)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
