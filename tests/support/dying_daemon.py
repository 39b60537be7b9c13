# SPDX-License-Identifier: GPL-2.0-or-later
"""A `lonc-gevent` that kills itself (SIGKILL) at one step of its work on delayed requests.

    python -m dying_daemon POINT run --config FILE

The points are the keys of `POINTS`. The name of a step that the code no longer has ends the
process with an AttributeError, so that no test passes for want of a kill.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Never
from unittest import mock

from lonc_gevent.cli import main
from lonc_gevent.delayed.directory import SpoolDirectory
from lonc_gevent.delayed.requests import Verdict
from lonc_gevent.delayed.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable


def die() -> Never:
    """End the process as a power cut does: no handler and no `finally` runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")


def die_before(owner: Any, name: str) -> None:
    """Kill the process when the function is called."""
    mock.patch.object(owner, name, side_effect=lambda *_, **__: die()).start()


def always(*_: object, **__: object) -> bool:
    """Return True, whatever the arguments."""
    return True


def die_after(owner: Any, name: str, condition: Callable[..., bool] = always) -> None:
    """Kill the process when the function returns, if its result and arguments fit the condition."""
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if condition(result, *arguments, **options):
            die()
        return result

    mock.patch.object(owner, name, call).start()


class HalfWriter(io.FileIO):
    """A file whose first write reaches its middle and no further."""

    def write(self, data: Any) -> Never:
        """Write half of it, and die."""
        super().write(data[: len(data) // 2])
        die()


def die_half_written() -> None:
    """Kill the process in the middle of the first file that the delayed directory gets."""
    original = SpoolDirectory.write_new

    def write_new(self: SpoolDirectory, *arguments: Any) -> str:
        mock.patch.object(os, "fdopen", lambda fd, *_, **__: HalfWriter(fd, "wb")).start()
        return original(self, *arguments)

    mock.patch.object(SpoolDirectory, "write_new", write_new).start()


POINTS: dict[str, Callable[[], None]] = {
    "claimed": lambda: die_after(
        Spool, "claim", lambda claim, *_: claim.found.verdict is Verdict.READY
    ),
    "answered": lambda: die_before(Spool, "done"),
    "removed": lambda: die_after(
        os, "unlink", lambda _, name, **fds: bool(fds) and name.endswith(".msul2")
    ),
    "done": lambda: die_after(SpoolDirectory, "remove"),
    "attempt-noted": lambda: die_after(Spool, "note_attempt"),
    "half-written": die_half_written,
    "seal-written": lambda: die_before(SpoolDirectory, "replace"),
    "sealed": lambda: die_after(SpoolDirectory, "replace"),
    "quarantine-noted": lambda: die_after(SpoolDirectory, "write_note"),
    "quarantine-moved": lambda: die_after(
        os, "rename", lambda _, *__, src_dir_fd, dst_dir_fd: src_dir_fd != dst_dir_fd
    ),
}


if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    main()
