# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration read from its files: the I/O half of configuration/check.py.

`load` is for every command. What only the daemon needs of the machine (directories that it can
write to, a group that exists, certificates that it can read) is asked for with `to_run=True`, so
that `send` and `status` work for people who may not do those things.
"""

from __future__ import annotations

import errno
import grp
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import ConfigError

from .certificates import check_dates, check_together
from .check import check
from .cross_checks import asks_for_ssl
from .permissions import secrets
from .problems import Problem, Severity, did_you_mean, is_fatal, nearest, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Configuration, Network, Settings

TOML_MAX = 1024 * 1024
OTHER_MAX = 64 * 1024 * 1024

_KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_REASONS = {
    errno.ENOENT: "does not exist",
    errno.EACCES: "may not be read by this user",
    errno.ELOOP: "is a loop of symbolic links",
    errno.ENOTDIR: "is below something that is no directory",
    errno.ENAMETOOLONG: "is too long a path",
}


class Examined(NamedTuple):
    """A configuration with its problems; None if one of them is fatal."""

    configuration: Configuration | None
    problems: tuple[Problem, ...]

    def accepted(self) -> Configuration:
        """Return the configuration. Raises ConfigError with every problem if there is none."""
        if self.configuration is None:
            raise ConfigError([str(problem) for problem in self.problems])
        return self.configuration


def load(path: Path, *, to_run: bool = False) -> Configuration:
    """Read the TOML file at `path` and the files that it names, as `examine` does.

    Raises ConfigError with every problem found, one line each, if one of them is fatal.
    """
    return examine(path, to_run=to_run).accepted()


def examine(path: Path, *, to_run: bool = False) -> Examined:
    """Read the TOML file at `path` and the files that it names; find all problems.

    to_run: examine the file system, too, for what `run` needs there
    """
    file = str(path)
    content = _read(file, TOML_MAX)
    if isinstance(content, str):
        problem = Problem(file, "", content, "expected a TOML file that can be read")
        return Examined(None, (problem,))
    # By its name alone: a link to the file does not move what it names.
    folder = str(path.absolute().parent)
    checked = check(content, file=file, folder=folder, read=_read)
    problems = checked.problems
    if to_run and checked.settings is not None:
        around = _surroundings(file, checked.settings)
        problems += tuple(problem for problem in around if checked.is_good(problem.where))
    return Examined(None if is_fatal(problems) else checked.configuration, problems)


def _read(path: str, limit: int = OTHER_MAX) -> bytes | str:
    """Read a file of at most `limit` bytes; or say in words why not.

    Never waits: only a regular file is opened (opening a FIFO would hang, and a device may start
    to do something).
    """
    try:
        kind = _kind(Path(path).stat().st_mode)
        if kind:
            return kind
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            # It may have become something else in between.
            kind = _kind(os.fstat(descriptor).st_mode)
            content = b"" if kind else stream.read(limit + 1)
    except OSError as error:
        return _reason(error)
    if len(content) > limit:
        return f"is larger than {limit // (1024 * 1024)} MB"
    return kind or content


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, f"cannot be read ({error.strerror})")


def _kind(mode: int) -> str:
    """Say what a path leads to, if it is no regular file."""
    if stat.S_ISREG(mode):
        return ""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "is no regular file")


def _surroundings(file: str, settings: Settings) -> Iterator[Problem]:
    """Find what `run` would trip over in the file system."""
    for key, directory in (
        ("sockets.directory", settings.sockets.directory),
        ("delayed.directory", settings.delayed.directory),
        ("admin.socket", _parent(settings.admin.socket)),
        ("delayed.perm_log", _parent(settings.delayed.perm_log)),
        ("daemon.pid_file", _parent(settings.daemon.pid_file)),
        ("daemon.report_file", _parent(settings.daemon.report_file)),
    ):
        found = _directory_fault(Path(directory)) if directory else ""
        if found:
            yield Problem(file, key, found, "expected a directory to write to")
    if settings.sockets.group:
        yield from _group_fault(file, settings.sockets.group)
    secure = asks_for_ssl(settings) is not None
    network = settings.network
    for key, path in (("delayed.key_file", settings.delayed.key_file),):
        content = _read(path) if path else b""
        if isinstance(content, str):
            yield Problem(file, key, f"{show(path)} {content}", "expected a file that can be read")
    if secure:
        yield from _certificate_faults(file, network)


def _certificate_faults(file: str, network: Network) -> Iterator[Problem]:
    """See that the three files of ssl can be read and belong together."""
    good = []
    for key, path in _tls_files(network):
        content = _read(path) if path else "is missing"
        if isinstance(content, bytes):
            good.append(content)
        elif path:
            yield Problem(file, key, f"{show(path)} {content}", "expected a file that can be read")
    if len(good) == len(_tls_files(network)):
        for fault in check_together(*good):
            yield Problem(file, fault.key, fault.found, fault.expected)


def doubts(file: str, configuration: Configuration, now: float) -> Iterator[Problem]:
    """Find what `run` would start with, though it should not stay so: dates, modes of secrets."""
    network = configuration.settings.network
    if any(host.security.startswith("ssl") for host in configuration.hosts):
        certificate, ca = _read(network.certificate), _read(network.ca_certificate)
        if isinstance(certificate, bytes) and isinstance(ca, bytes):
            for fault in check_dates(certificate, ca, now):
                yield Problem(file, *fault, Severity.WARNING)
    for opening in secrets(configuration):
        found = f"{show(opening.path)}: {opening.who}"
        yield Problem(file, opening.key, found, "expected mode 0600", Severity.WARNING)


def _tls_files(network: Network) -> tuple[tuple[str, str], ...]:
    return (
        ("network.certificate", network.certificate),
        ("network.private_key", network.private_key),
        ("network.ca_certificate", network.ca_certificate),
    )


def _parent(path: str) -> str:
    return str(Path(path).parent) if path else ""


def _directory_fault(directory: Path) -> str:
    """Say why nothing can be made in a directory, which itself may still have to be made."""
    for there in (directory, *directory.parents):
        try:
            kind = there.stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{show(str(there))} {_reason(error)}"
        if not stat.S_ISDIR(kind):
            return f"{show(str(there))} is no directory"
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return f"{show(str(there))} may not be written to by this user"
        break
    return ""


def _group_fault(file: str, group: str) -> Iterator[Problem]:
    """See that the sockets can be given to the group."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        hint = did_you_mean(nearest(group, [entry.gr_name for entry in grp.getgrall()], 0.6))
        yield Problem(file, "sockets.group", f"no group {show(group)}", hint)
        return
    if os.geteuid() != 0 and gid != os.getegid() and gid not in os.getgroups():
        found = f"this user is not in group {show(group)}"
        yield Problem(file, "sockets.group", found, "expected a group of the daemon's user")
