# SPDX-License-Identifier: GPL-2.0-or-later
"""Events in the names of the Elastic Common Schema (`log.schema = "ecs"`): one table.

What the schema has no name for goes below `lonc.`, as it is. Values stay, but for a duration,
which the schema counts in nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "8.11.0"
"""Of the schema: where these names were looked up."""

SERVICE: Final = "lonc-gevent"

NAMES: Final = {
    # our field, the schema's
    "timestamp": "@timestamp",
    "level": "log.level",
    "event": "event.action",
    "logger": "log.logger",
    "pid": "process.pid",
    "version": "service.version",
    "client_uid": "user.id",
    "request_bytes": "source.bytes",
    "reply_bytes": "destination.bytes",
    "duration_ms": "event.duration",
    "path": "file.path",
    "error": "error.type",
    "detail": "error.message",
    "where": "error.stack_trace",
}

TAKEN: Final = frozenset({"@timestamp", "log.level", "event.action", "ecs.version", "service.name"})
"""Names of which nothing may be cut from a line that is too long."""

_NANOSECONDS: Final = 1_000_000  # in a millisecond


def renamed(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's shape in the schema's names, in the same order."""
    made: dict[str, Any] = {}
    for name, value in shape.items():
        made[NAMES.get(name, f"lonc.{name}")] = value
        if name == "event":
            made["ecs.version"] = VERSION
            made["service.name"] = SERVICE
    duration = shape.get("duration_ms")
    if isinstance(duration, int | float):
        made["event.duration"] = round(duration * _NANOSECONDS)
    stack = made.get("error.stack_trace")
    if isinstance(stack, list):
        made["error.stack_trace"] = "\n".join(str(frame) for frame in stack)
    return made
