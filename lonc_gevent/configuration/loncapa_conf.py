# SPDX-License-Identifier: GPL-2.0-or-later
"""loncapa.conf: the PerlSetVar lines of LON-CAPA's Apache configuration.

A line is used if it starts with `PerlSetVar`, after blanks or not. It is split at blanks; the
second field is the name, the third the value. Quotes are not removed, further fields are ignored,
and the last of several lines for a name is used (protocol.md, section 1). All other lines are for
Apache.
"""

from __future__ import annotations

import re

from msgspec import Struct

_PERL_SET_VAR = re.compile(rb"[ \t]*PerlSetVar[ \t]+(\S+)(?:[ \t]+(\S+))?")


class PerlVar(Struct, frozen=True):
    """The value of one variable, and the line it is on, counted from 1.

    value: "" if the line ends after the name. Bytes that are not UTF-8 become lone surrogates,
    which no setting accepts.
    """

    value: str
    line: int


def parse(data: bytes) -> dict[str, PerlVar]:
    """Parse a loncapa.conf: name -> value. Never raises; other lines are ignored."""
    found: dict[str, PerlVar] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        match = _PERL_SET_VAR.match(line)
        if match:
            name, value = (_text(field or b"") for field in match.groups())
            found[name] = PerlVar(value, number)
    return found


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
