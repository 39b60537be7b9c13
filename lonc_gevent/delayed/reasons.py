# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a delayed file is where it is, and what an operator can do, by its state or reason.

docs/guide/delayed-requests.md has the same table (a test compares them).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .requests import NOT_DONE


class Advice(NamedTuple):
    """Why a file is where it is, what to do, and whether a retry can succeed without that."""

    why: str
    action: str
    retry: bool = True


_LATER: Final = "nothing: lonc sends it when its turn comes"
_LOND: Final = "ask the administrator of that lond, then retry"
_SEAL: Final = "discard it, or restore it from a backup"
_OWNER: Final = "see who wrote it; correct it, then retry, or discard it"

ADVICE: Final[dict[str, Advice]] = {
    "waiting": Advice("it waits for its host, or for the files before it", _LATER),
    "sealed": Advice("it is encrypted on disk, and waits as others do", _LATER),
    "settling": Advice("its writer may still verify it (delayed.settle)", _LATER),
    "unfinished": Advice("no newline ends it", "write the file anew, or discard it", retry=False),
    "unreadable": Advice("the daemon may not read it", "correct its mode or group"),
    "unknown_host": Advice(
        "its host is not in hosts.tab",
        "add the host, and the file returns by itself, or discard it",
        retry=False,
    ),
    "no_such_name": Advice(
        "its name is not that of a delayed request", "rename it, or discard it", retry=False
    ),
    "too_large": Advice(
        "it is over pool.max_request_bytes", "raise the limit, then retry", retry=False
    ),
    "several_lines": Advice("it has more than one line", _OWNER, retry=False),
    "empty_line": Advice("it has no request", "discard it", retry=False),
    "control_line": Advice("it is a command for lonc, not a request", "discard it", retry=False),
    "no_regular_file": Advice("it is a link, a folder or a socket", _OWNER, retry=False),
    "foreign_owner": Advice(
        "its owner is neither the daemon's user nor in sockets.allow_uids", _OWNER, retry=False
    ),
    "writable_by_others": Advice("all users may write to it", _OWNER, retry=False),
    "no_key": Advice(
        "it is encrypted, and delayed.key_file is not set", "set the key, then retry", retry=False
    ),
    "wrong_key": Advice(
        "it is encrypted with another key", "use that key, then retry", retry=False
    ),
    "unknown_seal": Advice("it is encrypted in an unknown form", _SEAL, retry=False),
    "broken_seal": Advice("it was changed or renamed after its encryption", _SEAL, retry=False),
    "max_attempts": Advice(
        "lond was lost during each attempt", "see delayed_attempt_lost in the log, then retry"
    ),
    **{word: Advice(f"{why} (its answer)", _LOND) for word, why in NOT_DONE.items()},
}


def advice_on(state: str) -> Advice:
    """Return the advice on a state of `listing.Item`."""
    reason = state.removeprefix("quarantined: ")
    return ADVICE.get(reason, Advice("no reason was recorded", "look at it, then retry or discard"))
