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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import ConfigError

from .certificates import check_dates, check_together
from .check import check
from .cross_checks import asks_for_ssl
from .permissions import openings
from .problems import (
    IS_DIRECTORY,
    NOT_THERE,
    Problem,
    Severity,
    did_you_mean,
    is_fatal,
    nearest,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .settings import Configuration, Network, Settings

TOML_MAX = 1024 * 1024
OTHER_MAX = 64 * 1024 * 1024

_KINDS = (
    (stat.S_ISDIR, IS_DIRECTORY),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)
_REASONS = {
    errno.ENOENT: NOT_THERE,
    errno.EACCES: "may not be read by this user",
    errno.ELOOP: "is a loop of symbolic links",
    errno.ENOTDIR: "is below something that is no directory",
    errno.ENAMETOOLONG: "is too long a path",
}


class Examined(NamedTuple):
    """A configuration with its problems; None if one of them is fatal.

    settings: those that are good, with defaults for the others; None if the file is no TOML
    origins: key -> where its value comes from; a key that is not in it has its default
    """

    configuration: Configuration | None
    problems: tuple[Problem, ...]
    settings: Settings | None = None
    origins: Mapping[str, str] = {}

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


class Files:
    """Reads files, each of them once.

    contents: path -> content; those in it are not read again
    """

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.contents = contents or {}

    def read(self, path: str, limit: int = OTHER_MAX) -> bytes | str:
        """Return the content of a file of at most `limit` bytes; or in words why not."""
        if path not in self.contents:
            found = _read(path, limit)
            if isinstance(found, str):
                return found
            self.contents[path] = found
        return self.contents[path]


def examine(path: Path, files: Files | None = None, *, to_run: bool = False) -> Examined:
    """Read the TOML file at `path` and the files that it names; find all problems.

    files   reads them, and keeps what it read
    to_run  examine the file system, too, for what `run` needs there
    """
    file = str(path)
    files = files or Files()
    content = files.read(file, TOML_MAX)
    if isinstance(content, str):
        problem = Problem(file, "", content, "expected a TOML file that can be read")
        return Examined(None, (problem,))
    # By its name alone: a link to the file does not move what it names.
    folder = str(path.absolute().parent)
    checked = check(content, file=file, folder=folder, read=files.read)
    problems = checked.problems
    if to_run and checked.settings is not None:
        around = _surroundings(file, checked.settings, files)
        problems += tuple(problem for problem in around if checked.is_good(problem.where))
    configuration = None if is_fatal(problems) else checked.configuration
    return Examined(configuration, problems, checked.settings, checked.origins)


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


def _surroundings(file: str, settings: Settings, files: Files) -> Iterator[Problem]:
    """Find what `run` would trip over in the file system."""
    for key, directory in (
        ("sockets.directory", settings.sockets.directory),
        ("delayed.directory", settings.delayed.directory),
    ):
        found = _directory_fault(Path(directory))
        if found:
            yield Problem(file, key, found, _expected_directory())
    for key, path, severity in (
        ("admin.socket", settings.admin.socket, Severity.FATAL),
        ("daemon.pid_file", settings.daemon.pid_file, Severity.FATAL),
        ("daemon.report_file", settings.daemon.report_file, Severity.WARNING),
        ("delayed.perm_log", settings.delayed.perm_log, Severity.WARNING),
    ):
        if not path or (key == "admin.socket" and _is_made(path, settings)):
            continue
        found = _directory_fault(Path(path).parent, made=False)
        if found:
            yield Problem(file, key, found, _expected_directory(), severity)
        else:
            yield from _file_faults(file, key, Path(path), severity)
    if settings.sockets.group:
        yield from _group_fault(file, settings.sockets.group)
    if settings.delayed.key_file:
        content = files.read(settings.delayed.key_file)
        if isinstance(content, str):
            found = f"{show(settings.delayed.key_file)} {content}"
            yield Problem(file, "delayed.key_file", found, "expected a file that can be read")
    if asks_for_ssl(settings) is not None:
        yield from _certificate_faults(file, settings.network, files)


def _is_made(path: str, settings: Settings) -> bool:
    """Say whether the daemon makes the directory of a file, and it is not there yet."""
    directory = Path(path).parent
    return directory == Path(settings.sockets.directory) and not directory.exists()


def _file_faults(file: str, key: str, path: Path, severity: Severity) -> Iterator[Problem]:
    """See that the daemon can put a file of its own at a path whose directory is good."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = 0
    if stat.S_ISDIR(mode):
        found = f"{show(str(path))} is a directory"
        yield Problem(file, key, found, "expected another path", severity)
    elif key == "admin.socket" and mode and not stat.S_ISSOCK(mode):
        found = f"{show(str(path))} is in the way of a socket, and is not one"
        yield Problem(file, key, found, "move it away")
    elif key == "delayed.perm_log" and mode and not os.access(path, os.W_OK, effective_ids=True):
        found = f"{show(str(path))} may not be written to by this user"
        yield Problem(file, key, found, "expected a file to append to", severity)
    elif key == "daemon.pid_file" and _is_full(path.parent):
        found = f"no space left on the file system of {show(str(path))}"
        yield Problem(file, key, found, "expected room for a few bytes")


def _is_full(directory: Path) -> bool:
    status = os.statvfs(directory)
    free = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    return status.f_blocks > 0 and free == 0


def _expected_directory() -> str:
    if "INVOCATION_ID" in os.environ:  # set by systemd, whose sandbox may be the reason
        return "expected a directory to write to; the unit's ReadWritePaths= must name it"
    return "expected a directory to write to"


def _certificate_faults(file: str, network: Network, files: Files) -> Iterator[Problem]:
    """See that the three files of ssl can be read and belong together."""
    good = []
    for key, path in _tls_files(network):
        content = files.read(path) if path else "is missing"
        if isinstance(content, bytes):
            good.append(content)
        elif path:
            yield Problem(file, key, f"{show(path)} {content}", "expected a file that can be read")
    if len(good) == len(_tls_files(network)):
        for fault in check_together(*good):
            yield Problem(file, fault.key, fault.found, fault.expected)


def doubts(file: str, configuration: Configuration, files: Files, now: float) -> Iterator[Problem]:
    """Find what `run` would start with, though it should not stay so: dates, modes of secrets."""
    network = configuration.settings.network
    if any(host.security.startswith("ssl") for host in configuration.hosts):
        certificate, ca = files.read(network.certificate), files.read(network.ca_certificate)
        if isinstance(certificate, bytes) and isinstance(ca, bytes):
            for fault in check_dates(certificate, ca, now):
                soon = fault.found.startswith("expires")
                yield Problem(file, *fault, Severity.WARNING if soon else Severity.ERROR)
    if network.host_id not in configuration.known:
        found = f"no host {show(network.host_id)} in hosts.tab"
        expected = "expected our own id in it, or londs refuse us"
        yield Problem(file, "network.host_id", found, expected, Severity.WARNING)
    directory = configuration.settings.delayed.directory
    kind = _in_memory(Path(directory))
    if kind:
        found = f"{show(directory)} is on a {kind}: in memory, lost when the machine restarts"
        expected = "expected a directory on a disk"
        yield Problem(file, "delayed.directory", found, expected, Severity.WARNING)
    for opening in openings(configuration, Path(file)):
        found = f"{show(opening.path)}: {opening.who}"
        expected = "expected mode 0600" if opening.is_secret else "expected its owner only"
        yield Problem(file, opening.key, found, expected, Severity.WARNING)


def _in_memory(path: Path) -> str:
    """Name the type of the file system in memory that a path is on; "" if it is on none."""
    try:
        device = nearest_there(path).stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for mount in mounts.splitlines():
        fields, _, source = mount.partition(" - ")
        if fields.split(" ")[2] == f"{os.major(device)}:{os.minor(device)}":
            kind = source.partition(" ")[0]
            return kind if kind in ("tmpfs", "ramfs") else ""
    return ""


def _tls_files(network: Network) -> tuple[tuple[str, str], ...]:
    return (
        ("network.certificate", network.certificate),
        ("network.private_key", network.private_key),
        ("network.ca_certificate", network.ca_certificate),
    )


def _directory_fault(directory: Path, *, made: bool = True) -> str:
    """Say why nothing can be made in a directory, which the daemon itself may make (`made`)."""
    there = directory
    try:
        if made:
            there = nearest_there(directory)
        if not stat.S_ISDIR(there.stat().st_mode):
            fault = "is no directory"
        elif os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return ""
        elif os.statvfs(there).f_flag & os.ST_RDONLY:
            fault = "is on a read-only file system"
        else:
            fault = "may not be written to by this user"
    except OSError as error:
        fault = _reason(error)
    return f"{show(str(there))} {fault}"


def nearest_there(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists. Raises OSError."""
    for there in (path, *path.parents):
        with suppress(FileNotFoundError):
            there.stat()
            return there
    return path


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
