# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences between the hosts that a daemon serves and a new list: added, removed, changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .settings import HostSettings


class HostChanges(Struct, frozen=True):
    """New hosts, ids of removed ones, and hosts with changed settings."""

    added: tuple[HostSettings, ...]
    removed: tuple[str, ...]
    changed: tuple[HostSettings, ...]


def compare(now: Iterable[HostSettings], wanted: Iterable[HostSettings]) -> HostChanges:
    """Compare the hosts that are served with the wanted ones (contract.md, USR2)."""
    served = {host.id: host for host in now}
    wanted = tuple(wanted)
    ids = {host.id for host in wanted}
    return HostChanges(
        added=tuple(host for host in wanted if host.id not in served),
        removed=tuple(host_id for host_id in served if host_id not in ids),
        changed=tuple(
            host
            for host in wanted
            if host.id in served and _essence(host) != _essence(served[host.id])
        ),
    )


def _essence(host: HostSettings) -> HostSettings:
    """Return what connections depend on: those of two hosts with the same can be exchanged.

    Domain and role do not affect what is sent. The dns name is the name in a lond's certificate,
    whatever the address is.
    """
    name = host.dns_name if host.security.startswith("ssl") else ""
    address = host.address or host.dns_name
    return replace(host, address=address, dns_name=name, domain="", role="", resolve_interval=0.0)
