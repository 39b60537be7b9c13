# SPDX-License-Identifier: GPL-2.0-or-later
"""Assignment of hosts to several processes: rendezvous hashing.

The weight of a host and a process is a hash of the host's id and the process's number; a host is
served by the process with the greatest weight. So each process computes the assignment by itself,
each host has exactly one process, and an N-th process takes over one in N hosts from the others.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from .settings import Configuration

MAX_SHARDS = 1000
"""Limit of the number of processes: a greater one is a typing error."""


class Shard(Struct, frozen=True):
    """Process `number` (from 0) of `of` that share one directory of sockets."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, host_id: str) -> bool:
        """Return whether this process serves the host."""
        return owner(host_id, self.of) == self.number


def parse(text: str) -> Shard:
    """Parse `I/N`. Raises ValueError with the reason."""
    number, slash, of = text.partition("/")
    if not (slash and _is_number(number) and _is_number(of)):
        raise ValueError(f"expected I/N, such as 0/2, not {text[:20]!r}")
    shard = Shard(int(number), int(of))
    if not 1 <= shard.of <= MAX_SHARDS:
        raise ValueError(f"expected 1 to {MAX_SHARDS} processes, not {shard.of}")
    if shard.number >= shard.of:
        raise ValueError(f"processes are counted from 0: the last of {shard.of} is {shard.of - 1}")
    return shard


def owner(host_id: str, of: int) -> int:
    """Return the number of the process, of `of` processes, that serves the host."""
    name = host_id.encode("utf-8", "surrogateescape")
    return max(range(of), key=lambda number: (_weight(name, number), number))


def part(configuration: Configuration, shard: Shard) -> Configuration:
    """Return the configuration of one process of several.

    It has the hosts of this process with their sockets, which are all in one directory. Where each
    process needs its own, the names of admin socket, pid file and report get the process's number,
    and the port of admin.listen is increased by it.
    A dns name that several hosts share belongs to the process of the first of them.
    """
    settings = configuration.settings
    parent = "" if shard.number else settings.sockets.common_parent
    sockets = replace(settings.sockets, common_parent=parent)
    admin = replace(
        settings.admin,
        socket=_numbered(settings.admin.socket, shard),
        listen=_shifted(settings.admin.listen, shard),
    )
    daemon = replace(
        settings.daemon,
        pid_file=_numbered(settings.daemon.pid_file, shard),
        report_file=_numbered(settings.daemon.report_file, shard),
    )
    hosts = tuple(host for host in configuration.hosts if shard.holds(host.id))
    names = {name: id_ for name, id_ in configuration.sockets.items() if shard.holds(id_)}
    settings = replace(settings, sockets=sockets, admin=admin, daemon=daemon)
    return replace(configuration, settings=settings, hosts=hosts, sockets=names)


def _weight(name: bytes, number: int) -> bytes:
    return blake2b(name, digest_size=8, salt=number.to_bytes(4, "big")).digest()


def _numbered(path: str, shard: Shard) -> str:
    return f"{path}.{shard.number}" if path else ""


def _shifted(listen: str, shard: Shard) -> str:
    host, colon, port = listen.rpartition(":")
    return f"{host}:{int(port) + shard.number}" if colon else listen


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4  # noqa: PLR2004 - MAX_SHARDS has four digits
