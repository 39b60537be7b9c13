# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the machine that the daemon runs on: directories, groups, certificates, file modes."""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .accounts import group_id, user_id
from .certificates import check_crl, check_dates, check_together
from .cross_checks import TLS_FILES, asks_for_ssl
from .permissions import openings
from .problems import READABLE, Fault, Severity, did_you_mean, dotted, nearest, reason_of, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .loncapa_values import Read
    from .settings import Configuration, Network, Settings

_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def check_machine(settings: Settings, read: Read) -> Iterator[Fault]:
    """Find faults of the machine that keep the daemon from a start, or some of its files unwritten.

    read: gives the content of a file, see `Read`
    """
    sockets, delayed, daemon = settings.sockets, settings.delayed, settings.daemon
    yield from _directory_faults("sockets.directory", sockets.directory, is_made=True)
    yield from _directory_faults("delayed.directory", delayed.directory, is_made=True)
    # The daemon creates sockets.directory, if that is where the admin socket is.
    admin_directory = Path(settings.admin.socket).parent
    if admin_directory.exists() or admin_directory != Path(sockets.directory):
        yield from _file_faults("admin.socket", settings.admin.socket, Severity.FATAL)
    yield from _file_faults("daemon.pid_file", daemon.pid_file, Severity.FATAL)
    yield from _file_faults("daemon.report_file", daemon.report_file, Severity.WARNING)
    yield from _file_faults("delayed.perm_log", delayed.perm_log, Severity.WARNING)
    for key, group in ("sockets.group", sockets.group), ("admin.group", settings.admin.group):
        if group:
            yield from _group_faults(key, group)
    for key, names, find in (
        ("sockets.allow_uids", sockets.allow_uids, user_id),
        ("sockets.allow_gids", sockets.allow_gids, group_id),
    ):
        for name in names:
            if find(name) is None:
                yield Fault(key, f"found {show(name)}", "expected a name on this machine")
    _, faults = _contents({"delayed.key_file": delayed.key_file}, read)
    yield from faults
    if asks_for_ssl(settings) is not None:
        yield from _certificate_faults(settings.network, read)


def check_advice(
    configuration: Configuration, config: Path, read: Read, now: float
) -> Iterator[Fault]:
    """Find what does not keep the daemon from a start, but should be corrected.

    config  path of the TOML file
    now     seconds since 1970
    """
    network = configuration.settings.network
    if any(host.security.startswith("ssl") for host in configuration.hosts):
        certificate, ca = read(network.certificate), read(network.ca_certificate)
        if isinstance(certificate, bytes) and isinstance(ca, bytes):
            yield from check_dates(certificate, ca, now)
        crl = read(network.crl) if network.crl else ""
        if isinstance(crl, bytes):
            yield from check_crl(crl, now)
    if network.host_id not in configuration.known:
        found = f"no host {show(network.host_id)} in hosts.tab"
        expected = "expected our own id in it, as londs refuse other servers"
        yield Fault("network.host_id", found, expected, Severity.WARNING)
    directory = configuration.settings.delayed.directory
    kind = _memory_file_system(Path(directory))
    if kind:
        found = f"{show(directory)} is on a {kind}: in memory, lost when the machine restarts"
        expected = "expected a directory on a disk"
        yield Fault("delayed.directory", found, expected, Severity.WARNING)
    yield from _local_faults(configuration)
    for opening in openings(configuration, config):
        found = f"{show(opening.path)}: {opening.who}"
        yield Fault(opening.key, found, opening.expected, Severity.WARNING)


def _local_faults(configuration: Configuration) -> Iterator[Fault]:
    """Check that the lond of each host with security local can read a key file of this user."""
    for host in configuration.hosts:
        found = foreign_lond(host.port) if host.security == "local" else ""
        if found:
            expected = "with security local both must be one user: its key file has mode 0600"
            yield Fault(dotted("hosts", host.id, "security"), found, expected, Severity.WARNING)


def foreign_lond(port: int) -> str:
    """Return which other user the lond on a port of this machine has; "" if none, or root."""
    uid = listener_uid(port)
    if uid in (None, 0, os.geteuid()):
        return ""
    return f"the lond on port {port} is of uid {uid}, this user is uid {os.geteuid()}"


