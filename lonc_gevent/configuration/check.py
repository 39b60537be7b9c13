# SPDX-License-Identifier: GPL-2.0-or-later
"""The check of lonc.toml, loncapa.conf and hosts.tab, which makes a `Configuration` or problems.

All problems are collected, so that an administrator can correct them in one go. A check that needs
a value which is itself invalid is skipped: it would report a second problem for the same fault.
Files are read through an argument, as one file names the next.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from . import cross_checks, hosts_tab, loncapa_values, tables
from .problems import NOT_THERE, READABLE, Problem, Report, Severity, dotted, is_fatal, show
from .settings import Configuration, HostOverrides, HostSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from .loncapa_values import Read

_BELOW_SOCKETS = (
    # table, key, and the name that it has below sockets.directory when it is left out
    ("delayed", "directory", "delayed"),
    ("admin", "socket", "lonc-admin"),
    ("network", "key_directory", ""),
)
_NEEDED = (("host_id", "lonHostID"), ("hosts_tab", "lonTabDir"))


class Checked(Struct, frozen=True):
    """The result: a configuration, or None and at least one fatal problem.

    settings: the valid ones, with defaults for the others; None if the file is not TOML
    bad: the invalid keys and tables
    origins: key -> where its value comes from; a key that is not in it has its default.
    """

    configuration: Configuration | None
    problems: tuple[Problem, ...]
    settings: Settings | None
    bad: AbstractSet[str]
    origins: Mapping[str, str] = {}

    def is_good(self, key: str) -> bool:
        """Return whether the value of a key such as `pool.max_queued` is valid."""
        return not {key, key.partition(".")[0]} & self.bad


def check(toml: bytes, *, file: str, folder: str, read: Read) -> Checked:
    """Check a whole configuration. Never raises, whatever the files hold.

    toml    the TOML file
    file    its name in problems
    folder  absolute path that relative ones count from
    read    gives the other files, see `Read`
    """
    report = Report(file)
    document = tables.parse(toml, report.toml)
    if document is None:
        return Checked(None, report.problems(), None, frozenset())
    draft = tables.read(document, report.toml)
    given = _given(draft)
    loncapa_values.fill(draft, folder, read, report)
    settings = _settings(draft, folder)
    _check_needed(settings, draft, report)
    own_path = posixpath.join(folder, posixpath.basename(file))
    cross_checks.check_settings(settings, draft.bad, own_path, report)
    configuration = _with_hosts(settings, draft, read, report)
    problems = report.problems()
    origins = dict.fromkeys(given, file) | report.origins()
    accepted = None if is_fatal(problems) else configuration
    return Checked(accepted, problems, settings, draft.bad, origins)


def _given(draft: tables.Draft) -> list[str]:
    """Return the keys that the TOML file has a good value for."""
    hosts = {dotted("hosts", host_id): values for host_id, values in draft.hosts.items()}
    return [f"{table}.{key}" for table, own in (draft.tables | hosts).items() for key in own]


def _with_hosts(
    settings: Settings, draft: tables.Draft, read: Read, report: Report
) -> Configuration | None:
    """Read hosts.tab and make the hosts of it; None if there is nothing to read."""
    path = settings.network.hosts_tab
    content = _content(path, "network.hosts_tab", read, report)
    if content is None:
        return None
    sheet = report.sheet(path, Severity.ERROR)
    tab = hosts_tab.parse(content, sheet)
    dns_path = hosts_tab.dns_path(path)
    if settings.network.dns_hosts_tab and (newer := read(dns_path)) != NOT_THERE:
        other = report.sheet(dns_path, Severity.ERROR)
        if isinstance(newer, bytes):
            tab = tab.overridden_by(hosts_tab.parse(newer, other, may_be_empty=True))
        else:
            other.add("", newer, READABLE)
    cross_checks.check_ids(settings, tab.ids, report)
    wanted = frozenset(settings.network.hosts)
    served = tuple(line for line in tab.hosts if not wanted or line.id in wanted)
    sockets = cross_checks.socket_names(settings.sockets.name, served)
    if not {"sockets", "sockets.name"} & draft.bad:
        impossible = cross_checks.check_sockets(served, sockets, settings, sheet)
        if "sockets.directory" not in draft.bad:
            impossible |= cross_checks.check_path_lengths(sockets, settings, report)
        sockets = {name: host_id for name, host_id in sockets.items() if name not in impossible}
    hosts = tuple(_host_settings(line, settings) for line in served)
    return Configuration(settings=settings, hosts=hosts, sockets=sockets, known=tab.ids)


def _content(path: str, key: str, read: Read, report: Report) -> bytes | None:
    """Read the file that `key` names, if any; report it if that fails."""
    content = read(path) if path else None
    if isinstance(content, str):
        report.fault(key, f"{show(path)} {content}", READABLE)
        return None
    return content


def _absolute(folder: str, path: str) -> str:
    return posixpath.join(folder, path) if path else ""


def _settings(draft: tables.Draft, folder: str) -> Settings:
    """Build the structs, with defaults for missing and invalid values, and absolute paths."""
    directory = draft.tables["sockets"].get("directory")
    if directory is not None:
        for table, key_name, name in _BELOW_SOCKETS:
            draft.tables[table].setdefault(key_name, posixpath.join(directory, name))
    built: dict[str, Any] = {}
    for table, struct in tables.known_tables().items():
        values = draft.tables[table]
        for key_name, key in tables.keys_of(struct).items():
            if key.is_path:
                values[key_name] = _absolute(folder, values.get(key_name, key.default))
        built[table] = struct(**values)
    overrides = {host_id: HostOverrides(**values) for host_id, values in draft.hosts.items()}
    return Settings(**built, hosts=overrides)


def _check_needed(settings: Settings, draft: tables.Draft, report: Report) -> None:
    """Check that keys without a default have a value, from here or loncapa.conf."""
    for key_name, variable in _NEEDED:
        where = dotted("network", key_name)
        if not getattr(settings.network, key_name) and not {where, "network"} & draft.bad:
            hint = f"expected here, or as {variable} in network.loncapa_conf"
            report.toml.add(where, "missing", hint)


def _host_settings(line: hosts_tab.HostLine, settings: Settings) -> HostSettings:
    """Return the settings of one host."""
    network = settings.network
    own = settings.hosts.get(line.id) or HostOverrides()
    return HostSettings(
        id=line.id,
        domain=line.domain,
        role=line.role,
        dns_name=line.dns_name,
        address=own.address or "",
        port=own.port or network.lond_port,
        security=own.security or network.security,
        negotiation=own.negotiation or network.negotiation,
        resolve_interval=network.resolve_interval,
        init_version=network.init_version if own.init_version is None else own.init_version,
        client_id=own.client_id or network.host_id,
        server_id=line.id,
        pool=cross_checks.pool_of(own, settings.pool),
    )
