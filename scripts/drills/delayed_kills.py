# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed files for three hosts, and a SIGKILL for the daemon, or a lond, again and again.

At the end each request was received by the right lond, in order per host by first receipt, no more
were received twice than there were kills, and the directory is empty.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from harness import Lond, Network, network, wait_until

HOSTS = ("msul1", "s10.l2", "xs10.l2")

FIRST_START = 60.0
"""Seconds that a daemon has until it has sent its first file."""


def write(directory: Path, files: int) -> dict[str, list[bytes]]:
    """Write the files; return each host's requests in order."""
    directory.mkdir(mode=0o700)
    wanted: dict[str, list[bytes]] = {host: [] for host in HOSTS}
    for i in range(files):
        host = HOSTS[i % len(HOSTS)]
        request = b"echo:%s:%d" % (host.encode(), i)
        path = directory / f"1000000000.{i:06d}.77.echo.{host}"
        path.write_bytes(request + b"\n")
        path.chmod(0o600)
        wanted[host].append(request)
    return wanted


def left(directory: Path, host: str = "") -> int:
    """Count the delayed files, of one host or of all."""
    return sum(
        not p.name.startswith((".", "quarantine")) and p.name.split(".", 4)[-1].startswith(host)
        for p in directory.iterdir()
    )


def size(net: Network) -> int:
    """Return how much the londs have recorded, in bytes."""
    return sum(lond.record.stat().st_size for lond in net.londs.values() if lond.record.exists())


def wait_for_progress(net: Network, files: float) -> None:
    """Wait until about so many files more were received, then a little."""
    goal = size(net) + files * len(b"echo:s10.l2:12345\n")
    deadline = time.monotonic() + FIRST_START
    while size(net) <= goal and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(random.uniform(0, 0.01))


def kill_daemon(net: Network, share: float) -> None:
    """Kill the daemon in the middle of its work, and start it again."""
    daemon = net.daemon
    if daemon is None:
        raise RuntimeError("there is no daemon")
    wait_for_progress(net, random.uniform(0, share))
    daemon.kill()
    daemon.close()
    net.start(ready=False)


def kill_lond(net: Network, directory: Path, share: float) -> None:
    """Kill a lond that still gets files, and start it again."""
    busy = [lond for lond in net.londs.values() if left(directory, lond.host_id)]
    wait_for_progress(net, random.uniform(0, share))
    lond: Lond = random.choice(busy or list(net.londs.values()))
    lond.kill()
    lond.start()


def verdict(net: Network, directory: Path, wanted: dict[str, list[bytes]], kills: int) -> bool:
    """Compare what was received with what was to be sent."""
    twice = more = 0
    complete = ordered = True
    for host, lond in net.londs.items():
        received = lond.received
        counts = Counter(received)
        complete &= set(counts) == set(wanted[host])
        ordered &= list(dict.fromkeys(received)) == wanted[host]
        twice += sum(count > 1 for count in counts.values())
        more += len(received) - len(counts)
    quarantine = sum(1 for _ in (directory / "quarantine").iterdir())
    print(
        f"received by the right lond: {'all' if complete else 'NOT ALL'};"
        f" in order: {'yes' if ordered else 'NO'}; received twice: {twice} (receipts more than"
        f" one: {more}) after {kills} kills; left: {left(directory)}; in quarantine: {quarantine}"
    )
    return complete and ordered and more <= kills and not left(directory) and not quarantine


def run(net: Network, files: int, kills: int, *, lond: bool) -> bool:
    """Kill, again and again, while the files are sent; return whether all is well."""
    directory = net.directory / "d"
    net.tables["delayed"] = {"directory": "d", "settle": 0.1, "scan_interval": 1.0}
    net.pool |= {"retry_backoff_min": 0.05, "retry_backoff_max": 0.2}
    wanted = write(directory, files)
    for host in HOSTS:
        # A lond that is killed shall have a request under way.
        net.add(host, *(("--delay-ms", "0-4") if lond else ()))
    began = time.monotonic()
    net.start(ready=False)
    done = 0
    for number in range(kills):
        there = left(directory)
        if not there:
            break
        # So many on average that the files last for all kills; never all that are left.
        share = min(1.6 * there / (kills - number), 0.8 * there)
        if lond:
            kill_lond(net, directory, share)
        else:
            kill_daemon(net, share)
        done += 1
    wait_until(lambda: not left(directory), "all files are gone", timeout=600)
    what = "a lond" if lond else "the daemon"
    print(
        f"{files} files, {len(HOSTS)} hosts, {what} killed {done} times with files left;"
        f" {time.monotonic() - began:.0f} s"
    )
    return verdict(net, directory, wanted, done) and done == kills


def main() -> int:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lond", action="store_true", help="kill londs, not the daemon")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lonc") as folder,
        network(Path(folder)) as net,
    ):
        good = run(net, arguments.files, arguments.kills, lond=arguments.lond)
    print("good" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
