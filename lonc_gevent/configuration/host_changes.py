# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences between the hosts that a daemon serves and a new list: added, removed, changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

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
            host for host in wanted if host.id in served and not same(host, served[host.id])
        ),
    )


def same(one: HostSettings, other: HostSettings) -> bool:
    """Return whether connections to one can be used for the other.

    Domain and role do not affect what is sent. The dns name is the name in a lond's certificate,
    whatever the address is.
    """
    return _essence(one) == _essence(other)


def _essence(host: HostSettings) -> tuple[object, ...]:
    where = host.address or host.dns_name
    name = host.dns_name if host.security.startswith("ssl") else ""
    return (
        where,
        name,
        host.port,
        host.security,
        host.negotiation,
        host.init_version,
        host.client_id,
        host.server_id,
        host.pool,
    )
