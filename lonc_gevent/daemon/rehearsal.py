# SPDX-License-Identifier: GPL-2.0-or-later
"""Before a restart in place: whether the new code starts, and takes the configuration.

Asked of a child process, so that whatever is wrong there is not wrong here.
"""

from __future__ import annotations

import subprocess  # nosec B404 - it starts this very program, from a list
from typing import TYPE_CHECKING

from .handover import command_line

if TYPE_CHECKING:
    from pathlib import Path

CHECK_TIMEOUT = 60.0
"""Seconds for the check; on a busy machine it takes two."""

MAX_PROBLEMS = 20
MAX_PROBLEM = 300
"""Lines and characters a line: what an event has room for."""


def check(config: Path, timeout: float = CHECK_TIMEOUT) -> list[str]:
    """Have a new process check code and configuration; return what it says against them.

    Blocks: call it off the hub. Never raises.
    """
    command = command_line("check", "--for-restart", "--config", str(config))
    try:
        done = subprocess.run(  # noqa: S603 - ourselves # nosec B603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [f"the check did not end within {timeout:g} s"]
    except OSError as error:
        return [f"{command[0]}: {error.strerror}"]
    if done.returncode == 0:
        return []
    return bounded(done.stderr.decode("utf-8", "backslashreplace").splitlines()) or [
        f"the check ended with {done.returncode}, and said nothing"
    ]


def bounded(problems: list[str]) -> list[str]:
    """Return what an event has room for. The last line goes first if it is a traceback's."""
    lines = [line for line in problems if line.strip()]
    if lines and lines[0].startswith("Traceback "):
        lines = lines[-1:]
    kept = [line[:MAX_PROBLEM] for line in lines[:MAX_PROBLEMS]]
    if len(lines) > len(kept):
        kept.append(f"and {len(lines) - len(kept)} more")
    return kept
