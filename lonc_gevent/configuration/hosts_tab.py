# SPDX-License-Identifier: GPL-2.0-or-later
"""hosts.tab: one host a line, `id:domain:role:dns-name[:more]` (protocol.md, section 1).

Lines that start with `#` are comments, those with `^` name the DNS servers of a cluster; both and
blank lines are skipped. Fields after the fourth are kept and not used: an IP address in old files,
a protocol and a domain in newer ones. A comment may be in any encoding, a host's line is UTF-8.

The network's managers write the file, not this machine's administrator: an invalid line affects
its own host only. A file without any valid line is fatal.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from . import names
from .problems import Severity, show

if TYPE_CHECKING:
    from .problems import Sheet

DNS_NAME = "dns_hosts.tab"
"""The list of hosts that loncron fetches; it overrides hosts.tab (protocol.md, section 1)."""

MAX_LINES = 200_000
"""Limit of the number of lines: a longer file is not a hosts.tab."""

_FIELDS = 4
_SPLITS = 64  # further colons are part of the last extra field
_SHAPE = "expected id:domain:role:dns-name[:more]"


class HostLine(Struct, frozen=True):
    """One host of hosts.tab; `line` counts from 1. `file` is its base name, "" for hosts.tab."""

    id: str
    domain: str
    role: str
    dns_name: str
    extra: tuple[str, ...]
    line: int
    file: str = ""

    @property
    def place(self) -> str:
        """The line, for a problem that is listed under hosts.tab."""
        return f"{self.file}{self.file and ': '}line {self.line}"


class HostsTab(Struct, frozen=True):
    """The hosts of a hosts.tab.

    hosts  the valid lines, in order
    ids    every id that has a line, valid or not
    """

    hosts: tuple[HostLine, ...]
    ids: frozenset[str]

    def overridden_by(self, other: HostsTab) -> HostsTab:
        """Return these hosts with the lines of `other` for their ids, and its further hosts."""
        hosts = {host.id: host for host in self.hosts}
        hosts |= {host.id: msgspec.structs.replace(host, file=DNS_NAME) for host in other.hosts}
        return HostsTab(tuple(hosts.values()), self.ids | other.ids)


def dns_path(path: str) -> str:
    """Return the path of the dns_hosts.tab that belongs to a hosts.tab."""
    return posixpath.join(posixpath.dirname(path), DNS_NAME)


def parse(data: bytes, sheet: Sheet, *, may_be_empty: bool = False) -> HostsTab:
    """Read a hosts.tab. Never raises.

    Bad lines go to `sheet`, and so do ids that come twice: the first line for an id holds.
    """
    if data.count(b"\n") > MAX_LINES:
        found = f"more than {MAX_LINES} lines"
        sheet.add("", found, "expected a hosts.tab", Severity.FATAL)
        return HostsTab((), frozenset())
    hosts: list[HostLine] = []
    lines_of_ids: dict[str, int] = {}
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = raw.strip()
        if not line or line.startswith((b"#", b"^")):
            continue
        fields, fault = _fields(line)
        first = lines_of_ids.setdefault(fields[0], number)
        if fault is None and first != number:
            found = f"id {show(fields[0])} is already on line {first}"
            fault = found, "expected each id once"
        if fault is None:
            name, domain, role, dns_name, *extra = fields
            hosts.append(HostLine(name, domain, role, dns_name, tuple(extra), number))
        else:
            sheet.add(f"line {number}", *fault)
    if not hosts and not may_be_empty:
        sheet.add("", "no host in it", f"{_SHAPE}, one a line", Severity.FATAL)
    return HostsTab(tuple(hosts), frozenset(lines_of_ids))


def _fields(line: bytes) -> tuple[list[str], tuple[str, str] | None]:
    """Split a line; return its fields, and its fault: what was found, what was expected."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} is not UTF-8: {show(line)}"
        return [line.decode("utf-8", "replace").partition(":")[0].strip()], (found, _SHAPE)
    fields = [field.strip() for field in text.split(":", _SPLITS)]
    return fields, _fault(text, fields)


def _fault(text: str, fields: list[str]) -> tuple[str, str] | None:
    """Return the fault of a line: what was found, what was expected."""
    if len(fields) < _FIELDS:
        return f"{len(fields)} of {_FIELDS} fields: {show(text)}", _SHAPE
    if not all(field.isprintable() for field in fields):
        return f"control characters: {show(text)}", _SHAPE
    if not names.is_host_id(fields[0]):
        return f"host id {show(fields[0])}", f"expected {names.HOST_ID_EXPECTED}"
    if not names.is_dns_name(fields[3]):
        return f"dns name {show(fields[3])}", f"expected {names.DNS_NAME_EXPECTED}"
    return None
