# SPDX-License-Identifier: GPL-2.0-or-later
"""A soak: steady mixed load, londs that come and go, and what grows in the daemon meanwhile.

    scripts/soak [--minutes M]

Clients send requests to three hosts, one of which is killed and started every few seconds, and to
one that is down. Some leave early, some request large replies, some stay for many requests. Each
second the daemon's memory, descriptors, threads, greenlets and watchers are counted.
The growth of each after the warm-up, by a straight line through its values, has a bound.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import linear_regression
from typing import Final

from harness import Client, Network, Process, wait_until

BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "rss_kb": (4096.0, 256.0),
    "descriptors": (6.0, 0.5),
    "threads": (1.0, 0.1),
    "greenlets": (20.0, 1.0),
    "watchers": (20.0, 1.0),
    "objects": (2000.0, 200.0),
}
"""What each may grow by over the run, and per minute; the larger of the two is the bound.

The first allows for caches and chance; over a long run the second shows a slow leak.
"""

WARM_UP: Final = 0.25
"""The share of the run that does not count, in which buffers and pools grow."""

CLIENTS: Final = 6
CHURN: Final = 10.0
"""Seconds between two kills of a lond."""


class Load:
    """Threads that send requests, each like some web process."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.outcomes: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(CLIENTS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, mine: int) -> None:
        chance = random.Random(mine)
        number = 0
        while not self._stop.wait(0.01):
            host = chance.choice(("msul1", "msul1", "msul2", "nscll1", "down1"))
            with self.net.client(host) as client:
                for _ in range(chance.choice((1, 1, 1, 10, 50))):
                    number += 1
                    if self._one(client, chance, b"%d:%d" % (mine, number)):
                        break

    def _one(self, client: Client, chance: random.Random, text: bytes) -> bool:
        """Send one request; return whether the client leaves."""
        text += b":" + b"x" * chance.choice((10, 100, 1000, 20_000))
        kind = chance.random()
        if kind < 0.02:  # noqa: PLR2004 - one in fifty leaves early
            client.send(b"big:300000\n")
            self.outcomes["left early"] += 1
            return True
        verb = b"encrypt:eget:" if kind < 0.2 else b"echo:"  # noqa: PLR2004 - one in five sealed
        client.send(verb + text + b"\n")
        reply = client.line()
        right = {text + b"\n": "ok", b"con_lost\n": "con_lost"}
        self.outcomes[right.get(reply, "wrong")] += 1
        return reply == b"con_lost\n"


def look(pid: int, counts: Path) -> dict[str, float]:
    """Return the daemon's current figures."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    return {
        "rss_kb": float(fields["VmRSS"].split()[0]),
        "threads": float(fields["Threads"]),
        "descriptors": float(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())),
        **json.loads(counts.read_text()),
    }


def judge(samples: list[tuple[float, dict[str, float]]]) -> bool:
    """Print the table; return whether all stayed within its bounds."""
    last = samples[-1][0]
    used = [(at / 60, sample) for at, sample in samples if at >= last * WARM_UP]
    minutes = used[-1][0] - used[0][0]
    good = True
    print(f"{'':12} {'first':>10} {'last':>10} {'per minute':>12} {'growth':>10} {'bound':>10}")
    for name, (whole, each) in BOUNDS.items():
        values = [sample[name] for _, sample in used]
        rate = linear_regression([at for at, _ in used], values).slope
        bound = max(whole, each * minutes)
        fits = rate * minutes <= bound
        good &= fits
        print(
            f"{name:12} {values[0]:10.0f} {values[-1]:10.0f} {rate:12.3f}"
            f" {rate * minutes:10.1f} {bound:10.1f}{'' if fits else '  NOT GOOD'}"
        )
    return good


def run(net: Network, minutes: float) -> bool:
    """Run the load, and sample the daemon."""
    for host in ("msul1", "msul2", "nscll1"):
        net.add(host, "--delay-ms", "0-5")
    net.add("down1", start=False)
    net.write()
    counts = net.directory / "counts"
    config = str(net.config)
    net.daemon = daemon = Process("soak_daemon", str(counts), "run", "--config", config)
    net.wait_for("ready")
    wait_until(counts.exists, "the first counts")
    load = Load(net)
    samples: list[tuple[float, dict[str, float]]] = []
    began = time.monotonic()
    kills = 0
    pause = threading.Event()
    load.start()
    try:
        while (at := time.monotonic() - began) < minutes * 60:
            samples.append((at, look(daemon.pid, counts)))
            if at > (kills + 1) * CHURN:
                net.londs["nscll1"].kill()
                net.londs["nscll1"].start()
                kills += 1
            del daemon.lines[:-1000]
            pause.wait(1.0)
    finally:
        load.stop()
    good = judge(samples)
    print(f"{dict(load.outcomes)}, lond killed {kills} times, {len(samples)} samples")
    return good and not load.outcomes["wrong"]


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    pool = {"retry_backoff_min": 0.1, "retry_backoff_max": 1.0, "idle_timeout": 2.0}
    with tempfile.TemporaryDirectory(prefix="lonc") as directory:
        net = Network(Path(directory), pool=pool)
        try:
            good = run(net, options.minutes)
        finally:
            net.close()
    print("good" if good else "NOT GOOD")
    sys.exit(not good)


if __name__ == "__main__":
    main()
