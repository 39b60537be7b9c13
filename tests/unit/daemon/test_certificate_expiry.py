# SPDX-License-Identifier: GPL-2.0-or-later
"""The warning in time of a certificate that expires, at the start and by `check`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority
from unixhttp import http

from lonc_gevent.daemon.certificate_expiry import DAY, warn

if TYPE_CHECKING:
    from harness import Network


class Events:
    """Notes what is logged."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Note a warning."""
        self.seen.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        """Note an error."""
        self.seen.append(("error", event, fields))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (31, []),
        (29.5, [("warning", "certificate_expires", 29)]),
        (0.5, [("warning", "certificate_expires", 0)]),
        (-1, [("error", "certificate_expired", None)]),
    ],
)
def test_the_warning(left: float, expected: list[tuple[str, str, int | None]]) -> None:
    """From 30 days before the end on it is a warning, after it an error."""
    events = Events()
    warn(1.9e9, 1.9e9 - left * DAY, events)  # type: ignore[arg-type]

    assert [(level, name, f.get("days_left")) for level, name, f in events.seen] == expected
    assert all(f["expires"] == "2030-03-17" for _, _, f in events.seen)


def test_daemon_logs_a_certificate_that_expires_soon(net: Network) -> None:
    """A certificate with less than 30 days to go is an event at the start."""
    authority = Authority(net.directory)
    net.add("msul2", *authority.lond_options(authority.sign("lond")), security="ssl")
    net.tables["network"] = authority.settings(authority.sign("lonc", "msul1", days=12.5))
    net.start()

    assert net.wait_for("certificate_expires")["days_left"] == 12
    text = http(net, "/metrics").body.decode()
    (line,) = re.findall(r"^lonc_certificate_expiry_timestamp_seconds (.*)$", text, re.MULTILINE)
    assert 12 < (float(line) - time.time()) / DAY < 13


def test_check_reports_dates_and_modes(net: Network) -> None:
    """`check` calls an expired certificate an error, and warns of a key that others can read."""
    authority = Authority(net.directory)
    net.add("msul2", start=False, security="ssl")
    pair = authority.sign("lonc", "msul1", days=-1)
    pair.key.chmod(0o644)
    net.tables["network"] = authority.settings(pair)
    net.write()

    result = net.command("check")

    lines = result.stderr.decode().splitlines()
    assert result.returncode == 2
    errors = [line for line in lines if not line.startswith("warning: ")]
    assert len(errors) == 1
    assert "network.certificate: expired on" in errors[0]
    warnings = [line for line in lines if "network.private_key" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: ")
    assert "everybody can read it" in warnings[0]
