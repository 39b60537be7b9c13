# SPDX-License-Identifier: GPL-2.0-or-later
"""The status page: one self-contained file, and the policy that permits nothing else.

The styles and the script are inline, and the policy names them by their hashes. The page needs no
other file, and no injected script would run.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from lonc_gevent.admin.status import HostStatus, Status

PLACE: Final = b"<!-- hosts -->"
"""Where the page has the table for browsers without JavaScript."""

COLUMNS: Final = (
    "Host",
    "State",
    "Since",
    "Why",
    "Waiting",
    "Requests",
    "Lost",
    "Delayed",
    "Quarantined",
)


class Page(NamedTuple):
    """The page and its headers."""

    html: bytes
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls) -> Page:
        """Read the page from the package."""
        html = files(__name__).joinpath("index.html").read_bytes()
        policy = "; ".join(
            [
                "default-src 'none'",
                f"script-src {_hashes(html, b'script')}",
                f"style-src {_hashes(html, b'style')}",
                "img-src data:",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )
        return cls(html, (("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")))

    def render(self, status: Status) -> bytes:
        """Return the page, with the hosts as a plain table for browsers without JavaScript."""
        head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
        rows = "\n".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in _cells(host)) + "</tr>"
            for host in status.hosts
        )
        reasons = "".join(f"<li>{escape(r.text)}</li>" for r in status.verdict.reasons[1:])
        text = (
            f'<div class="wrap"><h1>{escape(status.verdict.headline)}</h1>'
            f"<ul>{reasons}</ul><p>lonc on {escape(status.host_id)}, {status.timestamp}</p>"
            f'<div class="plain"><table><thead><tr>{head}</tr></thead>\n{rows}</table></div></div>'
        )
        return self.html.replace(PLACE, text.encode("utf-8", "backslashreplace"), 1)


def _cells(host: HostStatus) -> tuple[object, ...]:
    """Return a host's cells in the order of COLUMNS."""
    return (
        host.host,
        host.state,
        host.since,
        host.cause or "",
        host.queue,
        host.requests,
        host.lost_lately,
        host.delayed_waiting,
        host.delayed_quarantined,
    )


def _hashes(html: bytes, tag: bytes) -> str:
    """Return the policy's sources for all elements of this kind."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in found)
