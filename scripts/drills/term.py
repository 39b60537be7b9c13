# SPDX-License-Identifier: GPL-2.0-or-later
"""TERM under load; and TERM while every lond is a black hole, with requests under way or without.

The daemon must end with 0 within `stop_timeout` and a second; every client that it accepted must
get its reply or con_lost; no socket file may be left.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import gevent
from gevent import socket
from harness import Network, network, sockets_in

STOP_TIMEOUT = 2.0
SPARE = 1.0
"""Seconds over stop_timeout that a stop may take."""

ANSWERING = "every lond answers"
FROZEN = "every lond frozen in the middle of requests"
MUTE = "every lond a black hole from the start"

HOSTS = ("msul1", "msul2", "nscll1")


class Client:
    """A client that asks until the daemon is gone, and counts what came of each request."""

    def __init__(self, path: str, number: int, outcomes: Counter[str], *, kept: bool) -> None:
        self.path = path
        self.number = number
        self.outcomes = outcomes
        self.kept = kept

    def run(self) -> None:
        """Ask, on one connection or on one for each request."""
        sock: socket.socket | None = None
        count = 0
        while True:
            count += 1
            if sock is None:
                try:
                    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    sock.connect(self.path)
                except OSError:
                    self.outcomes["daemon gone"] += 1
                    return
            outcome = self.ask(sock, b"%d-%d" % (self.number, count))
            self.outcomes[outcome] += 1
            if outcome not in ("ok", "con_lost"):
                return
            if outcome == "con_lost":
                gevent.sleep(0.005)
            if not self.kept:
                sock.close()
                sock = None

    def ask(self, sock: socket.socket, text: bytes) -> str:
        """Send one request; return what came of it."""
        reply = b""
        try:
            sock.sendall(b"echo:" + text + b"\n")
            while not reply.endswith(b"\n"):
                data = sock.recv(65536)
                if not data:
                    break
                reply += data
        except OSError as error:
            # A kept-open connection may end between two requests: a stop is one.
            between = type(error) is BrokenPipeError and self.kept
            return "closed between" if between else type(error).__name__
        if not reply:
            return "closed between" if self.kept else "UNANSWERED"
        return {text + b"\n": "ok", b"con_lost\n": "con_lost"}.get(reply, "WRONG")


def trial(net: Network, kind: str, clients: int) -> bool:
    """Stop the daemon under load; print and judge what happened."""
    daemon = net.start()
    outcomes: Counter[str] = Counter()
    paths = [str(net.sockets / host) for host in HOSTS]
    greenlets = [
        gevent.spawn(Client(paths[n % len(paths)], n, outcomes, kept=n % 5 == 0).run)
        for n in range(clients)
    ]
    gevent.sleep(2.0)
    if kind == FROZEN:
        for lond in net.londs.values():
            assert lond.process
            lond.process.send_signal(signal.SIGSTOP)
        gevent.sleep(0.3)
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    while daemon.running and time.monotonic() - began < 30:
        gevent.sleep(0.005)
    took = time.monotonic() - began
    gevent.joinall(greenlets, timeout=10)
    code = daemon.end()
    stuck = sum(not greenlet.dead for greenlet in greenlets)
    left = sockets_in(net.sockets)
    bad = {name: n for name, n in outcomes.items() if name in ("WRONG", "UNANSWERED")}
    bad |= {name: n for name, n in outcomes.items() if name.endswith("Error")}
    print(
        f"TERM, {clients} clients, {kind}: exit {code} after {took:.2f} s"
        f" (stop_timeout {STOP_TIMEOUT} s); {dict(outcomes)};"
        f" left over: {left or 'nothing'}; clients stuck: {stuck}"
    )
    return code == 0 and took <= STOP_TIMEOUT + SPARE and not left and not bad and not stuck


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=80)
    options = parser.parse_args()
    good = True
    for kind in (ANSWERING, FROZEN, MUTE):
        with (
            tempfile.TemporaryDirectory(prefix="lonc") as directory,
            network(Path(directory), tables={"admin": {"stop_timeout": STOP_TIMEOUT}}) as net,
        ):
            for host in HOSTS:
                fault = ("--fault", "mute-handshake") if kind == MUTE else ("--delay-ms", "0-20")
                net.add(host, *fault)
            good &= trial(net, kind, options.clients)
    print("good" if good else "BAD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
