# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests: what the name of a file says, what its content is, and what is to be done.

A file is named `<time>.<count>.<pid>.<middle>.<host id>` and holds one request line (protocol.md,
section 2). The host id is all that follows the fourth dot: ids may hold dots (section 6, 6).
Files are sent in the order of their names, compared as text (listing, line 812: `sort`).

Names that begin with a dot are not delayed requests but housekeeping: what is being written now,
the lock, the notes about attempts.
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
    encrypted_part,
    verb,
)

UNFINISHED_PREFIX: Final = ".new."
"""How the name of a file begins while it is being written."""

UNFINISHED_AGE: Final = 3600.0
"""Seconds after which a file without a newline, or one that was never named, is given up."""

QUARANTINE: Final = "quarantine"
"""The folder in the delayed directory for what will not be sent."""

HIDDEN: Final = "*"
"""What a log shows in place of a name, or of that part of it, that may hold a request."""

_DOTS = 4
_FIRST_WORD = re.compile(rb"[A-Za-z0-9_]{1,16}")
_NUMBERED = re.compile(r"\A[0-9]+~")
_SHAPE = re.compile(r"((?:[0-9]+~)?(?:[0-9]+\.){3})[A-Za-z0-9_]+\.(.+)")
_ANSWER_WORD = re.compile(rb"[^:\s]*")


NOT_DONE: Final = {
    "con_lost": "lond needed another server, and lost it",
    "con_failed": "the same, and lond could not save the request for later",
    "error": "lond tried and failed: a database in use, a full disk, an argument it cannot take",
    "refused": "lond does not let us, or does not serve this domain",
    "rejected": "the same, of some commands",
    "unable_to_set": "lond could not become the host that the request names",
    "unknown_cmd": "this lond has no such command, which a newer one may have",
}
"""Answers after which a request counts as not run, by first word. Any other answer is final."""


class Verdict(Enum):
    """What is to be done about a file."""

    READY = "ready"  # send it when its turn comes
    YOUNG = "young"  # its writer may still check it
    UNFINISHED = "unfinished"  # empty or without a newline: its writer may still be at work
    UNREADABLE = "unreadable"  # it may not be read now: left where it is, and told
    BAD = "bad"  # it goes to quarantine
    GONE = "gone"  # there is no such file any more


class Text(NamedTuple):
    """What a file's content is: a verdict, and for BAD the reason."""

    verdict: Verdict
    reason: str = ""


def host_of(name: str) -> str | None:
    """Return the host id in a file's name, None if the name is no delayed request's."""
    fields = name.split(".", _DOTS)
    if len(fields) <= _DOTS or not all(fields):
        return None
    return fields[_DOTS]


def name_before(name: str) -> str:
    """Return a name without the number, `2~`, that it was given in quarantine."""
    return _NUMBERED.sub("", name)


def shown_name(name: str) -> str:
    """Return what a log may show of a file's name: `<time>.<count>.<pid>.*.<host id>`.

    The middle is the beginning of the request as lonnet writes it, user names and passwords
    included; time, count and pid are enough to know a file by. Of a name of any other shape no part
    is known to be free of the request: HIDDEN stands for all of it, and `lonc-gevent delayed list`
    shows it to who may look into the directory.
    """
    match = _SHAPE.fullmatch(name)
    if match is None or not is_host_id(match[2]):
        return HIDDEN
    return f"{match[1]}{HIDDEN}.{match[2]}"


def is_housekeeping(name: str) -> bool:
    """Say whether the name is that of something beside the delayed requests."""
    return name.startswith(".") or name == QUARANTINE


def file_name(micros: int, pid: int, request: bytes, host: str) -> str:
    """Name a delayed request.

    micros   the time, in microseconds since 1970; the part below a second becomes the count, so
             that the requests of one process sort as they were written
    pid      the writer's process id
    request  its first word becomes the middle, 16 characters at most: the command, or `encrypt`.
             Not more, as lonnet does (section 2): directories are listed, backed up and logged
             where requests are not, and nobody reads the middle
    host     the host id
    """
    seconds, count = divmod(micros, 1_000_000)
    word = _FIRST_WORD.match(request)
    middle = word[0].decode() if word else "_"
    return f"{seconds}.{count:06d}.{pid}.{middle}.{host}"


def judge(data: bytes, max_bytes: int) -> Text:
    """Say what the content of a settled file is.

    `max_bytes` is the host's max_request_bytes; more than one byte beyond it need not be given.
    """
    end = data.find(LINE_END) + 1
    if not end and len(data) <= max_bytes:
        return Text(Verdict.UNFINISHED)
    if len(data) > max_bytes:
        return Text(Verdict.BAD, "too_large")
    if end != len(data):
        return Text(Verdict.BAD, "several_lines")
    if data == LINE_END:
        return Text(Verdict.BAD, "empty_line")
    if data in (RESET_RETRIES, CLOSE_CONNECTIONS):
        # Control lines are for the daemon itself, and never sent on (contract.md, "Sockets").
        return Text(Verdict.BAD, "control_line")
    return Text(Verdict.READY)


def age_of(now: float, mtime: float, ctime: float) -> float | None:
    """Return a file's age in seconds; None if all its times lie ahead: the clock was set back."""
    times = [time for time in (mtime, ctime) if time <= now]
    if mtime <= now:
        return now - mtime
    return now - times[0] if times else None


def first_word(answer: bytes | bytearray) -> str:
    """Return an answer's text up to a colon or blank, at most 32 bytes, as printable ASCII."""
    match = _ANSWER_WORD.match(answer[:MAX_VERB])
    return escape_bytes(bytes(match[0])) if match else ""


def is_final(answer: bytes | bytearray) -> bool:
    """Return whether lond ran the request, so that it need not be sent again."""
    return first_word(answer) not in NOT_DONE


def completed_line(now: float, host: str, request: bytes) -> bytes:
    """Return the line of lonnet.perm.log for a completed one: `<unixtime>:S:<host>:<request>`.

    Of a request that is encrypted on its way only the verb: the log stays when the file is gone.
    """
    start = encrypted_part(request)
    text = request.removesuffix(LINE_END)
    if start:
        text = text[:start] + verb(request[start:]).encode("ascii", "backslashreplace")
    return b"%d:S:%s:%s\n" % (int(now), host.encode("utf-8", "surrogateescape"), text)


class Note(NamedTuple):
    """What is remembered about a file beside it: connections that it cost, why it was put away."""

    attempts: int = 0
    reason: str = ""

    def to_bytes(self) -> bytes:
        """Return the line that is kept on disk."""
        return f"{self.attempts} {self.reason}".rstrip().encode() + LINE_END

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Read that line; what is no such line counts as nothing remembered."""
        number, _, reason = data.decode("ascii", "replace").strip().partition(" ")
        if not (number.isascii() and number.isdigit()) or len(number) > len("1000000000"):
            return cls()
        return cls(int(number), reason[:MAX_VERB])
