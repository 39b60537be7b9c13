# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of a chaos run. A function's fault is over when the function returns."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import flood
from harness import Client

from .scene import HOSTS, POOL

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Callable

    from .clients import Victim
    from .scene import Scene

LONGEST: Final = 3.0
"""Seconds that a fault lasts, at most."""

HELD: Final = POOL["reply_timeout"] + 1.0
"""Seconds more that requests may wait for a lond or daemon that was silent."""

SOCKETS_BACK: Final = 10.0
"""Seconds in which socket files must be there again that were removed."""


class At(NamedTuple):
    """What a fault acts on."""

    scene: Scene
    victim: Victim
    chance: random.Random
    over: threading.Event
    """Never set; `wait` is a pause."""

    def pause(self, longest: float = LONGEST) -> float:
        """Let some time pass; return how much, in seconds."""
        seconds = self.chance.uniform(0.1, longest)
        self.over.wait(seconds)
        return seconds


class Fault(NamedTuple):
    """A fault."""

    do: Callable[[At], str]
    """Causes the fault; returns a text for the timeline."""
    loses: bool
    """Whether a client may get con_lost, or no connection, because of it."""
    longer: float = 0.0
    """Seconds more than RECOVERY until every host answers again."""


def kill_lond(at: At) -> str:
    """Kill a lond, and start it again."""
    host = at.chance.choice(HOSTS)
    at.scene.londs[host].kill()
    seconds = at.pause()
    _start_lond(at, host)
    return f"{host} away for {seconds:.1f} s"


def kill_all_londs(at: At) -> str:
    """Kill every lond, and start them one after the other."""
    for lond in at.scene.londs.values():
        lond.kill()
    seconds = at.pause()
    for host in at.scene.londs:
        _start_lond(at, host)
    return f"for {seconds:.1f} s"


def _start_lond(at: At, host: str) -> None:
    at.scene.received[host].mend()
    at.scene.londs[host].start()


def stop_lond(at: At) -> str:
    """Stop a lond (SIGSTOP), for a time shorter or longer than reply_timeout."""
    host = at.chance.choice(HOSTS)
    process = at.scene.londs[host].process
    if process is None:
        return "was away"
    process.send_signal(signal.SIGSTOP)
    try:
        seconds = at.pause(6.0)
    finally:
        process.send_signal(signal.SIGCONT)
    return f"{host} silent for {seconds:.1f} s"


def kill_daemon(at: At) -> str:
    """Kill the daemon, and start another one."""
    at.scene.restart(signal.SIGKILL)
    return "started again"


def stop_daemon(at: At) -> str:
    """Stop the daemon with TERM, and start another one."""
    code = at.scene.restart(signal.SIGTERM)
    if code:
        raise AssertionError(f"exit code {code} after TERM: {at.scene.stderr[-1]}")
    return "stopped in order, started again"


def hang_up(at: At) -> str:
    """Restart the daemon in place (HUP): same pid, nothing lost."""
    daemon = at.scene.daemon
    ready = sum('"ready"' in line for line in daemon.lines)
    daemon.send_signal(signal.SIGHUP)
    for _ in range(200):
        if sum('"ready"' in line for line in tuple(daemon.lines)) > ready:
            return "restarted in place"
        at.over.wait(0.1)
    raise AssertionError("not ready again within 20 s after HUP")


def freeze_daemon(at: At) -> str:
    """Stop the daemon (SIGSTOP) for a moment, as an overloaded machine does."""
    at.scene.daemon.send_signal(signal.SIGSTOP)
    try:
        seconds = at.pause(2.0)
    finally:
        at.scene.daemon.send_signal(signal.SIGCONT)
    return f"for {seconds:.1f} s"


def freeze_daemon_for_long(at: At) -> str:
    """Stop the daemon (SIGSTOP) for longer than its limits, as a suspended machine does."""
    with at.scene.away():
        at.scene.daemon.send_signal(signal.SIGSTOP)
        try:
            at.over.wait(POOL["reply_timeout"])
            seconds = POOL["reply_timeout"] + at.pause()
        finally:
            at.scene.daemon.send_signal(signal.SIGCONT)
    return f"for {seconds:.1f} s"


