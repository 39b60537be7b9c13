# SPDX-License-Identifier: GPL-2.0-or-later
"""All that a start needs, in one list: for `check`, the rehearsal of a restart, and `run`."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from lonc_gevent.configuration import files
from lonc_gevent.configuration.problems import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from lonc_gevent.configuration.files import Examined
    from lonc_gevent.configuration.problems import Problem


def examine(config: Path) -> Examined:
    """Read the configuration; find all that keeps the daemon from a start, or should be better.

    Blocks: call it in a thread where there is an event loop.
    """
    examined = files.examine(config, to_run=True)
    if examined.configuration is None:
        return examined
    doubts = files.doubts(str(config), examined.configuration, time())
    return examined._replace(problems=(*examined.problems, *doubts))


def log_problems(logger: FilteringBoundLogger, problems: Iterable[Problem]) -> None:
    """Log what the daemon starts with although it should be corrected, one event each."""
    for problem in problems:
        if problem.severity is Severity.WARNING:
            logger.warning("configuration_warning", error=str(problem))
        else:
            logger.error("configuration_error", error=str(problem))
