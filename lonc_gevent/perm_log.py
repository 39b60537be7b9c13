# SPDX-License-Identifier: GPL-2.0-or-later
"""lonnet.perm.log: what became of delayed requests, one line each (protocol.md, section 2).

lonnet, the daemon and the Python client append to it; loncron compares the number of its D lines
with that of its S lines.
"""

from __future__ import annotations

import grp
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from .protocol.lines import encrypted_part, verb

if TYPE_CHECKING:
    from .configuration.settings import Settings

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PermLog(NamedTuple):
    """The file at `path`; "" if there is none.

    mode, group  of a new file: those of the sockets, so that a daemon and web processes of
                 different users can append to it
    """

    path: str
    mode: int = 0o660
    group: str = ""

    def record(self, code: str, host: str, request: bytes) -> str:
        """Append a line: D delayed, F not delayed, S sent. Return why that failed, or "".

        Blocks. Never raises.
        """
        if not self.path:
            return ""
        now = time.time()
        line = line_of(code, now, time.ctime(now), host, request)
        try:
            self.create()
            fd = os.open(self.path, _APPEND)
            try:
                written = os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            return error.strerror or type(error).__name__
        return "" if written == len(line) else "only part of a line could be written"

    def create(self) -> None:
        """Create the file if it is missing. Raises OSError."""
        if not self.path or os.path.lexists(self.path):
            return
        # The name must not exist before the file has its mode and group.
        new = f"{self.path}.{secrets.token_hex(8)}"
        fd = os.open(new, _NEW, 0)
        try:
            if self.group:
                with suppress(OSError, KeyError):  # not a member of the group
                    os.fchown(fd, -1, grp.getgrnam(self.group).gr_gid)
            os.fchmod(fd, self.mode)
            with suppress(FileExistsError):
                os.link(new, self.path)
        finally:
            os.close(fd)
            os.unlink(new)  # noqa: PTH108 - a path as text


def perm_log_of(settings: Settings) -> PermLog:
    """Return the perm log that a configuration names."""
    sockets = settings.sockets
    return PermLog(settings.delayed.perm_log, int(sockets.mode, 8), sockets.group)


def line_of(code: str, now: float, local: str, host: str, request: bytes) -> bytes:
    """Return a line, `<unixtime>:<code>:<host>:<request>:<localtime>`, as lonnet's.

    A request that is encrypted on its way is cut to its verb, as the log outlives the request.
    """
    start = encrypted_part(request)
    text = request.removesuffix(b"\n")
    if start:
        text = text[:start] + verb(request[start:]).encode("ascii", "backslashreplace")
    name = host.encode("utf-8", "surrogateescape")
    return b"%d:%s:%s:%s:%s\n" % (int(now), code.encode(), name, text, local.encode())
