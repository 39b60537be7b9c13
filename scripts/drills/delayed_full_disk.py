# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk of the delayed directory fills up during the replay (a small tmpfs; needs root).

Nothing is lost, live requests are answered as before, the daemon says what is wrong, and goes on
when there is room again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from harness import Network, network, wait_until

from lonc_gevent.client.delayed import delay

LIVE = 500
"""Live requests, twice."""

READ_ONLY_SECONDS = 8.0
"""Longer than the replay waits before it tries again."""


def fill(path: Path) -> None:
    """Write until there is no room at all."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def waiting(directory: Path) -> list[Path]:
    """Return the delayed files that are left."""
    return [p for p in directory.iterdir() if not p.name.startswith((".", "quarantine"))]


def live(net: Network, requests: int) -> tuple[int, float]:
    """Ask a host that is up; return how many were answered, and the longest time in ms."""
    answered, longest = 0, 0.0
    for i in range(requests):
        began = time.monotonic()
        answered += net.ask("msul1", b"echo:%d" % i) == b"%d" % i
        longest = max(longest, time.monotonic() - began)
    return answered, longest * 1000


def cannot_write(directory: Path) -> bool:
    """Say whether the client library refuses to promise what it cannot keep."""
    try:
        delay(b"echo:no room", "msul2", directory)
    except OSError:
        return True
    return False


def remount(disk: Path, how: str) -> None:
    """Make the disk read-only (ro), or writable again (rw)."""
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def read_only(net: Network, directory: Path) -> int:
    """Make the disk read-only while a request is under way; return how often that was sent."""
    lond = net.londs["msul2"]
    path = delay(b"delay:1500:ro", "msul2", directory)
    wait_until(lambda: b"delay:1500:ro" in lond.received, "it is under way")
    remount(directory, "ro")
    before = len(net.find("delayed_replayed"))
    wait_until(lambda: len(net.find("delayed_replayed")) > before, "it is answered")
    time.sleep(READ_ONLY_SECONDS)
    there = path.exists()
    remount(directory, "rw")
    wait_until(lambda: not path.exists(), "it is removed once that is possible")
    print(f"read-only: the file of an answered request was still there: {there}")
    return lond.received.count(b"delay:1500:ro")


def run(net: Network, files: int) -> bool:
    """Fill the disk while a host with files is down, bring it back, make room."""
    directory = net.directory / "d"
    net.tables["delayed"] = {
        "directory": "d",
        "settle": 0.1,
        "scan_interval": 0.5,
        "key_file": "key",
        "perm_log": "d/.perm",
        "max_attempts": 2,
    }
    net.add("msul1")
    lond = net.add("msul2", start=False)
    net.write()
    net.command("delayed", "new-key", str(net.directory / "key"))
    net.start()
    wait_until((directory / "quarantine").exists, "the directory is in use")
    fill(directory / ".fill")
    (directory / ".fill").open("r+b").truncate((directory / ".fill").stat().st_size - files * 4096)
    paths = [delay(b"encrypt:echo:%d" % i, "msul2", directory) for i in range(files - 1)]
    poison = directory / "0.0.0.fault.msul2"
    poison.write_bytes(b"fault:drop-before\n")
    fill(directory / ".fill2")
    refused = cannot_write(directory)
    answered, longest = live(net, LIVE)
    net.wait_for("delayed_trouble")  # nothing can be sealed
    whole = sum(path.read_bytes().startswith(b"encrypt:echo:") for path in paths)
    lond.start()
    net.wait_for("delayed_quarantined", reason="max_attempts")
    more, longer = live(net, LIVE)
    wait_until(lambda: not waiting(directory), "all is sent, on the full disk", timeout=120)
    received = [r for r in lond.received if r != b"fault:drop-before"]
    expected = [b"echo:%d" % i for i in range(files - 1)]
    silent = [e["event"] for e in net.events if e["level"] in ("error", "critical")]
    for name in (".fill", ".fill2"):
        (directory / name).unlink()
    last = delay(b"echo:room again", "msul2", directory)
    wait_until(lambda: not last.exists(), "what comes after is sent")
    sent = read_only(net, directory)
    print(
        f"full disk: {whole} of {len(paths)} files whole, a new one refused: {refused};"
        f" live: {answered + more} of {2 * LIVE} answered, longest {longest:.1f} ms with the host"
        f" down, {longer:.1f} ms during the replay\n"
        f"received: {len(received)} of {len(expected)}, in order, none twice:"
        f" {received == expected}; poison in quarantine after"
        f" {lond.received.count(b'fault:drop-before')} attempts; said: {sorted(set(silent))}"
    )
    print(f"sent {sent} time(s), although it could not be removed")
    return (
        sent == 1
        and received == expected
        and refused
        and whole == len(paths)
        and answered + more == 2 * LIVE
    )


def main() -> int:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("only root can mount a tmpfs")
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lonc")))
        disk = folder / "d"
        disk.mkdir()
        options = "size=4m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
        stack.callback(lambda: subprocess.run(["umount", "-l", disk], check=False))
        good = run(stack.enter_context(network(folder)), arguments.files)
    print("good" if good else "NOT GOOD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
