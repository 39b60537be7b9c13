# SPDX-License-Identifier: GPL-2.0-or-later
"""What the doctor observes of a connection: lines of the handshake, and TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from lonc_gevent.eventloop import Stream

from .diagnosis import Trial, masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub


class ReportedStream(Stream):
    """Stream that reports the lines of the handshake."""

    __slots__ = ("paused", "report")

    def __init__(self, hub: Hub, report: Callable[[str], None]) -> None:
        super().__init__(hub)
        self.report = report
        self.paused = False

    def write(self, data: bytes | bytearray, timeout: float | None = None) -> None:
        """Write, and report the lines."""
        self._show(">", bytes(data))
        super().write(data, timeout)

    def read(self) -> bytes:
        """Read, and report the lines."""
        data = super().read()
        self._show("<", data)
        return data

    def _show(self, mark: str, data: bytes) -> None:
        if self.paused:
            return
        if data[:1] in (b"\x14", b"\x15", b"\x16", b"\x17"):
            text = f"<{len(data)} bytes of TLS>"
        elif not data:
            text = "<end of stream>"
        else:
            ours = mark == ">"
            text = " | ".join(masked(line, ours=ours) for line in data.splitlines(keepends=True))
        self.report(f"             {mark} {text}")


def watch(context: ssl.SSLContext, trial: Trial) -> None:
    """Note the version of TLS and lond's certificate in the trial."""

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            trial.tls_version = self.version() or ""
            trial.certificate = self.getpeercert(binary_form=True) or b""

    context.sslobject_class = Watched
    if not trial.way.check_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
