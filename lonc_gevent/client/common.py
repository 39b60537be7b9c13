# SPDX-License-Identifier: GPL-2.0-or-later
"""The public names that the blocking and the asyncio client share."""

from __future__ import annotations

from .commands import command, freeze, parse_list, parse_pairs, thaw
from .delayed import delay
from .errors import (
    ArgumentError,
    ClientError,
    ConFailed,
    ConFailedError,
    ConLost,
    ConLostError,
    DisconnectedError,
    HungUpError,
    NoDaemonError,
    PermissionDeniedError,
    ReplyError,
    TimedOutError,
    UnknownHostError,
    raise_for_error,
)
from .escaping import escape, pack, unescape, unpack, unpack_list
from .lines import CON_DELAYED, CON_FAILED, CON_LOST
from .sockets import Sockets

__all__ = [
    "CON_DELAYED",
    "CON_FAILED",
    "CON_LOST",
    "ArgumentError",
    "ClientError",
    "ConFailed",
    "ConFailedError",
    "ConLost",
    "ConLostError",
    "DisconnectedError",
    "HungUpError",
    "NoDaemonError",
    "PermissionDeniedError",
    "ReplyError",
    "Sockets",
    "TimedOutError",
    "UnknownHostError",
    "command",
    "delay",
    "escape",
    "freeze",
    "pack",
    "parse_list",
    "parse_pairs",
    "raise_for_error",
    "thaw",
    "unescape",
    "unpack",
    "unpack_list",
]
