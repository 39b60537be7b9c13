# SPDX-License-Identifier: GPL-2.0-or-later
"""The status page: one self-contained file, and the policy that lets nothing else in.

The page has one style and one script, inline; the policy names them by their hashes. So the page
needs nothing from outside, and nothing that somebody smuggled into it would run.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple


class Page(NamedTuple):
    """The page and the headers that belong to it."""

    html: bytes
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls) -> Page:
        """Read it from the package."""
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


def _hashes(html: bytes, tag: bytes) -> str:
    """Return the policy's sources for all elements of this kind."""
    found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in found)
