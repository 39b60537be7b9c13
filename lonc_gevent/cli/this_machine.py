# SPDX-License-Identifier: GPL-2.0-or-later
"""Examination of this machine: `lonc-gevent doctor` without a host."""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent
import msgspec
from gevent.pool import Pool

from lonc_gevent.admin.status import Status
from lonc_gevent.daemon.requirements import examine
from lonc_gevent.doctor.diagnosis import note, problem

from .admin_client import FAILURES, ask, no_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.settings import Configuration
    from lonc_gevent.doctor.diagnosis import Finding

ENOUGH: Final = 0.8
"""Part of the daemon's descriptors that may be in use."""

SLOW_LOOKUP: Final = 1.0
"""Seconds for a name, from which on the name server is slow."""

LOOKUPS: Final = 16
"""Names that are looked up at a time."""


def examine_machine(config: Path) -> Iterator[Finding]:
    """Yield findings about the configuration, the daemon, its sockets, and names."""
    examined = examine(config)
    for each in examined.problems:
        yield problem(each.where, str(each))
    configuration = examined.configuration
    if configuration is None:
        return
    yield note("", f"{config}: {len(configuration.hosts)} hosts")
    yield from _daemon(configuration)
    yield from _our_name(configuration)
    yield from _names(configuration)


def _daemon(configuration: Configuration) -> Iterator[Finding]:
    """Yield the verdict of the daemon, and the state of what it holds."""
    path = configuration.settings.admin.socket
    try:
        status = msgspec.json.decode(ask(path, "/status")[1], type=Status)
    except FAILURES as error:
        yield problem("admin.socket", no_daemon(path, error))
        return
    yield note("", f"daemon {status.version}, pid {status.pid}: {status.phase}")
    for reason in status.verdict.reasons:
        yield (problem if reason.level != "well" else note)("", reason.text)
    directory = Path(configuration.settings.sockets.directory)
    lost = [name for name in configuration.sockets if not (directory / name).is_socket()]
    if lost and status.shard is None:
        text = f"{len(lost)} sockets are missing, such as {lost[0]}"
        yield problem("sockets.directory", text)
    waiting, quarantined = status.totals.delayed_waiting, status.totals.delayed_quarantined
    text = f"{waiting} requests wait, {quarantined} are quarantined"
    yield (problem if quarantined > 0 else note)("delayed.directory", text)
    text = f"{status.log_lines_dropped} lines dropped, as their reader was slow"
    yield (problem if status.log_lines_dropped > 0 else note)("log", text)
    yield from _descriptors(status.pid)


def _descriptors(pid: int) -> Iterator[Finding]:
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
        limit = next(int(line.split()[3]) for line in limits if line.startswith("Max open files"))
        used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except (OSError, ValueError, StopIteration):
        return
    yield (problem if used > limit * ENOUGH else note)(
        "", f"{used} of {limit} descriptors are in use"
    )


def _our_name(configuration: Configuration) -> Iterator[Finding]:
    """Yield whether the name that londs know this server by leads to it, and back."""
    own = configuration.settings.network.host_id
    name = next((host.dns_name for host in configuration.hosts if host.id == own), "")
    if not name:
        return
    addresses = sorted(_addresses(name))
    for address in addresses:
        if not _is_ours(address):
            text = (
                f"{name} leads to {address}, which is not an address of this machine: londs refuse"
                " it, unless a router translates the address"
            )
            yield problem("network.host_id", text)
            continue
        try:
            back = socket.gethostbyaddr(address)[0]
        except OSError:
            back = ""
        text = f"{name} leads to {address}, and that back to {back or 'no name'}"
        yield note("", text)
    if not addresses:
        yield problem("network.host_id", f"{name} cannot be resolved")


def _is_ours(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _names(configuration: Configuration) -> Iterator[Finding]:
    """Yield whether the names of all hosts can be resolved, and how slowly."""
    times: dict[str, float] = {}

    def look_up(name: str) -> bool:
        started = monotonic()
        found = bool(_addresses(name))
        times[name] = monotonic() - started
        return found

    names = sorted({host.address or host.dns_name for host in configuration.hosts})
    results = Pool(LOOKUPS).map(look_up, names)
    bad = [name for name, found in zip(names, results, strict=True) if not found]
    if bad:
        yield problem("", f"{len(bad)} names cannot be resolved, such as {bad[0]}")
    slowest = max(times, key=lambda name: times[name])
    text = f"{len(names)} names looked up; the slowest, {slowest}, took {times[slowest]:.2f} s"
    yield (problem if times[slowest] > SLOW_LOOKUP else note)("", text)


def _addresses(name: str) -> set[str]:
    try:
        found = gevent.get_hub().resolver.getaddrinfo(name, 0)
    except OSError:
        return set()
    return {str(each[4][0]) for each in found}