def flood_http(at: At) -> str:
    """Send HTTP to the admin socket without a pause, in one of the ways of flood.py."""
    kind = at.chance.choice(list(flood.HTTP))
    scene = at.scene
    command = [sys.executable, flood.__file__, str(scene.net.sockets), kind, str(scene.daemon.pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as attacker:
        try:
            seconds = at.pause()
        finally:
            attacker.kill()
    return f"{kind} for {seconds:.1f} s"


def leave_queue(at: At) -> str:
    """Let many clients disconnect whose requests wait in the queue."""
    path = at.scene.net.sockets / at.chance.choice(HOSTS)
    left = 0
    for _ in range(at.chance.randint(1, 4)):
        with ExitStack() as stack:
            for _ in range(100):
                client = stack.enter_context(Client(path))
                client.send(b"ping\n")
            left += 100
            at.pause(0.5)
    return f"{left} clients of {path.name}"


def cut_hosts_tab(at: At) -> str:
    """Cut hosts.tab short, as a full disk does, have it read, and restore it."""
    path = at.scene.net.directory / "hosts.tab"
    whole = path.read_bytes()
    size = at.chance.randint(0, len(whole) - 1)
    with at.scene.away():
        try:
            path.write_bytes(whole[:size])
            at.scene.daemon.send_signal(signal.SIGUSR2)
            at.pause()
        finally:
            path.write_bytes(whole)
            loaded = at.scene.count("hosts_reloaded")
            at.scene.daemon.send_signal(signal.SIGUSR2)
        for _ in range(100):
            if at.scene.count("hosts_reloaded") > loaded and at.scene.all_sockets:
                break
            at.over.wait(0.1)
    return f"after {size} of {len(whole)} bytes"


def remove_sockets(at: At) -> str:
    """Remove the socket files of some hosts; the daemon makes them again."""
    hosts = at.chance.sample(HOSTS, at.chance.randint(1, len(HOSTS)))
    with at.scene.away():
        for host in hosts:
            (at.scene.net.sockets / host).unlink(missing_ok=True)
        began = time.monotonic()
        while not at.scene.all_sockets and time.monotonic() - began < SOCKETS_BACK:
            at.over.wait(0.1)
    return f"{', '.join(hosts)}, back after {time.monotonic() - began:.1f} s"


def kill_clients(at: At) -> str:
    """Kill a client in the middle of a large reply, several times."""
    times = at.chance.randint(2, 5)
    for _ in range(times):
        at.pause(0.5)
        at.victim.again()
    return f"{times} clients"


def stop_client(at: At) -> str:
    """Stop a client in the middle of a large reply, and continue it."""
    at.victim.process.send_signal(signal.SIGSTOP)
    seconds = at.pause(6.0)
    at.victim.process.send_signal(signal.SIGCONT)
    return f"for {seconds:.1f} s"


def no_descriptors(at: At) -> str:
    """Lower the daemon's limit of descriptors, and restore it."""
    pid = at.scene.daemon.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - it is no folder of ours
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    left = at.chance.randint(0, 6)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + left, before[1]))
    try:
        seconds = at.pause()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    return f"{left} left for {seconds:.1f} s"


def move_clock(at: At) -> str:
    """Set the daemon's wall clock forward or back by up to a day."""
    offset = at.chance.choice((-86400, -3600, -5, 5, 3600, 86400))
    at.scene.set_clock(offset)
    at.pause()
    return f"{offset:+d} s"


def stop_reading_log(at: At) -> str:
    """Stop the reader of the daemon's stdout for a while."""
    reading = at.scene.daemon.reading
    reading.clear()
    try:
        seconds = at.pause()
    finally:
        reading.set()
    return f"for {seconds:.1f} s"


def many_signals(at: At) -> str:
    """Request the status report without a pause, which also opens every retry gate."""
    end = time.monotonic() + at.chance.uniform(0.1, LONGEST)
    sent = 0
    while time.monotonic() < end:
        at.scene.daemon.send_signal(signal.SIGUSR1)
        sent += 1
    return f"{sent} USR1"


def fill_disk(at: At) -> str:
    """Fill the disk of the delayed directory."""
    path = at.scene.delayed / ".fill"
    try:
        with path.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue
        seconds = at.pause()
    finally:
        path.unlink(missing_ok=True)
    return f"for {seconds:.1f} s"


def busy_machine(at: At) -> str:
    """Keep both cores busy."""
    seconds = at.chance.uniform(0.5, LONGEST)
    command = ["timeout", f"{seconds:.1f}", "sh", "-c", "while :; do :; done"]
    busy = [subprocess.Popen(command) for _ in range(3)]
    for process in busy:
        process.wait()
    return f"for {seconds:.1f} s"


def faults(scene: Scene) -> dict[str, Fault]:
    """Return the faults that are possible here, by name."""
    found = {
        "kill lond": Fault(kill_lond, loses=True),
        "kill all londs": Fault(kill_all_londs, loses=True),
        "stop lond": Fault(stop_lond, loses=True, longer=HELD),
        "kill daemon": Fault(kill_daemon, loses=True),
        "stop daemon": Fault(stop_daemon, loses=True),
        "freeze daemon": Fault(freeze_daemon, loses=False, longer=HELD),
        "long freeze": Fault(freeze_daemon_for_long, loses=True, longer=HELD),
        "flood of HTTP": Fault(flood_http, loses=False),
        "leave the queue": Fault(leave_queue, loses=False),
        "cut hosts.tab": Fault(cut_hosts_tab, loses=True),
        "remove sockets": Fault(remove_sockets, loses=True),
        "kill clients": Fault(kill_clients, loses=False),
        "stop client": Fault(stop_client, loses=False),
        "no descriptors": Fault(no_descriptors, loses=True, longer=HELD),
        "log reader stops": Fault(stop_reading_log, loses=False),
        "many signals": Fault(many_signals, loses=False),
        "busy machine": Fault(busy_machine, loses=False),
    }
    if scene.preload:
        found["move clock"] = Fault(move_clock, loses=False)
    found["restart in place"] = Fault(hang_up, loses=False)
    if scene.disk_is_small:
        found["full disk"] = Fault(fill_disk, loses=False)
    return found
