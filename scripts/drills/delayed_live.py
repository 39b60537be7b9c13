# SPDX-License-Identifier: GPL-2.0-or-later
"""A host comes back with 5,000 delayed files waiting, while live clients are at work.

The live p99 stays under three times what it is without a replay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from delayed_many import go_first, quantile
from harness import Network, network, wait_until

from lonc_gevent.client.delayed import delay

FACTOR = 3.0


def load(net: Network, clients: int, until: threading.Event) -> list[float]:
    """Ask with so many clients, one request every 10 ms each; return how long each took, in ms."""
    took: list[float] = []

    def client() -> None:
        with net.client("msul2") as connection:
            while not until.is_set():
                began = time.monotonic()
                if connection.ask(b"echo:live") != b"live":
                    raise RuntimeError("a live request failed")
                took.append((time.monotonic() - began) * 1000)
                time.sleep(0.01)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def run(net: Network, files: int, clients: int, seconds: float) -> bool:
    """Measure without a replay, then while one goes on."""
    directory = net.directory / "d"
    net.tables["delayed"] = {"directory": "d", "settle": 0.1, "scan_interval": 1.0}
    net.pool["retry_backoff_max"] = 1.0
    lond = net.add("msul2", "--delay-ms", "1-3")
    net.start()
    wait_until((directory / "quarantine").exists, "the directory is in use")
    over = threading.Event()
    threading.Timer(seconds, over.set).start()
    without = load(net, clients, over)

    lond.kill()
    for i in range(files):
        delay(b"echo:%d" % i, "msul2", directory)
    lond.start()
    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "the host is back")
    net.wait_for("delayed_replayed")
    over = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        while any(p.name[0] == "1" for p in directory.iterdir()):
            time.sleep(0.2)
        over.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    during = load(net, clients, over)
    watcher.join()
    took = time.monotonic() - began
    replayed = [r for r in lond.received if r.startswith(b"echo:") and r != b"echo:live"]
    ordered = replayed == [b"echo:%d" % i for i in range(files)]
    before_p99, during_p99 = quantile(without, 0.99), quantile(during, 0.99)
    print(
        f"{clients} live clients, {files} files replayed in {took:.1f} s ({files / took:.0f} a"
        f" second), in order, none twice: {ordered}\n"
        f"live median {quantile(without, 0.5):.2f} ms without, {quantile(during, 0.5):.2f} ms with;"
        f" p99 {before_p99:.2f} ms without, {during_p99:.2f} ms with:"
        f" {during_p99 / before_p99:.2f} times ({len(without)} and {len(during)} requests)"
    )
    return ordered and during_p99 < FACTOR * before_p99


def main() -> int:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    go_first()
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as folder,
        network(Path(folder)) as net,
    ):
        good = run(net, arguments.files, arguments.clients, arguments.seconds)
    print("good" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
