# SPDX-License-Identifier: GPL-2.0-or-later
"""Each limit hit on purpose: memory before, during and after, and what others notice of it.

While it lasts, a client of another host asks all the time: all its requests must be answered,
the slowest within a bound. Memory is the daemon's resident set. The cases:

    queued   requests of 1 MB to a mute lond, 4 times max_queued_bytes of them
    silent   10,000 connections that say nothing
    slow     a request of 16 MB that comes in small pieces, some in single bytes, and its reply
    unended  lond sends max_reply_bytes (64 MB) without a newline
    dripping lond sends one byte a moment, for ever
    too-long a request over max_request_bytes

    limits [CASE...] [--silent N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import Client, Network, network, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 1024 * 1024
QUEUED = 64 * MB
"""max_queued_bytes in this drill."""

SLOWEST = 0.5
"""Seconds that another client's request may take at most; the machine may be busy."""

SILENT_CLIENT = 24 * 1024
"""Bytes of memory that one silent client may cost."""


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@dataclass
class Seen:
    """What another client noticed, and the daemon's memory meanwhile."""

    peak: int = 0
    asked: int = 0
    failed: int = 0
    slowest: float = 0.0


def watch(path: str, pid: int) -> None:
    """Be the other client, in a process of its own, until stdin ends; print what was seen."""
    seen = Seen()
    with Client(Path(path)) as client:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            started = time.monotonic()
            seen.failed += client.ask(b"echo:other") != b"other"
            seen.asked += 1
            seen.slowest = max(seen.slowest, time.monotonic() - started)
            seen.peak = max(seen.peak, resident(pid))
    print(json.dumps(asdict(seen)))


@contextlib.contextmanager
def watching(net: Network) -> Iterator[Seen]:
    """Run the other client beside what is done in the block; what it saw is there after it."""
    assert net.daemon
    seen = Seen()
    command = [sys.executable, __file__, "--watch", str(net.sockets / "msul3"), str(net.daemon.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield seen
        finally:
            told, _ = process.communicate(b"enough\n", timeout=60)
    for name, value in json.loads(told).items():
        setattr(seen, name, value)


def queued(net: Network, _count: int) -> int:
    """Fill the queue four times over."""
    request = b"echo:" + b"q" * MB + b"\n"
    mute = [Client(net.sockets / "mute") for _ in range(5)]
    for client in mute:
        client.send(b"fault:mute\n")
    wait_until(lambda: len(net.londs["mute"].received) >= len(mute), "all connections are held")
    clients = [Client(net.sockets / "mute") for _ in range(4 * QUEUED // MB)]
    for client in clients:
        client.send(request)
    refused = 0
    for client in clients:
        client.sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            refused += client.line() == b"con_lost\n"
    # Those that wait are closed by their clients, the others have their con_lost.
    for client in (*mute, *clients):
        client.sock.close()
    net.londs["mute"].kill()
    assert refused >= 3 * QUEUED // MB - 6, f"only {refused} were refused"
    return QUEUED + 8 * MB


def patient(path: Path) -> Client:
    """Connect as soon as there is room in the backlog."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return Client(path)
        except BlockingIOError:
            assert time.monotonic() < deadline, "the daemon does not accept"
            time.sleep(0.01)


def silent(net: Network, count: int) -> int:
    """Connect, and say nothing."""
    clients = [patient(net.sockets / "msul2") for _ in range(count)]
    with Client(net.sockets / "msul2") as client:
        assert client.ask(b"echo:besides") == b"besides"
    time.sleep(2)  # this is about clients that are there
    for client in clients:
        client.sock.close()
    return count * SILENT_CLIENT


def slow(net: Network, _count: int) -> int:
    """Send 16 MB in small pieces."""
    size = 16 * MB - 64
    text = bytes(range(11, 256)) * (size // 245 + 1)
    text = text[:size]
    single, piece = 20_000, 997
    with Client(net.sockets / "msul2", timeout=120) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.send(b"echo:")
        for at in range(single):
            client.send(text[at : at + 1])
        for at in range(single, size, piece):
            client.send(text[at : at + piece])
        client.send(b"\n")
        assert client.line() == text + b"\n"
    return 6 * 16 * MB


def unended(net: Network, _count: int) -> int:
    """Let lond send 64 MB and no newline."""
    with Client(net.sockets / "msul2", timeout=120) as client:
        assert client.ask(b"fault:unended:67200000") == b"con_lost"
    net.wait_for("reply_lost", error="reply_too_long")
    return 2 * 64 * MB


def dripping(net: Network, _count: int) -> int:
    """Let lond send a byte a moment for ever: reply_timeout ends it."""
    started = time.monotonic()
    with net.client("msul2") as client:
        assert client.ask(b"fault:drip:50:" + b"d" * 10_000) == b"con_lost"
    took = time.monotonic() - started
    assert took < 10.0, f"it took {took:.1f} s"
    return 8 * MB


def too_long(net: Network, _count: int) -> int:
    """Send more than is taken."""
    with Client(net.sockets / "msul2", timeout=60) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):
                client.send(b"x" * MB)
        with contextlib.suppress(ConnectionResetError):
            assert client.line() == b"con_lost\n"
    net.wait_for("request_too_long")
    time.sleep(0.2)  # for the other client to have asked meanwhile
    return 2 * 17 * MB


CASES: dict[str, Callable[[Network, int], int]] = {
    "queued": queued,
    "silent": silent,
    "slow": slow,
    "unended": unended,
    "dripping": dripping,
    "too-long": too_long,
}
"""Each hits its limit, and returns how many bytes more the daemon may have during that."""


def run_case(name: str, count: int) -> bool:
    """Run one case in a network of its own; say what it cost; return whether all is well."""
    with tempfile.TemporaryDirectory(prefix="lonc") as directory:
        pool = {"max_queued_bytes": QUEUED, "reply_timeout": 5.0 if name == "dripping" else 60.0}
        with network(Path(directory), pool=pool) as net:
            for host in ("msul2", "msul3", "mute"):
                net.add(host, "--client-id", "msul1")
            net.start()
            assert net.daemon
            assert net.ask("msul3", b"echo:warm") == b"warm"
            before = resident(net.daemon.pid)
            with watching(net) as seen:
                started = time.monotonic()
                allowed = CASES[name](net, count)
                took = time.monotonic() - started
            time.sleep(0.5)  # for the daemon to let go, before its memory is looked at
            after = resident(net.daemon.pid)
    cost = seen.peak - before
    well = cost <= allowed and not seen.failed and seen.slowest < SLOWEST
    print(
        f"{name:<9} {took:5.1f} s  memory {before / MB:6.1f} MB, at most +{cost / MB:.1f}"
        f" (allowed +{allowed / MB:.0f}), after it +{(after - before) / MB:.1f};"
        f" others {seen.asked} asked, {seen.failed} failed,"
        f" slowest {seen.slowest * 1000:.0f} ms{'' if well else '   NOT as it should be'}"
    )
    return well


def main() -> int:
    """Run the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    if sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2], int(sys.argv[3]))
        return 0
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--silent", type=int, default=10_000, metavar="N")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    well = [run_case(name, options.silent) for name in options.cases or CASES]
    print("as it should be" if all(well) else "NOT as it should be")
    return int(not all(well))


if __name__ == "__main__":
    sys.exit(main())
