# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration read from its files: the I/O half of configuration/check.py.

`load` is for every command. The checks of what only the daemon needs (machine.py) are made with
`to_run=True`, so that `send` and `status` work for users without the daemon's permissions.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lonc_gevent.errors import ConfigError

from .check import check
from .machine import check_machine
from .problems import IS_DIRECTORY, Problem, is_fatal, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import Configuration, Settings

TOML_MAX = 1024 * 1024
OTHER_MAX = 64 * 1024 * 1024

_KINDS = (
    (stat.S_ISDIR, IS_DIRECTORY),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


class Examined(NamedTuple):
    """A configuration with its problems; None if one of them is fatal.

    settings: the valid ones, with defaults for the others; None if the file is not TOML
    origins: key -> where its value comes from; a key that is not in it has its default
    """

    configuration: Configuration | None
    problems: tuple[Problem, ...]
    settings: Settings | None = None
    origins: Mapping[str, str] = {}

    def accepted(self) -> Configuration:
        """Return the configuration. Raises ConfigError with every problem if there is none."""
        if self.configuration is None:
            raise ConfigError([str(problem) for problem in self.problems])
        return self.configuration


def load(path: Path, *, to_run: bool = False) -> Configuration:
    """Read the TOML file at `path` and the files that it names, as `examine` does.

    Raises ConfigError with every problem found, one line each, if one of them is fatal.
    """
    return examine(path, to_run=to_run).accepted()


class Files:
    """Reads files, each of them once.

    contents: path -> content; those in it are not read again
    """

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self.contents = contents or {}

    def read(self, path: str, limit: int = OTHER_MAX) -> bytes | str:
        """Return the content of a file of at most `limit` bytes, or the reason of a failure."""
        if path not in self.contents:
            found = _read(path, limit)
            if isinstance(found, str):
                return found
            self.contents[path] = found
        return self.contents[path]


def examine(path: Path, files: Files | None = None, *, to_run: bool = False) -> Examined:
    """Read the TOML file at `path` and the files that it names; find all problems.

    files   reads them, and keeps their contents
    to_run  also check what `run` needs of the machine
    """
    file = str(path)
    files = files or Files()
    content = files.read(file, TOML_MAX)
    if isinstance(content, str):
        problem = Problem(file, "", content, "expected a TOML file that can be read")
        return Examined(None, (problem,))
    # Of the name alone: the paths in the file do not move with a link to it.
    folder = str(path.absolute().parent)
    checked = check(content, file=file, folder=folder, read=files.read)
    problems = checked.problems
    if to_run and checked.settings is not None:
        faults = check_machine(checked.settings, files.read)
        problems += tuple(Problem(file, *fault) for fault in faults if checked.is_good(fault.key))
    configuration = None if is_fatal(problems) else checked.configuration
    return Examined(configuration, problems, checked.settings, checked.origins)


def _read(path: str, limit: int = OTHER_MAX) -> bytes | str:
    """Return the content of a file of at most `limit` bytes, or the reason of a failure.

    Only a regular file is opened: opening a FIFO would block, and a device may act on it.
    """
    try:
        kind = _kind(Path(path).stat().st_mode)
        if kind:
            return kind
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as stream:
            # Another file may have got the name in between.
            kind = _kind(os.fstat(descriptor).st_mode)
            content = b"" if kind else stream.read(limit + 1)
    except OSError as error:
        return reason_of(error)
    if len(content) > limit:
        return f"is larger than {limit // (1024 * 1024)} MB"
    return kind or content


def _kind(mode: int) -> str:
    """Return what a path leads to, "" for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "is not a regular file")