def listener_uid(port: int) -> int | None:
    """Return the user of the process that listens on a TCP port of this machine, or None."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, _, _, _, uid, *_ = line.split()
                if state == _LISTEN and local.endswith(f":{port:04X}"):
                    return int(uid)
    return None


def _file_faults(key: str, file: str, severity: Severity) -> Iterator[Fault]:
    """Check that the daemon can create or replace a file of its own."""
    if not file:
        return
    path = Path(file)
    in_directory = [*_directory_faults(key, str(path.parent), severity)]
    if in_directory:
        yield from in_directory
        return
    try:
        mode = path.lstat().st_mode
    except OSError:
        mode = 0
    if stat.S_ISDIR(mode):
        found, expected = f"{show(file)} is a directory", "expected another path"
    elif key == "admin.socket" and mode and not stat.S_ISSOCK(mode):
        found, expected = f"{show(file)} exists and is not a socket", "move it away"
    elif key == "delayed.perm_log" and mode and not os.access(path, os.W_OK, effective_ids=True):
        found = f"{show(file)} may not be written to by this user"
        expected = "expected a file to append to"
    elif key == "daemon.pid_file" and _is_full(path.parent):
        found = f"no space left on the file system of {show(file)}"
        expected = "expected room for a few bytes"
    else:
        return
    yield Fault(key, found, expected, severity)


def _is_full(directory: Path) -> bool:
    status = os.statvfs(directory)
    free = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    return status.f_blocks > 0 and free == 0


def _directory_faults(
    key: str, path: str, severity: Severity = Severity.FATAL, *, is_made: bool = False
) -> Iterator[Fault]:
    """Check that files can be created in a directory. is_made: the daemon creates it if needed."""
    there = Path(path)
    try:
        if is_made:
            there = nearest_existing(there)
        if not stat.S_ISDIR(there.stat().st_mode):
            reason = "is not a directory"
        elif os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return
        elif os.statvfs(there).f_flag & os.ST_RDONLY:
            reason = "is on a read-only file system"
        else:
            reason = "may not be written to by this user"
    except OSError as error:
        reason = reason_of(error)
    expected = "expected a directory to write to"
    if "INVOCATION_ID" in os.environ:  # set by systemd, whose sandbox may be the reason
        expected += "; the unit's ReadWritePaths= must name it"
    yield Fault(key, f"{show(str(there))} {reason}", expected, severity)


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists. Raises OSError."""
    for there in (path, *path.parents):
        with suppress(FileNotFoundError):
            there.stat()
            return there
    return path


def _memory_file_system(path: Path) -> str:
    """Return the type of the file system in memory that a path is on; "" if it is on a disk."""
    try:
        device = nearest_existing(path).stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for mount in mounts.splitlines():
        fields, _, source = mount.partition(" - ")
        if fields.split(" ")[2] == f"{os.major(device)}:{os.minor(device)}":
            kind = source.partition(" ")[0]
            return kind if kind in ("tmpfs", "ramfs") else ""
    return ""


def _contents(paths: dict[str, str], read: Read) -> tuple[list[bytes], list[Fault]]:
    """Read the files of these keys, those that have a path; return contents and faults."""
    contents, faults = [], []
    for key, path in paths.items():
        content = read(path) if path else None
        if isinstance(content, bytes):
            contents.append(content)
        elif content is not None:
            faults.append(Fault(key, f"{show(path)} {content}", READABLE))
    return contents, faults


def _certificate_faults(network: Network, read: Read) -> Iterator[Fault]:
    """Check that the three files of ssl can be read and belong together."""
    _, faults = _contents({"network.crl": network.crl}, read)
    yield from faults
    paths = {f"network.{name}": getattr(network, name) for name in TLS_FILES}
    contents, faults = _contents(paths, read)
    yield from faults
    if len(contents) == len(TLS_FILES):
        yield from check_together(*contents)


def _group_faults(key: str, group: str) -> Iterator[Fault]:
    """Check that sockets can be given to the group."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        hint = did_you_mean(nearest(group, [entry.gr_name for entry in grp.getgrall()], 0.6))
        yield Fault(key, f"no group {show(group)}", hint)
        return
    if os.geteuid() != 0 and gid != os.getegid() and gid not in os.getgroups():
        found = f"this user is not in group {show(group)}"
        yield Fault(key, found, "expected a group of the daemon's user")
