# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests by the thousand: kills of daemon and londs, critical calls, a full disk."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from harness import Network, network, wait_until
from users import only_root

from lonc_gevent.client import CON_DELAYED, ClientError, Sockets, critical
from lonc_gevent.client.delayed import delay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOSTS = ("msul1", "s10.l2", "xs10.l2")
FILES, KILLS = 10_000, 200
CALLS, THREADS = 3_000, 16


def waiting(directory: Path, host: str = "") -> list[Path]:
    """Return the delayed files that are left, of one host or of all."""
    return [
        path
        for path in directory.iterdir()
        if not path.name.startswith((".", "quarantine"))
        and path.name.split(".", 4)[-1].startswith(host)
    ]


# -- kills -----------------------------------------------------------------------------------


def write(directory: Path) -> dict[str, list[bytes]]:
    """Write the files; return each host's requests in order."""
    directory.mkdir(mode=0o700)
    wanted: dict[str, list[bytes]] = {host: [] for host in HOSTS}
    for i in range(FILES):
        host = HOSTS[i % len(HOSTS)]
        request = b"echo:%s:%d" % (host.encode(), i)
        path = directory / f"1000000000.{i:06d}.77.echo.{host}"
        path.write_bytes(request + b"\n")
        path.chmod(0o600)
        wanted[host].append(request)
    return wanted


def wait_for_progress(net: Network, files: float) -> None:
    """Wait until about so many files more were received, then a little."""

    def size() -> int:
        return sum(
            lond.record.stat().st_size for lond in net.londs.values() if lond.record.exists()
        )

    goal = size() + files * len(b"echo:s10.l2:12345\n")
    wait_until(lambda: size() > goal, "files are sent", 60)
    time.sleep(random.uniform(0, 0.01))


def kill_daemon(net: Network) -> None:
    """Kill the daemon, and start it again."""
    assert net.daemon
    net.daemon.close()
    net.start(ready=False)


def kill_lond(net: Network, directory: Path) -> None:
    """Kill a lond that still gets files, and start it again."""
    busy = [lond for lond in net.londs.values() if waiting(directory, lond.host_id)]
    lond = random.choice(busy or list(net.londs.values()))
    lond.kill()
    lond.start()


@pytest.mark.parametrize("victim", ["daemon", "lond"])
def test_no_file_is_lost_or_needlessly_sent_twice_by_200_kills(net: Network, victim: str) -> None:
    """Each request arrives at its lond, in order by first receipt; one a kill may arrive twice."""
    directory = net.directory / "d"
    net.tables["delayed"] = {"directory": "d", "settle": 0.1, "scan_interval": 1.0}
    net.pool |= {"retry_backoff_min": 0.05, "retry_backoff_max": 0.2}
    wanted = write(directory)
    for host in HOSTS:
        # A lond that is killed is to have a request under way.
        net.add(host, *(("--delay-ms", "0-4") if victim == "lond" else ()))
    net.start(ready=False)
    for number in range(KILLS):
        left = len(waiting(directory))
        assert left, "the files are to last for all kills"
        wait_for_progress(net, random.uniform(0, min(1.6 * left / (KILLS - number), 0.8 * left)))
        if victim == "lond":
            kill_lond(net, directory)
        else:
            kill_daemon(net)
    wait_until(lambda: not waiting(directory), "all files are sent", 600)

    more = 0
    for host, lond in net.londs.items():
        received = lond.received
        assert list(dict.fromkeys(received)) == wanted[host]
        more += len(received) - len(set(received))
    assert more <= KILLS
    assert not list((directory / "quarantine").iterdir())


# -- critical calls --------------------------------------------------------------------------


class Killer(threading.Thread):
    """Kills the daemon or the lond, and starts it again, until `stop`."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        self.ended = threading.Event()
        self.kills = Counter[str]()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Kill one or the other."""
        try:
            while not self.ended.wait(random.uniform(0.2, 1.5)):
                victim = random.choice((self._lond, self._daemon))
                self.kills[victim.__name__] += 1
                victim()
        except BaseException as error:  # noqa: BLE001 - `stop` raises it
            self.error = error

    def stop(self) -> None:
        """Stop, and raise what went wrong."""
        self.ended.set()
        self.join()
        if self.error:
            raise self.error

    def _lond(self) -> None:
        lond = self.net.londs["msul2"]
        lond.kill()
        time.sleep(random.choice((0.0, 0.0, 2.5)))  # 2.5: longer than `critical` tries again
        lond.start()

    def _daemon(self) -> None:
        assert self.net.daemon
        if random.random() < 0.2:
            self.net.daemon.end()
        self.net.daemon.close()
        time.sleep(random.choice((0.0, 0.0, 2.0)))
        self.net.start()


