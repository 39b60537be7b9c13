# SPDX-License-Identifier: GPL-2.0-or-later
"""The rehearsal of a restart in place, by a child process: all that a start does, but to serve.

It runs the new code with the new configuration, the lock and the names of what this process holds.
So a mistake there ends the child and not the daemon. The files that it read and accepted come
back, and are what the new program runs on.
"""

from __future__ import annotations

import os
import subprocess  # nosec B404 # it starts this very program, from a list
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from . import systemd
from .handover import BASIC, VARIABLE, VERSION, command_line, in_memory

if TYPE_CHECKING:
    from pathlib import Path

    from .handover import Handover

RESULT_VARIABLE: Final = "LONC_REHEARSAL"
"""The environment variable that names the descriptor which takes the files."""

TIMEOUT: Final = 60.0
"""Seconds for the rehearsal; on a busy machine it takes two."""

MAX_PROBLEMS: Final = 20
MAX_PROBLEM: Final = 300
"""Lines, and characters of a line, in an event at most."""


_VERSION_KEY: Final = "handover version"
"""In place of the path of a file: the VERSION of the program that rehearsed."""


class Rehearsal(NamedTuple):
    """The result of a rehearsal.

    problems  why a restart would fail; none: it would not
    files     the files to restart with; none: the program is too old to return them
    version   the version of a whole handover that the program understands
    """

    problems: list[str]
    files: dict[str, bytes]
    version: int = BASIC


def rehearse(config: Path, handover: Handover, timeout: float = TIMEOUT) -> Rehearsal:
    """Have a new process rehearse the start with this handover, whose descriptors are its own.

    Blocks: call it in a thread. Never raises.
    """
    fds = list(handover.descriptors())
    try:
        fds.append(in_memory(msgspec.json.encode(handover)))
        fds.append(os.memfd_create("lonc-rehearsal", os.MFD_CLOEXEC))
        return _run(config, fds, timeout)
    except subprocess.TimeoutExpired:
        return Rehearsal([f"the rehearsal did not end within {timeout:g} s"], {})
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return Rehearsal([f"the rehearsal could not be done ({error})"], {})
    finally:
        for fd in fds:
            os.close(fd)


def _run(config: Path, fds: list[int], timeout: float) -> Rehearsal:
    """Run the child with these descriptors, the last two being the handover and the result."""
    *_, state, result = fds
    environment = {**os.environ, VARIABLE: str(state), RESULT_VARIABLE: str(result)}
    environment.pop(systemd.VARIABLE, None)
    done = subprocess.run(  # noqa: S603 - ourselves # nosec B603
        command_line("check", "--for-restart", "--config", str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=timeout,
        check=False,
        pass_fds=fds,
        env=environment,
    )
    if done.returncode:
        problems = bounded(done.stderr.decode("utf-8", "backslashreplace").splitlines())
        return Rehearsal(problems or [f"the rehearsal ended with {done.returncode}"], {})
    os.lseek(result, 0, os.SEEK_SET)
    with open(result, "rb", closefd=False) as file:
        content = file.read()
    files = msgspec.json.decode(content, type=dict[str, bytes]) if content else {}
    return Rehearsal([], files, int(files.pop(_VERSION_KEY, BASIC)))


def hand_back(files: dict[str, bytes]) -> None:
    """Return the accepted files to the process that started the rehearsal. Raises OSError."""
    number = os.environ.get(RESULT_VARIABLE)
    if number:
        with os.fdopen(int(number), "wb") as file:
            file.write(msgspec.json.encode(files | {_VERSION_KEY: b"%d" % VERSION}))


def bounded(problems: list[str]) -> list[str]:
    """Return the lines that an event takes. Of a traceback only the last line is kept."""
    lines = [line for line in problems if line.strip()]
    if lines and lines[0].startswith("Traceback "):
        lines = lines[-1:]
    kept = [line[:MAX_PROBLEM] for line in lines[:MAX_PROBLEMS]]
    if len(lines) > len(kept):
        kept.append(f"and {len(lines) - len(kept)} more")
    return kept
