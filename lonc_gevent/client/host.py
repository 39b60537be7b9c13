# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to one host, except how they wait (core.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from .core import ClientCore
    from .lines import OnConLost, Retry
    from .sockets import Where


class CriticalOptions(TypedDict, total=False):
    """Keyword arguments of `Client.critical`."""

    timeout: float | None
    encrypt: bool
    on_con_lost: OnConLost
    check: bool
    sockets: Where


class Options(CriticalOptions, total=False):
    """Keyword arguments of `Client.reply`."""

    retry: Retry | None


class HostCore:
    """One host, for requests without naming it again: what `Client.host` returns."""

    def __init__(self, client: ClientCore, host: str) -> None:
        self.client = client
        self.host = host

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}>"

    async def _reply(self, request: bytes, **options: Unpack[Options]) -> bytes:
        """Send a request to this host and return its reply, as `Client.reply` does."""
        return await self.client._reply(request, self.host, **options)  # noqa: SLF001 - its core

    async def _critical(self, request: bytes, **options: Unpack[CriticalOptions]) -> bytes:
        """Send a request that must not be lost to this host, as `Client.critical` does."""
        return await self.client._critical(request, self.host, **options)  # noqa: SLF001 - its core
