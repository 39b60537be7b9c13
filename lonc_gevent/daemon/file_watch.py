# SPDX-License-Identifier: GPL-2.0-or-later
"""Watch of the files that LON-CAPA changes: hosts.tab, loncapa.conf and those beside them."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import gevent

from lonc_gevent.configuration import hosts_tab, loncapa_values
from lonc_gevent.configuration.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lonc_gevent.configuration.settings import Configuration

INTERVAL: Final = 2.0
"""Seconds between two looks at the files."""

SETTLED: Final = 3.0
"""Seconds without a further change, after which a file counts as written completely."""


class FileWatch:
    """Finds out that a watched file has another content than at the last reload.

    examined: path -> content, as at the start
    """

    def __init__(self, configuration: Configuration, examined: Mapping[str, bytes]) -> None:
        self._configuration = configuration
        self._examined: dict[str, bytes | None] = {}
        self._versions: list[tuple[int, ...]] = []
        self._changed_at = 0.0
        self._is_settled = False
        self.reloaded(configuration, examined)

    def __repr__(self) -> str:
        return f"<FileWatch {', '.join(self._paths)}>"

    @property
    def _paths(self) -> list[str]:
        network = self._configuration.settings.network
        if not network.watch_files:
            return []
        paths = [network.hosts_tab]
        if network.dns_hosts_tab:
            paths.append(hosts_tab.dns_path(network.hosts_tab))
        if network.loncapa_conf:
            paths += loncapa_values.possible_paths(network.loncapa_conf)
        return paths

    def reloaded(self, configuration: Configuration, examined: Mapping[str, bytes]) -> None:
        """Note the files of a reload, whether they were accepted or not."""
        self._configuration = configuration
        self._examined = {path: examined.get(path) for path in self._paths}

    def run(self, reload: Callable[[str], None]) -> None:
        """Call `reload` with the path of a file that has changed, for ever.

        Reads in a thread, as the files may be on a server that does not respond.
        """
        threadpool = gevent.get_hub().threadpool
        while True:
            gevent.sleep(INTERVAL)
            try:
                changed = threadpool.apply(self.find_change, (monotonic(),))
            except RuntimeError:  # no thread can be started now
                continue
            if changed:
                reload(changed)

    def find_change(self, now: float) -> str:
        """Return the path of a changed file once none has changed for SETTLED seconds, else "".

        now: monotonic seconds
        """
        paths = self._paths
        versions = [version(path) for path in paths]
        if versions != self._versions:
            self._versions, self._changed_at, self._is_settled = versions, now, False
        elif not self._is_settled and now - self._changed_at >= SETTLED:
            self._is_settled = True
            files = Files()
            for path in paths:
                files.read(path)
                if files.contents.get(path) != self._examined.get(path):
                    return path
        return ""


def version(path: str) -> tuple[int, ...]:
    """Return values that change with each change of a file; none if it cannot be found."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
