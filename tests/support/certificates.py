# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates for tests: a network's CA, ours, lond's, and those that are no good."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """The paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA that writes what it signs into a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        self._ca = trustme.CA(organization_name=name)
        self.certificate = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.certificate)

    def sign(self, name: str, host: str = "localhost", *, days: float = 365) -> Pair:
        """Make a certificate for `host` that expires `days` from now (before now: it has)."""
        now = dt.datetime.now(dt.UTC)
        signed = self._ca.issue_cert(
            host,
            not_before=now - dt.timedelta(days=400),
            not_after=now + dt.timedelta(days=days),
        )
        pair = Pair(
            self._directory / f"{self._name}-{name}.pem",
            self._directory / f"{self._name}-{name}.key",
        )
        signed.cert_chain_pems[0].write_to_path(pair.certificate)
        pair.key.touch(0o600)
        signed.private_key_pem.write_to_path(pair.key)
        return pair

    def lond_options(self, pair: Pair) -> tuple[str, ...]:
        """Give the fake lond's options for that pair, trusting this CA."""
        return (
            "--certificate",
            str(pair.certificate),
            "--private-key",
            str(pair.key),
            "--ca-certificate",
            str(self.certificate),
        )

    def settings(self, pair: Pair) -> dict[str, str]:
        """Give our own `[network]` keys for that pair, trusting this CA."""
        return {
            "certificate": str(pair.certificate),
            "private_key": str(pair.key),
            "ca_certificate": str(self.certificate),
        }
