# SPDX-License-Identifier: GPL-2.0-or-later
"""The checks before a start: the same for `check`, the rehearsal of a restart and `run`."""

from __future__ import annotations

import os
import ssl
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from lonc_gevent.backend.tls import client_context
from lonc_gevent.configuration.files import Examined, Files
from lonc_gevent.configuration.files import examine as examine_files
from lonc_gevent.configuration.machine import check_advice
from lonc_gevent.configuration.problems import Problem, Severity, is_fatal, show
from lonc_gevent.delayed.key_file import read_key
from lonc_gevent.errors import ConfigError

from .handover import in_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.settings import Configuration, Network

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""

_OUR_CA: Final = "expected a signature of the CA in network.ca_certificate"

_FLIGHTS: Final = 4
"""Rounds of a handshake in memory; it takes three."""


def examine(config: Path, files: Files | None = None, *, to_start: bool = True) -> Examined:
    """Read the configuration; find everything that prevents a start or should be corrected.

    files     reads the files, and keeps their contents
    to_start  whether the machine is examined, too; not after a restart in place, when only the
              configuration is a reason to end

    Blocks: in a process with an event loop, call it in a thread.
    """
    files = files or Files()
    file = str(config)
    examined = examine_files(config, files, to_run=to_start)
    configuration, problems = examined.configuration, examined.problems
    if configuration is not None and to_start:
        problems += (
            *_key_file_faults(file, configuration),
            *_tls_faults(file, configuration, files),
        )
    if configuration is not None:
        # A value that must change anyway needs no advice.
        fatal = {problem.where for problem in problems if problem.severity is Severity.FATAL}
        advice = check_advice(configuration, config, files.read, time())
        problems += tuple(Problem(file, *fault) for fault in advice if fault.key not in fatal)
    accepted = None if is_fatal(problems) else configuration
    return examined._replace(configuration=accepted, problems=problems)


def _key_file_faults(file: str, configuration: Configuration) -> Iterator[Problem]:
    """Check that the key of delayed requests can be read and trusted."""
    path = configuration.settings.delayed.key_file
    if path:
        try:
            read_key(Path(path))
        except ValueError as error:
            yield Problem(file, "delayed.key_file", f"{show(path)}: {error}", "")


def _tls_faults(file: str, configuration: Configuration, files: Files) -> Iterator[Problem]:
    """Have OpenSSL load the files of ssl, and judge our certificate as a lond's OpenSSL would."""
    if not any(host.security.startswith("ssl") for host in configuration.hosts):
        return
    with accepted_files(configuration, files.contents) as copied:
        network = copied.settings.network
        try:
            context = client_context(network)
            refusal = _refusal(context, network)
        except ConfigError as error:
            where, _, found = str(error).partition(": ")
            yield Problem(file, where, found, _expected(found))
            return
    if refusal:
        found, expected = f"a lond refuses it ({refusal})", _expected(refusal)
        severity = Severity.FATAL if expected == _OUR_CA else Severity.ERROR
        yield Problem(file, "network.certificate", found, expected, severity)


def _expected(reason: str) -> str:
    """Return what to do about a complaint of OpenSSL."""
    hints = {
        "too weak": "expected a signature with SHA-256",
        "key too small": "expected an RSA key of 2,048 bits or more",
        "local issuer": _OUR_CA,
        "self-signed": _OUR_CA,
        "self signed": _OUR_CA,
        "purpose": "expected no extendedKeyUsage, or clientAuth in it",
    }
    return next((hint for words, hint in hints.items() if words in reason), "")


def _refusal(context: ssl.SSLContext, network: Network) -> str:
    """Return why a lond with the network's CA and our level of security would refuse us, or "".

    The dates are not judged. `context` is our end, and of no other use after this.
    """
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    lond = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lond.minimum_version = context.minimum_version
    if network.tls_minimum == "1.0":
        lond.set_ciphers("DEFAULT:@SECLEVEL=0")
    lond.load_cert_chain(network.certificate, network.private_key, password=str)
    lond.load_verify_locations(network.ca_certificate)
    lond.verify_mode = ssl.CERT_REQUIRED
    lond.verify_flags |= _NO_CHECK_TIME
    to_lond, to_us = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (context.wrap_bio(to_us, to_lond), lond.wrap_bio(to_lond, to_us, server_side=True))
    for _ in range(_FLIGHTS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return (error.reason or "TLS failed").lower().replace("_", " ")
    return ""


@contextmanager
def accepted_files(
    configuration: Configuration, files: Mapping[str, bytes]
) -> Iterator[Configuration]:
    """Give the configuration with the paths of copies in memory for the files of ssl.

    files: path -> content, as they were accepted; those that are not in it stay on disk
    """
    network = configuration.settings.network
    paths = {}
    with ExitStack() as stack:
        for key in ("certificate", "private_key", "ca_certificate", "crl"):
            content = files.get(getattr(network, key))
            if content is not None:
                fd = in_memory(content)
                stack.callback(os.close, fd)
                paths[key] = f"/proc/self/fd/{fd}"
        settings = replace(configuration.settings, network=replace(network, **paths))
        yield replace(configuration, settings=settings)


def log_problems(logger: FilteringBoundLogger, problems: Iterable[Problem]) -> None:
    """Log what the daemon starts with although it should be corrected, one event each."""
    for problem in problems:
        if problem.severity is Severity.WARNING:
            logger.warning("configuration_warning", error=str(problem))
        else:
            logger.error("configuration_error", error=str(problem))
