# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks that concern several keys at once, or the keys and hosts.tab together.

The value of each key is checked by its type (settings.py). `bad` has the keys with an invalid
value; the default in its place is not checked.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

import msgspec

from .names import is_address, is_elsewhere, is_loopback, split_address
from .problems import Severity, did_you_mean, dotted, nearest, show
from .settings import LOCK_NAME, HostOverrides, Pool, Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from .hosts_tab import HostLine
    from .problems import Report, Sheet

UNIX_PATH_MAX = 107
"""Bytes of the path of a Unix socket that Linux takes (sun_path is 108 with its NUL)."""

TLS_FILES = ("certificate", "private_key", "ca_certificate")
"""Keys of `[network]` that ssl needs."""

_ALWAYS_TAKEN = ("delayed", "lonc-admin", LOCK_NAME)
_SHOWN_LONG_PATHS = 5
_POOL_KEYS = frozenset(Pool.__struct_fields__)

_ORDERS = (
    # the first must not be greater than the second
    ("retry_backoff_min", "retry_backoff_max"),
    ("max_request_bytes", "max_queued_bytes"),
)
_READ = (
    "network.hosts_tab",
    "network.loncapa_conf",
    "network.certificate",
    "network.private_key",
    "network.ca_certificate",
    "network.crl",
    "delayed.key_file",
)
_WRITTEN = (
    "sockets.directory",
    "sockets.common_parent",
    "delayed.directory",
    "admin.socket",
    "delayed.perm_log",
    "daemon.pid_file",
    "daemon.report_file",
)


def pool_of(own: HostOverrides, pool: Pool) -> Pool:
    """Return `[pool]` with a host's own values."""
    changes = {
        name: value
        for name in HostOverrides.__struct_fields__
        if name in _POOL_KEYS and (value := getattr(own, name)) is not None
    }
    return msgspec.structs.replace(pool, **changes) if changes else pool


def socket_names(style: str, hosts: Iterable[HostLine]) -> dict[str, str]:
    """Name the sockets: file name -> id of the host that it belongs to.

    A dns name that several ids share belongs to the first of them; an id goes before a dns name
    (contract.md, `sockets.name`; protocol.md, section 1: one hostname may carry several ids).
    """
    hosts = tuple(hosts)
    names = {} if style == "dns" else {host.id: host.id for host in hosts}
    if style != "id":
        for host in hosts:
            names.setdefault(host.dns_name, host.id)
    return names


def asks_for_ssl(settings: Settings) -> tuple[str, str] | None:
    """Return the first key that requires ssl, and its value; None if there is none."""
    asking = [("network.security", settings.network.security)]
    asking += [
        (dotted("hosts", host_id, "security"), own.security)
        for host_id, own in settings.hosts.items()
        if own.security is not None
    ]
    return next((ask for ask in asking if ask[1].startswith("ssl")), None)


def check_settings(settings: Settings, bad: AbstractSet[str], file: str, report: Report) -> None:
    """Check the values of all tables together; `file` is the path of the TOML file."""
    _check_pools(settings, bad, report)
    _check_certificates(settings, bad, report)
    _check_paths(settings, bad, file, report)
    listen = settings.admin.listen
    address = split_address(listen)
    if listen and (address is None or not is_loopback(address[0])):
        expected = 'expected a loopback address and port, such as "127.0.0.1:9663"'
        report.fault("admin.listen", f"found {show(listen)}", expected)
    for host_id, own in settings.hosts.items():
        own_security = own.security or settings.network.security
        if own.address and not is_address(own.address):
            expected = "expected an IP address or a name, without a port"
            where = dotted("hosts", host_id, "address")
            report.fault(where, f"found {show(own.address)}", expected)
        elif own.address and is_elsewhere(own.address) and own_security == "local":
            expected = "expected this machine's, 127.0.0.1, as its security is local"
            where = dotted("hosts", host_id, "address")
            report.fault(where, f"found {show(own.address)}", expected)


def check_ids(settings: Settings, known: AbstractSet[str], report: Report) -> None:
    """Check that the ids in the TOML file are in hosts.tab, and that each is listed once.

    An unknown id is not fatal: the network's managers may have removed the host.
    """
    ids = sorted(known)
    for host_id in settings.hosts:
        if host_id not in known:
            _unknown_id(dotted("hosts", host_id), host_id, ids, report)
    seen: set[str] = set()
    for number, host_id in enumerate(settings.network.hosts):
        where = f"network.hosts[{number}]"
        if host_id not in known:
            _unknown_id(where, host_id, ids, report)
        elif host_id in seen:
            report.fault(where, f"found {show(host_id)} again", "expected each id once")
        seen.add(host_id)


def check_sockets(
    hosts: Sequence[HostLine],
    names: dict[str, str],
    settings: Settings,
    sheet: Sheet,
) -> frozenset[str]:
    """Check the names of the sockets; return those that no socket can have.

    hosts  those that are served
    names  the result of `socket_names` for them
    sheet  the problems of hosts.tab
    """
    by_id = {host.id: host for host in hosts}
    taken = _taken_names(settings)
    for name, host_id in names.items():
        if name in taken:
            found = f"{show(name)} would name a socket of host {show(host_id)}"
            expected = f"expected another name: in sockets.directory this one is for {taken[name]}"
            sheet.add(by_id[host_id].place, found, expected)
    for host in hosts if settings.sockets.name == "both" else ():
        other = by_id.get(host.dns_name)
        if other and other.dns_name != host.dns_name:
            found = f"dns name {show(host.dns_name)} is the id of {other.place}"
            expected = 'expected another, or sockets.name "id" or "dns"'
            sheet.add(host.place, found, expected)
    return frozenset(taken) & names.keys()