def call(sockets: Sockets, number: int) -> bytes:
    """Make one critical call; return its outcome, an error's name in brackets."""
    time.sleep(random.uniform(0, 0.25))
    try:
        return critical(b"echo:%d" % number, "msul2", timeout=20, sockets=sockets)
    except ClientError as error:
        return f"<{type(error).__name__}>".encode()


def test_no_critical_request_is_lost_while_daemon_and_lond_are_killed(net: Network) -> None:
    """Each call returns its own reply, or CON_DELAYED and the request arrives later."""
    net.pool |= {"max_connections": THREADS}
    net.tables["daemon"] = {"pid_file": "pid"}
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.tables["delayed"] = {"settle": 0.5, "scan_interval": 0.5, "max_attempts": 1000}
    lond = net.add("msul2", "--delay-ms", "0-60")
    net.start()
    sockets = Sockets.read(net.config)
    killer = Killer(net)
    killer.start()
    with ThreadPoolExecutor(THREADS) as threads:
        outcomes = list(threads.map(lambda number: call(sockets, number), range(CALLS)))
    killer.stop()
    wait_until(lambda: not waiting(sockets.delayed), "all delayed ones are sent", 300)

    received = set(lond.received)
    assert set(killer.kills) == {"_lond", "_daemon"}
    assert CON_DELAYED in outcomes
    for number, outcome in enumerate(outcomes):
        assert outcome in (b"%d" % number, CON_DELAYED)
        assert b"echo:%d" % number in received


# -- a full disk -----------------------------------------------------------------------------

ON_DISK = 300
LIVE = 500
READ_ONLY_SECONDS = 8.0
"""Longer than the replay waits before it tries again."""


@pytest.fixture
def disk(short_path: Path) -> Iterator[Path]:
    """Give a small tmpfs, the folder `d` of a network's directory."""
    path = short_path / "d"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", str(path)]
    subprocess.run(mount, check=True)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "-l", str(path)], check=False)
        yield path


def fill(path: Path) -> None:
    """Write until there is no room at all."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def ask_others(net: Network) -> None:
    """Ask a host that is up; each request must be answered."""
    for i in range(LIVE):
        assert net.ask("msul1", b"echo:%d" % i) == b"%d" % i


@only_root
def test_nothing_is_lost_when_the_disk_is_full_or_read_only(disk: Path) -> None:
    """The replay goes on with the disk full, other hosts' requests too, and an event says why."""
    pool = {"connect_timeout": 2.0, "retry_backoff_min": 0.2, "retry_backoff_max": 1.0}
    with network(disk.parent, pool=pool) as net:
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
        wait_until((disk / "quarantine").exists, "the directory is in use")

        requests = fill_with_requests(disk)
        ask_others(net)
        net.wait_for("delayed_trouble")  # nothing can be sealed
        lond.start()
        net.wait_for("delayed_quarantined", reason="max_attempts")
        ask_others(net)
        wait_until(lambda: not waiting(disk), "all is sent, on the full disk", 120)
        assert [r for r in lond.received if r != b"fault:drop-before"] == requests

        for name in (".fill", ".fill2"):
            (disk / name).unlink()
        last = delay(b"echo:room again", "msul2", disk)
        wait_until(lambda: not last.exists(), "what comes after it is sent")

        path = delay(b"delay:1500:ro", "msul2", disk)
        wait_until(lambda: b"delay:1500:ro" in lond.received, "it is under way")
        replayed = len(net.find("delayed_replayed"))
        remount(disk, "ro")
        wait_until(lambda: len(net.find("delayed_replayed")) > replayed, "it is answered")
        time.sleep(READ_ONLY_SECONDS)
        assert path.exists()
        remount(disk, "rw")
        wait_until(lambda: not path.exists(), "it is removed once that is possible")
        assert lond.received.count(b"delay:1500:ro") == 1


def fill_with_requests(disk: Path) -> list[bytes]:
    """Write requests, one of them fatal for its connection, until the disk is full."""
    fill(disk / ".fill")
    with (disk / ".fill").open("r+b") as file:
        file.truncate(file.seek(0, 2) - ON_DISK * 4096)
    requests = [b"echo:%d" % i for i in range(ON_DISK - 1)]
    for request in requests:
        path = delay(b"encrypt:" + request, "msul2", disk)
        assert path.read_bytes().startswith(b"encrypt:echo:")
    (disk / "0.0.0.fault.msul2").write_bytes(b"fault:drop-before\n")
    fill(disk / ".fill2")
    with pytest.raises(OSError, match="No space"):
        delay(b"echo:no room", "msul2", disk)
    return requests


def remount(disk: Path, how: str) -> None:
    """Make the disk read-only (ro), or writable again (rw)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)
