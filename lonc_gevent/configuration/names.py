# SPDX-License-Identifier: GPL-2.0-or-later
"""Syntax of host ids, DNS names and addresses; nothing is resolved.

A host id becomes a file name below `sockets.directory` and part of request lines and of the
session key, so it has no blank, no `/` and no `:`. Beyond letters and digits, ids with `-`, `_`
and `.` are known (protocol.md, section 4). Other printable ASCII is harmless and accepted, except
quotes, which are the sign of a quoted value in loncapa.conf.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

HOST_ID = r"(?!\.{1,2}\Z)[!#-&(-.0-9;-~]{1,100}\Z"
HOST_ID_EXPECTED = "printable characters without blanks, quotes, / and :, at most 100"

DNS_NAME_EXPECTED = "letters, digits, - and _ in parts of at most 63, joined by dots"
DNS_NAME_MAX = 253

_HOST_ID = re.compile(HOST_ID)
_DNS_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")
_ADDRESS_AND_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([0-9]{1,5})\Z")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\Z")
_PORT_MAX = 65535


def is_host_id(text: str) -> bool:
    """Return whether `text` can be a host id."""
    return _HOST_ID.match(text) is not None


def is_dns_name(text: str) -> bool:
    """Return whether a resolver accepts `text`. A label of 64 characters would make it raise.

    A name that ends in a number must be a valid IPv4 address.
    """
    if len(text) > DNS_NAME_MAX or not _DNS_NAME.match(text):
        return False
    return not text.rpartition(".")[2].isdigit() or _is(IPv4Address, text)


def is_address(text: str) -> bool:
    """Return whether `text` is a DNS name, an IPv4 address or an IPv6 address without brackets."""
    if ":" not in text:
        return is_dns_name(text)
    return _IPV6.match(text) is not None and _is(IPv6Address, text)


def split_address(text: str) -> tuple[str, int] | None:
    """Split `127.0.0.1:9663`, `localhost:9663` or `[::1]:9663`; return None for any other text."""
    match = _ADDRESS_AND_PORT.match(text)
    if match is None:
        return None
    six, other, digits = match.groups()
    host = six if six is not None else other
    if not is_address(host) or (six is None) == (":" in host) or int(digits) > _PORT_MAX:
        return None
    return host, int(digits)


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or `localhost`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_elsewhere(host: str) -> bool:
    """Return whether `host` is an IP address other than loopback; False for any name."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False


def _is(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
