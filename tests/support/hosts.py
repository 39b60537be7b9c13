# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of a host, for tests of modules that take them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lonc_gevent.configuration.settings import HostSettings, Pool

_HOST = HostSettings(
    id="msul2",
    domain="msu",
    role="library",
    dns_name="localhost",
    address="",
    port=5663,
    security="insecure",
    negotiation="auto",
    client_id="msul1",
    server_id="msul2",
    pool=Pool(),
)


def host_settings(host_id: str = "msul2", **changes: Any) -> HostSettings:
    """Return the settings of a host with defaults for what is not given."""
    return replace(_HOST, **{"id": host_id, "server_id": host_id, **changes})
