# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that LON-CAPA's own configuration gives to keys which the TOML file leaves out.

LON-CAPA reads loncapa_apache.conf and then loncapa.conf of one directory; a variable of the latter
overrides the former (protocol.md, section 1).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from . import loncapa_conf, tables
from .problems import IS_DIRECTORY, NOT_THERE, READABLE, Severity, show

if TYPE_CHECKING:
    from .loncapa_conf import PerlVar
    from .problems import Report, Sheet

Read: TypeAlias = Callable[[str], bytes | str]
"""Given an absolute path: the bytes of the file, or in words why it cannot be read."""

LONCAPA_CONF_MAX: Final = 1024 * 1024
"""Bytes; a real one has some thousand."""

FILLS: Final = (
    # variables of loncapa.conf, and the key that they fill
    ("{lonHostID}", "network.host_id"),
    ("{lonTabDir}/hosts.tab", "network.hosts_tab"),
    ("{lonSockDir}", "sockets.directory"),
    ("{lonSockCreate}", "sockets.common_parent"),
    ("{londPort}", "network.lond_port"),
    ("{lonDaemons}/logs/lonc.pid", "daemon.pid_file"),
    ("{lonDaemons}/logs/lonnet.perm.log", "delayed.perm_log"),
    ("{lonDocRoot}/lon-status/loncstatus.txt", "daemon.report_file"),
    ("{lonCertificateDirectory}", "network.key_directory"),
    ("{lonCertificateDirectory}/{lonnetCertificate}", "network.certificate"),
    ("{lonCertificateDirectory}/{lonnetPrivateKey}", "network.private_key"),
    ("{lonCertificateDirectory}/{lonnetCertificateAuthority}", "network.ca_certificate"),
)
_INSECURE: Final = "loncAllowInsecure"
_NAMES: Final = ("loncapa_apache.conf", "loncapa.conf")


def possible_paths(path: str) -> tuple[str, ...]:
    """Return the paths that `network.loncapa_conf` may cause to be read."""
    folder = posixpath.dirname(path)
    return (path, *(posixpath.join(where, name) for where in (folder, path) for name in _NAMES))


def fill(draft: tables.Draft, folder: str, read: Read, report: Report) -> None:
    """Give the keys that the TOML file leaves out the values of LON-CAPA's configuration.

    folder  absolute path that relative ones count from
    """
    path = draft.tables["network"].get("loncapa_conf", "")
    if path:
        _Filling(draft, folder, read, report).fill(posixpath.join(folder, path))


class _Filling:
    """The variables of both files, each with the sheet of its file."""

    def __init__(self, draft: tables.Draft, folder: str, read: Read, report: Report) -> None:
        self.draft = draft
        self.folder = folder
        self.read = read
        self.report = report
        self.found: dict[str, tuple[PerlVar, Sheet]] = {}
        self.reported: set[str] = set()

    def fill(self, path: str) -> None:
        paths = [posixpath.join(posixpath.dirname(path), _NAMES[0]), path]
        fault = self.read(path)
        if fault == IS_DIRECTORY:
            paths = [posixpath.join(path, name) for name in _NAMES]
            if any(self.read(each) != NOT_THERE for each in paths):
                fault = b""
            else:
                fault = f"{IS_DIRECTORY} without loncapa.conf"
        if isinstance(fault, str):
            self.report.fault("network.loncapa_conf", f"{show(path)} {fault}", READABLE)
            return
        for each in paths:
            self._take(each, self.read(each))
        for template, where in FILLS:
            names = re.findall(r"\{(\w+)\}", template)
            if self.found.keys() >= set(names):
                values = {name: self.found[name][0].value for name in names}
                self._give(where, template.format(**values), names)
        if _INSECURE in self.found:
            self._give("network.security", self._security(), [_INSECURE])

    def _take(self, path: str, content: bytes | str) -> None:
        """Take the variables of one file; they override those of the file before."""
        if content == NOT_THERE:
            return
        sheet = self.report.sheet(path)
        if isinstance(content, str):
            sheet.add("", content, READABLE)
        elif len(content) > LONCAPA_CONF_MAX:
            sheet.add("", f"is larger than {LONCAPA_CONF_MAX} bytes", "expected a loncapa.conf")
        else:
            for name, variable in loncapa_conf.parse(content).items():
                self.found[name] = variable, sheet

    def _security(self) -> str:
        """Return the security that the original has with this loncAllowInsecure."""
        certificate = self.draft.tables["network"].get("certificate", "")
        path = posixpath.join(self.folder, certificate)
        has_certificate = bool(certificate) and self.read(path) != NOT_THERE
        allowed = "ssl-or-insecure" if has_certificate else "insecure"
        return {"0": "ssl", "1": allowed}.get(self.found[_INSECURE][0].value, "")

    def _give(self, where: str, value: str, names: list[str]) -> None:
        """Give a key a value, unless it has one or the TOML file's is not valid."""
        table, key_name = where.split(".")
        values = self.draft.tables[table]
        if {where, table} & self.draft.bad:
            return
        if key_name in values:
            self._compare(values[key_name], value, where, names)
            return
        key = tables.keys_of(tables.known_tables()[table])[key_name]
        bad = [name for name in names if _is_bad(self.found[name][0].value)]
        if not bad:
            try:
                values[key_name] = tables.convert(value, key, strict=False)
            except msgspec.ValidationError:
                bad = names
        name = (bad or names)[-1]
        variable, sheet = self.found[name]
        place = f"line {variable.line} ({name})"
        self.report.came_from(where, sheet, place)
        if bad:
            self.draft.bad.add(where)
            if name not in self.reported:
                self.reported.add(name)
                quoted = variable.value[:1] in ("'", '"')
                words = "0 or 1" if name == _INSECURE else key.expected
                expected = f"expected {words}" + quoted * ", without quotes around it"
                sheet.add(place, f"found {show(variable.value)}", expected)

    def _compare(self, own: object, other: str, where: str, names: list[str]) -> None:
        """Warn of a key that overrides another value in loncapa.conf; "" is meant so."""
        if own != "" and other not in {str(own), posixpath.join(self.folder, str(own))}:
            expected = f"loncapa.conf gives {show(other)} ({', '.join(names)})"
            self.report.toml.add(where, f"found {show(own)}", expected, Severity.WARNING)


def _is_bad(value: str) -> bool:
    return value == "" or value != value.strip("\"'")
