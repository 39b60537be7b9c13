# SPDX-License-Identifier: GPL-2.0-or-later
"""loncapa.conf: the PerlSetVar lines of LON-CAPA's Apache configuration.

A line counts if it starts with `PerlSetVar` (blanks before it are let through). It is split at
blanks; the second field is the name, the third the value, quotes are not stripped, the rest means
nothing, and of several lines for one name the last one holds (protocol.md, section 1). All other
lines belong to Apache.
"""

from __future__ import annotations

import re

from msgspec import Struct

_PERL_SET_VAR = re.compile(rb"[ \t]*PerlSetVar[ \t]+(\S+)(?:[ \t]+(\S+))?")


class PerlVar(Struct, frozen=True):
    """The value of one variable, and the line it is on, counted from 1.

    value: "" if the line ends after the name. Bytes that are not UTF-8 are lone surrogates in
    it, which no setting of ours takes.
    """

    value: str
    line: int


def parse(data: bytes) -> dict[str, PerlVar]:
    """Read a loncapa.conf: name -> value. Never raises; lines that do not count are no fault."""
    found: dict[str, PerlVar] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        match = _PERL_SET_VAR.match(line)
        if match:
            name, value = (_text(field or b"") for field in match.groups())
            found[name] = PerlVar(value, number)
    return found


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
