# SPDX-License-Identifier: GPL-2.0-or-later
"""A chaos run: random faults by a seed, a timeline of them, and a verdict.

    scripts/chaos [--minutes M] [--seed N] [--only NAME]...

Clients send unique requests to four hosts all the time. After each fault every host must answer
rightly again within one backoff step and a second, or longer if the fault itself takes longer. At
the end all replies of the clients are compared with all requests that the londs recorded. A seed
gives the same faults in the same order, but not at the same moment of a request.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lonc_gevent.client.delayed import delay

from .clients import Clients, Victim
from .faults import HELD, At, faults
from .scene import HOSTS, POOL, Scene
from .verdict import delayed_problems, events, problems

if TYPE_CHECKING:
    from collections.abc import Callable

CALM: Final = 1.5
"""Seconds between two faults, at most."""

RECOVERY: Final = POOL["retry_backoff_max"] + 1.0
"""Seconds in which every host must answer again after a fault: one backoff step and a second."""

DELAYED_PATIENCE: Final = 60.0
"""Seconds at the end in which all delayed requests must have been sent."""


COUNTED: Final = (
    "host_down",
    "reply_lost",
    "connection_lost",
    "requests_refused",
    "accept_paused",
    "client_stalled",
    "hub_held",
    "log_lines_dropped",
    "delayed_replayed",
    "delayed_quarantined",
    "delayed_unavailable",
    "delayed_trouble",
)
"""The events that are counted in the summary."""


def show(began: float, text: str) -> None:
    """Print a line of the timeline."""
    print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)


class Writer(threading.Thread):
    """A web process that writes delayed requests."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.written: dict[str, list[bytes]] = {host: [] for host in HOSTS}
        self.refused = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Write one ten times a second; one that cannot be written is not accepted."""
        for number in range(1 << 30):
            if self.over.wait(0.1):
                return
            host = HOSTS[number % len(HOSTS)]
            request = b"echo:%s:delayed%d" % (host.encode(), number)
            try:
                delay(request, host, self.directory)
            except OSError:
                self.refused += 1
            else:
                self.written[host].append(request)


def recover(clients: Clients, step: int) -> float:
    """Ask every host until it answers rightly; return the seconds that took."""
    began = time.monotonic()
    for host in HOSTS:
        while clients.probe(host, step) != "ok":
            step += 1_000_000
            if time.monotonic() - began > RECOVERY + HELD + 10.0:
                return time.monotonic() - began
            time.sleep(0.02)
    return time.monotonic() - began


def one(at: At, clients: Clients, name: str, step: int) -> tuple[str, list[str]]:
    """Cause one fault; return its line of the timeline, and what was wrong."""
    found = []
    entry = faults(at.scene)[name]
    before = len(clients.outcomes)
    began = time.monotonic()
    what = entry.do(at)
    recovery = recover(clients, step)
    bound = RECOVERY + entry.longer
    if recovery > bound:
        found.append(f"{name}: good again only after {recovery:.1f} s, more than {bound:.1f}")
    seen = Counter(o.what for o in tuple(clients.outcomes)[before:])
    lost = sum(1 for o in tuple(clients.outcomes)[before:] if o.what != "ok" and o.began >= began)
    if lost and not entry.loses and name not in SLOW:
        found.append(f"{name}: {lost} requests were lost by it: {dict(seen)}")
    if not at.scene.daemon.running:
        found.append(f"{name}: the daemon is gone: {at.scene.daemon.stderr}")
        at.scene.start()
    numbers = ", ".join(f"{n} {what}" for what, n in sorted(seen.items()))
    return f"{name:<18} {what}; {numbers}; good again after {recovery:.2f} s", found


SLOW: Final = frozenset({"freeze daemon", "busy machine"})
"""Faults that can exceed a time limit of the daemon, which then rightly answers con_lost."""


def run(scene: Scene, options: argparse.Namespace) -> list[str]:
    """Cause faults for so long; return all that was wrong."""
    began = time.monotonic()
    chance = random.Random(options.seed)
    clients = Clients(scene.net.sockets, options.seed, options.clients)
    victim = Victim(scene.net.sockets)
    at = At(scene, victim, chance, threading.Event())
    writer = Writer(scene.delayed)
    found: list[str] = []
    clients.start()
    writer.start()
    try:
        recover(clients, 0)
        names = options.only or sorted(faults(scene))
        step = 1
        while time.monotonic() - began < options.minutes * 60:
            line, wrong = one(at, clients, chance.choice(names), step)
            show(began, line)
            for problem in wrong:
                show(began, f"  NOT GOOD: {problem}")
            found += wrong
            step += 1
            at.pause(CALM)
    finally:
        victim.kill()
        clients.stop()
        writer.over.set()
        writer.join()
    scene.set_clock(0)
    found += settle_delayed(scene, writer, began)
    found += problems(scene, clients)
    summary(scene, clients, writer)
    return found


def settle_delayed(scene: Scene, writer: Writer, began: float) -> list[str]:
    """Wait until every delayed request that was accepted has been received."""
    problem: Callable[[], list[str]] = lambda: delayed_problems(scene, writer.written)  # noqa: E731
    deadline = time.monotonic() + DELAYED_PATIENCE
    while problem() and time.monotonic() < deadline:
        time.sleep(0.2)
    show(began, f"delayed requests settled, {len(problem())} missing")
    return problem()


def summary(scene: Scene, clients: Clients, writer: Writer) -> None:
    """Print the figures."""
    outcomes = Counter(o.what for o in clients.outcomes)
    longest = max(o.ended - o.began for o in clients.outcomes)
    figures = ", ".join(f"{n} {what}" for what, n in outcomes.most_common())
    print(f"{len(clients.outcomes)} requests: {figures}; longest {longest:.1f} s")
    accepted = sum(len(requests) for requests in writer.written.values())
    print(f"delayed: {accepted} accepted, {writer.refused} not (the disk was full)")
    logged = events(scene)
    print("logged: " + ", ".join(f"{name} {logged[name]}" for name in COUNTED if logged[name]))


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="this fault; may be repeated"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by TERM"))
    with tempfile.TemporaryDirectory(prefix="lonc", ignore_cleanup_errors=True) as directory:
        scene = Scene(Path(directory))
        here = faults(scene)
        print(f"seed {options.seed}; faults that are possible here: {', '.join(here)}")
        unknown = set(options.only or ()) - set(here)
        if unknown:
            parser.error(f"no such fault here: {', '.join(sorted(unknown))}")
        with scene:
            found = run(scene, options)
    for problem in found[:50]:
        print(f"NOT GOOD: {problem}")
    print(f"seed {options.seed}: {'good' if not found else f'NOT GOOD, {len(found)} problems'}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
