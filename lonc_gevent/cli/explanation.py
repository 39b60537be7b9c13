# SPDX-License-Identifier: GPL-2.0-or-later
"""Each key of a configuration, its value, and the file and line that gave it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import msgspec

from lonc_gevent.configuration.hosts_tab import dns_path
from lonc_gevent.configuration.problems import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.files import Examined, Files

_TABLE: Final = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY: Final = re.compile(r"\s*([\w-]+)\s*=")


def explanation(file: str, examined: Examined, files: Files) -> Iterator[str]:
    """Yield a line for each key: `key = value`, as in TOML, and a comment with the origin."""
    settings = examined.settings
    if settings is None:
        return
    lines = _lines_of_keys(files.contents[file].decode("utf-8", "replace"))
    tables = msgspec.to_builtins(settings)
    tables |= {dotted("hosts", host): own for host, own in tables.pop("hosts").items()}
    for table, values in tables.items():
        for key, value in values.items():
            where = f"{table}.{key}"
            origin = examined.origins.get(where, "default")
            if origin == file and where in lines:
                origin += f": line {lines[where]}"
            if value is not None:
                yield f"{where} = {json.dumps(value, ensure_ascii=False)}  # {origin}"
    path = dns_path(settings.network.hosts_tab)
    if path in files.contents:
        yield f"# entries of {path} override those of {settings.network.hosts_tab}"


def _lines_of_keys(text: str) -> dict[str, int]:
    """Return the number of the line that begins the value of each key, written a key a line."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := _TABLE.match(line):
            table = head[1].strip()
        elif key := _KEY.match(line):
            lines.setdefault(f"{table}.{key[1]}", number)
    return lines
