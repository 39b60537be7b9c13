# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of the Elastic Common Schema for the fields of events (`log.schema = "ecs"`).

Fields without a name in the schema get the prefix `lonc.`. Values are kept, except durations, which
the schema counts in nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "8.11.0"
"""Version of the schema that has these names."""

SERVICE: Final = "lonc-gevent"

NAMES: Final = {
    # name in lonc's log: name in the schema
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

_NANOSECONDS: Final = 1_000_000  # in a millisecond


def renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's fields with the schema's names, in the same order."""
    made: dict[str, Any] = {}
    for name, value in fields.items():
        made[NAMES.get(name, f"lonc.{name}")] = value
        if name == "event":
            made["ecs.version"] = VERSION
            made["service.name"] = SERVICE
    duration = fields.get("duration_ms")
    if isinstance(duration, int | float):
        made["event.duration"] = round(duration * _NANOSECONDS)
    stack = made.get("error.stack_trace")
    if isinstance(stack, list):
        made["error.stack_trace"] = "\n".join(str(frame) for frame in stack)
    return made
