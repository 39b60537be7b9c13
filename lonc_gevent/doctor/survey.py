# SPDX-License-Identifier: GPL-2.0-or-later
"""Examination of every host: a table, and the `[hosts.ID]` tables that fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from gevent.pool import Pool

from lonc_gevent.configuration.problems import dotted

from .diagnosis import differing
from .examination import Doctor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lonc_gevent.configuration.settings import Configuration, HostSettings

    from .diagnosis import Trial

AT_A_TIME: Final = 16
"""Hosts that are examined at a time."""

HEAD: Final = ("HOST", "MODE", "NEGOTIATION", "LOND", "TIME", "TO SET")


class Result(NamedTuple):
    """The result of one host. to_set: key -> value; a key of `[network]` has a dot."""

    host: str
    row: tuple[str, ...]
    to_set: dict[str, object]
    works: bool


def survey(configuration: Configuration, timeout: float) -> list[Result]:
    """Examine all hosts, as `lonc-gevent doctor HOST` does, on connections of their own."""
    pool = Pool(AT_A_TIME)
    found: list[Result] = pool.map(
        lambda host: _examine(configuration, host, timeout), configuration.hosts
    )
    return found


def _examine(configuration: Configuration, host: HostSettings, timeout: float) -> Result:
    doctor = Doctor(configuration, host, lambda _line: None, timeout)
    doctor.examine()
    configured = doctor.configured
    works = configured is not None and configured.works
    trials = [*([configured] if configured else []), *doctor.others]
    best = next((trial for trial in trials if trial.works), None)
    if best is None or configured is None:
        return Result(host.id, (host.id, "-", "-", "-", "-", _failure(trials)), {}, works=False)
    to_set = {} if works else dict(differing(configured.way, best.way))
    version = "-" if best.lond_version is None else f"1.{best.lond_version}"
    mode = f"{best.way.security} (fell back)" if best.fell_back else best.way.security
    took = f"{(best.handshake_s + best.reply_s) * 1000:.0f} ms"
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in to_set.items())
    row = (host.id, mode, best.way.negotiation, version, took, shown or ("" if works else "slow"))
    return Result(host.id, row, to_set, works=works)


def _failure(trials: list[Trial]) -> str:
    """Return why the configured settings do not work, when no others do either."""
    if not trials:
        return "cannot be connected to"
    first = trials[0]
    return f"{first.error}: {first.detail}" if first.error else "wrong replies"


def tables(results: list[Result]) -> Iterator[str]:
    """Yield lines of TOML: the tables of hosts that need other settings."""
    for result in results:
        own = {key: value for key, value in result.to_set.items() if "." not in key}
        if own:
            yield f"[{dotted('hosts', result.host)}]"
            yield from (f"{key} = {json.dumps(value)}" for key, value in own.items())
    shared = {k: v for result in results for k, v in result.to_set.items() if "." in k}
    for key, value in shared.items():
        yield f"# needed by at least one host, and holds for all: {key} = {json.dumps(value)}"
