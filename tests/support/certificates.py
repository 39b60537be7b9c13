# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates for tests: a network's CA, ours, lond's, and those that are no good."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
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


def signed_with(
    folder: Path, digest: str, *, bits: int = 2048, extensions: str = ""
) -> dict[str, str]:
    """Have openssl make a CA, and sign a certificate; return our own `[network]` keys.

    digest      that of the signatures, such as sha1
    bits        of the RSA key
    extensions  lines of openssl's configuration
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command here")
    (folder / "extensions").write_text(extensions)

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    make = ("-newkey", f"rsa:{bits}", "-nodes")
    run("req", "-x509", *make, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca",
        "-days", "300", f"-{digest}")  # fmt: skip
    run("req", *make, "-keyout", "us.key", "-out", "us.csr", "-subj", "/CN=us")
    run("x509", "-req", "-in", "us.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        f"-{digest}", "-days", "200", "-out", "us.pem", "-extfile", "extensions")  # fmt: skip
    return {"certificate": "us.pem", "private_key": "us.key", "ca_certificate": "ca.pem"}