def check_path_lengths(
    names: Collection[str], settings: Settings, report: Report
) -> frozenset[str]:
    """Check that the paths of the sockets are short enough; report the longest ones.

    Returns the names of the sockets that cannot be created. Fatal if none can be.
    """
    directory = settings.sockets.directory
    sockets = ((posixpath.join(directory, name), name) for name in names)
    long = sorted(
        ((_length(path), path, name) for path, name in sockets if _length(path) > UNIX_PATH_MAX),
        reverse=True,
    )
    expected = f"expected at most {UNIX_PATH_MAX} bytes for the path of a Unix socket"
    severity = Severity.FATAL if len(long) == len(names) else Severity.ERROR
    for length, path, name in long[:_SHOWN_LONG_PATHS]:
        found = f"{show(path)} has {length} bytes, for socket {show(name)}"
        report.fault("sockets.directory", found, expected, severity)
    if len(long) > _SHOWN_LONG_PATHS:
        found = f"the same for {len(long) - _SHOWN_LONG_PATHS} more sockets"
        report.fault("sockets.directory", found, severity=severity)
    for key in ("admin.socket", "sockets.common_parent"):
        path = _value(settings, key)
        if _length(path) > UNIX_PATH_MAX:
            report.fault(key, f"{show(path)} has {_length(path)} bytes", expected)
    return frozenset(name for _length, _path, name in long)


def _unknown_id(where: str, host_id: str, ids: Sequence[str], report: Report) -> None:
    if report.toml.full:
        report.fault(where, "", severity=Severity.ERROR)
    else:
        near = nearest(host_id, ids, 0.5) or nearest(host_id, ids)
        hint = did_you_mean(near and show(near))
        report.fault(where, f"no host {show(host_id)} in hosts.tab", hint, Severity.ERROR)


def _check_pools(settings: Settings, bad: AbstractSet[str], report: Report) -> None:
    """Check `[pool]`, and each host that has values of its own."""
    default = Pool()
    given = {name for name in _POOL_KEYS if getattr(settings.pool, name) != getattr(default, name)}
    _check_orders(settings.pool, ("pool",), given, bad, report)
    for host_id, own in settings.hosts.items():
        given = {name for name in own.__struct_fields__ if getattr(own, name) is not None}
        _check_orders(pool_of(own, settings.pool), ("hosts", host_id), given, bad, report)


def _check_orders(
    pool: Pool,
    table: tuple[str, ...],
    given: AbstractSet[str],
    bad: AbstractSet[str],
    report: Report,
) -> None:
    """Check the order of two values; report the one that is `given`."""
    for lesser, greater in _ORDERS:
        low, high = getattr(pool, lesser), getattr(pool, greater)
        pair = {lesser, greater}
        involved = {"pool", *(dotted(*path, name) for path in (("pool",), table) for name in pair)}
        if low <= high or not pair & given or involved & bad:
            continue
        if lesser in given:
            expected = f"expected at most {greater}, which is {high}"
            report.fault(dotted(*table, lesser), f"found {low}", expected)
        else:
            expected = f"expected at least {lesser}, which is {low}"
            report.fault(dotted(*table, greater), f"found {high}", expected)


def _check_certificates(settings: Settings, bad: AbstractSet[str], report: Report) -> None:
    """Check that the files for ssl are given if any host requires it."""
    first = asks_for_ssl(settings)
    if first is None:
        return
    for name in TLS_FILES:
        key = dotted("network", name)
        if not getattr(settings.network, name) and not {"network", key} & bad:
            report.fault(key, "missing", f"expected a file, since {first[0]} is {show(first[1])}")


def _check_paths(settings: Settings, bad: AbstractSet[str], file: str, report: Report) -> None:
    """Check that no path that the daemon writes to has another use."""
    taken = {posixpath.normpath(file): "this file"}
    for key in (*_READ, *_WRITTEN):
        path = _value(settings, key)
        if not path or key in bad:
            continue
        other = taken.setdefault(posixpath.normpath(path), key)
        if other != key and key in _WRITTEN:
            report.fault(key, f"found {show(path)}", f"expected another path than {other}")
    parent = settings.sockets.common_parent
    if parent and not common_parent_name(settings):
        expected = "is not made: expected a path in sockets.directory"
        report.fault("sockets.common_parent", f"{show(parent)}", expected, Severity.WARNING)


def common_parent_name(settings: Settings) -> str:
    """Return the name of sockets.common_parent in sockets.directory, "" if it is not made."""
    directory, name = posixpath.split(posixpath.normpath(settings.sockets.common_parent))
    return name if directory == posixpath.normpath(settings.sockets.directory) else ""


def _taken_names(settings: Settings) -> dict[str, str]:
    """Return the names in sockets.directory that are not for hosts -> their use."""
    taken = dict.fromkeys(_ALWAYS_TAKEN, "the daemon itself")
    directory = posixpath.normpath(settings.sockets.directory).rstrip("/") + "/"
    for key in (*_READ, *_WRITTEN):
        path = posixpath.normpath(_value(settings, key))
        if path.startswith(directory):
            taken[path.removeprefix(directory).partition("/")[0]] = key
    return taken


def _length(path: str) -> int:
    return len(path.encode("utf-8", "surrogateescape"))


def _value(settings: Settings, key: str) -> str:
    table, name = key.split(".")
    value: str = getattr(getattr(settings, table), name)
    return value
