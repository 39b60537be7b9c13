# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests: names and contents of their files, and lond's answers, without I/O.

A file is named `<time>.<count>.<pid>.<middle>.<host id>` and holds one request line (protocol.md,
section 2). The host id is all that follows the fourth dot: ids may hold dots (section 6, 6).
Files are sent in the order of their names, compared as text (listing, line 812: `sort`).

Names that begin with a dot are not delayed requests but housekeeping: files being written, the
lock, the notes about attempts.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from lonc_gevent.configuration.names import is_host_id
from lonc_gevent.printable import escape_bytes
from lonc_gevent.protocol.lines import (
    CLOSE_CONNECTIONS,
    LINE_END,
    MAX_VERB,
    RESET_RETRIES,
)

UNFINISHED_PREFIX: Final = ".new."
"""Prefix of the names of files that are being written."""

UNFINISHED_AGE: Final = 3600.0
"""Seconds after which a file without a newline goes to quarantine, and one that is still named as
being written is removed."""

QUARANTINE: Final = "quarantine"
"""The folder in the delayed directory for files that cannot be sent."""

HIDDEN: Final = "*"
"""Shown in logs in place of a name, or of the part of it, that may hold a request."""

_DOTS = 4
_FIRST_WORD = re.compile(rb"[A-Za-z0-9_]{1,16}")
_NUMBERED = re.compile(r"\A[0-9]+~")
_SHAPE = re.compile(r"((?:[0-9]+~)?(?:[0-9]+\.){3})[A-Za-z0-9_]+\.(.+)")
_ANSWER_WORD = re.compile(rb"[^:\s]*")


NOT_DONE: Final = {
    "con_lost": "lond needed another server, and lost the connection to it",
    "con_failed": "the same, and lond could not save the request for later",
    "error": "lond tried and failed: a database in use, a full disk, an invalid argument",
    "refused": "lond refuses this server, or does not serve the domain",
    "rejected": "the same, in answer to some commands",
    "unable_to_set": "lond could not become the host that the request names",
    "unknown_cmd": "this lond does not have the command; a newer one may have it",
}
"""Answers after which a request counts as not run, by first word. Any other answer is final."""


class Verdict(Enum):
    """What is to be done with a file."""

    READY = "ready"  # send it when its turn comes
    YOUNG = "young"  # wait: its writer may still check it
    UNFINISHED = "unfinished"  # wait: it is empty or has no newline, so it may still be written
    UNREADABLE = "unreadable"  # leave it, log it, and try again: it cannot be read now
    BAD = "bad"  # move it to quarantine
    GONE = "gone"  # nothing: it no longer exists


def host_of(name: str) -> str | None:
    """Return the host id in a file's name; None if the name is not that of a delayed request."""
    fields = name.split(".", _DOTS)
    if len(fields) <= _DOTS or not all(fields):
        return None
    return fields[_DOTS]


def name_before(name: str) -> str:
    """Return a name without the number, such as `2~`, that it got in quarantine."""
    return _NUMBERED.sub("", name)


def shown_name(name: str) -> str:
    """Return a file's name as logs may show it: `<time>.<count>.<pid>.*.<host id>`.

    lonnet writes the beginning of the request as the middle, user names and passwords included;
    time, count and pid identify a file. A name of any other shape may show a request in any part of
    it, so HIDDEN replaces all of it; `lonc-gevent delayed list` shows it to users that may read the
    directory.
    """
    match = _SHAPE.fullmatch(name)
    if match is None or not is_host_id(match[2]):
        return HIDDEN
    return f"{match[1]}{HIDDEN}.{match[2]}"


def is_housekeeping(name: str) -> bool:
    """Return whether an entry of the directory is not a delayed request, by its name."""
    return name.startswith(".") or name == QUARANTINE


def file_name(micros: int, pid: int, request: bytes, host: str) -> str:
    """Name a delayed request.

    micros   the time, in microseconds since 1970; the part below a second becomes the count, so
             that the requests of one process sort as they were written
    pid      the writer's process id
    request  its first word becomes the middle, 16 characters at most: the command, or `encrypt`.
             Not more, unlike lonnet (section 2): directories are listed, backed up and logged
             where requests are not, and no program reads the middle
    host     the host id
    """
    seconds, count = divmod(micros, 1_000_000)
    word = _FIRST_WORD.match(request)
    middle = word[0].decode() if word else "_"
    return f"{seconds}.{count:06d}.{pid}.{middle}.{host}"


def judge(data: bytes, max_bytes: int) -> tuple[Verdict, str]:
    """Return the verdict on the content of a settled file, and for BAD the reason.

    `max_bytes` is the host's max_request_bytes; `data` may be cut one byte beyond it.
    """
    end = data.find(LINE_END) + 1
    if not end and len(data) <= max_bytes:
        return Verdict.UNFINISHED, ""
    if len(data) > max_bytes:
        return Verdict.BAD, "too_large"
    if end != len(data):
        return Verdict.BAD, "several_lines"
    if data == LINE_END:
        return Verdict.BAD, "empty_line"
    if data in (RESET_RETRIES, CLOSE_CONNECTIONS):
        # Control lines are for the daemon itself, and never sent on (contract.md, "Sockets").
        return Verdict.BAD, "control_line"
    return Verdict.READY, ""


def age_of(now: float, mtime: float, ctime: float) -> float:
    """Return a file's age in seconds; below zero if the clock was set back before all its times."""
    return next((now - time for time in (mtime, ctime) if time <= now), now - mtime)


def first_word(answer: bytes | bytearray) -> str:
    """Return an answer's text up to a colon or blank, at most 32 bytes, as printable ASCII."""
    match = _ANSWER_WORD.match(answer[:MAX_VERB])
    return escape_bytes(bytes(match[0])) if match else ""


def is_final(answer: bytes | bytearray) -> bool:
    """Return whether lond ran the request, so that it need not be sent again."""
    return first_word(answer) not in NOT_DONE


class Note(NamedTuple):
    """The note about a file: its failed attempts, and the reason of its quarantine."""

    attempts: int = 0
    reason: str = ""

    def to_bytes(self) -> bytes:
        """Return the line that is written to disk."""
        return f"{self.attempts} {self.reason}".rstrip().encode() + LINE_END

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Parse that line; any other line gives an empty note."""
        number, _, reason = data.decode("ascii", "replace").strip().partition(" ")
        if not (number.isascii() and number.isdigit()) or len(number) > len("1000000000"):
            return cls()
        return cls(int(number), reason[:MAX_VERB])
