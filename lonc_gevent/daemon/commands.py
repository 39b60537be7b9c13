# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of operators: signals and `POST /reload`.

The main greenlet runs one command at a time. Reading the configuration and rehearsing a restart
happen in threads; what follows from their results is one more entry of the signal queue.
"""

from __future__ import annotations

import os
import select
import sys
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import gevent

from lonc_gevent.admin.report import describe, text_report, write_whole
from lonc_gevent.configuration.files import Files
from lonc_gevent.configuration.shard import part
from lonc_gevent.errors import LoncError
from lonc_gevent.eventloop import in_slices

from . import rehearsal, systemd
from .file_watch import FileWatch
from .handover import VERSION, exec_again
from .requirements import examine, log_problems
from .signal_queue import Command, hold_signals, release_signals, stacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from lonc_gevent.configuration.files import Examined
    from lonc_gevent.configuration.shard import Shard
    from lonc_gevent.logs import Logs

    from .drain import Drain
    from .handover import Handover
    from .hosts import Hosts
    from .parts import Parts
    from .rehearsal import Rehearsal
    from .reloads import Reloads
    from .signal_queue import SignalQueue

LAST_LINES = 0.05
"""Seconds that a slow log reader can delay a restart in place; most lines are written before."""

REPORT_INTERVAL: Final = 1.0
"""Seconds between two status reports: a report of many hosts is a lot of work, and of log."""

STACKS_TIMEOUT: Final = 10.0
STACKS_PAUSE: Final = 0.01
"""Seconds that the reader of stderr has to take the stacks, and between two tries to write."""

STDERR: Final = 2

_Found = TypeVar("_Found")


class Commands:
    """Runs commands until one of them is to stop.

    config     the TOML file, which is read again for each reload
    parts      tries again what failed
    reloads    keeps the results of reloads
    hand_over  returns what the next program in this process takes over, given the accepted files
    outline    returns the same for a rehearsal
    """

    def __init__(  # noqa: PLR0913 - the collaborators of the commands, each used
        self,
        config: Path,
        logs: Logs,
        signals: SignalQueue,
        hosts: Hosts,
        drain: Drain,
        *,
        shard: Shard | None,
        parts: Parts,
        reloads: Reloads,
        hand_over: Callable[..., Handover],
        outline: Callable[[], Handover],
    ) -> None:
        self.config = config
        self.log = logs.logger
        self.signals = signals
        self.hosts = hosts
        self.drain = drain
        self.shard = shard
        self.watch = FileWatch(hosts.configuration, hosts.files)
        self.parts = parts
        self.reloads = reloads
        self._hand_over = hand_over
        self._outline = outline
        self._flush = logs.flush
        self._threadpool = gevent.get_hub().threadpool
        self._at_work: set[Command] = set()
        self._report: gevent.Greenlet[..., None] | None = None
        self._reported = -inf

    def __repr__(self) -> str:
        return f"<Commands {self.signals!r}>"

    def run(self) -> None:
        """Run one command after another, until one is to stop."""
        actions: dict[Command, Callable[[], object]] = {
            Command.RESTART: self._check_for_restart,
            Command.HOSTS: self._read_hosts,
            Command.STATUS: self._schedule_report,
            Command.STACKS: partial(gevent.spawn, self._write_stacks),
        }
        self.parts.required = False
        gevent.spawn(self.watch.run, self._file_changed)
        while not self.signals.stops:
            command = self.signals.get()
            try:
                if not isinstance(command, Command):
                    command()
                elif command is not Command.STOP:
                    actions[command]()
            except Exception:  # noqa: BLE001 - the hosts are served on after any failure
                gevent.get_hub().handle_error(self, *sys.exc_info())

    def _in_background(
        self, command: Command, find: Callable[[], _Found], act: Callable[[_Found], None]
    ) -> None:
        """Call `find` in a thread, and put `act` with its result into the queue.

        Does nothing while the same command is at work. If no thread can be started, or there is no
        descriptor, the command is refused.
        """
        if command in self._at_work:
            return
        self._at_work.add(command)

        def run() -> None:
            try:
                self.signals.put(partial(act, self._threadpool.apply(find)))
            except (OSError, RuntimeError) as error:
                self.signals.put(partial(self._refuse, command, [f"not examined ({error})"]))
            finally:
                self._at_work.discard(command)

        gevent.spawn(run)

    def _refuse(self, command: Command, problems: list[str]) -> None:
        problems = rehearsal.bounded(problems)
        self.log.error("reload_refused", reload=command.value, error=problems[0], problems=problems)
        self.reloads.refuse(problems)
        if command is Command.RESTART:
            self.reloads.answer(problems)
        self._report_ready()

    # -- reports -----------------------------------------------------------------------------

    def _schedule_report(self) -> None:
        """Report the status, REPORT_INTERVAL after the last report, for all USR1 until then."""
        if not self._report:
            wait = max(self._reported + REPORT_INTERVAL - monotonic(), 0.0)
            self._report = gevent.spawn_later(wait, self.signals.put, self.report_status)

    def report_status(self) -> None:
        """Log a `status` event for each host, and open the retry gates (USR1)."""
        self._reported = monotonic()
        pools = tuple(self.hosts.pools.values())
        report = text_report(pools)  # of the state before the gates open
        for pool in in_slices(pools):
            self.log.info("status", **describe(pool, self.shard))
            pool.retry_now()
        report_file = self.hosts.configuration.settings.daemon.report_file
        if report_file:
            gevent.spawn(self._write_report, Path(report_file), report)

    def _write_report(self, path: Path, text: str) -> None:
        write = partial(self._threadpool.apply, write_whole, (path, text))
        try:
            write()
        except OSError as error:
            self.log.warning("report_failed", path=str(path), error=error.strerror)
            self.parts.try_again("daemon.report_file", str(error), write)

    def _write_stacks(self) -> None:
        """Write the stack of every greenlet to stderr, as fast as its reader takes it (QUIT).

        Uses no thread, as one may be impossible to start, and never blocks: a descriptor that
        poll() calls writable takes PIPE_BUF bytes.
        """
        left, deadline = memoryview(stacks()), monotonic() + STACKS_TIMEOUT
        stderr = select.poll()
        stderr.register(STDERR, select.POLLOUT)
        while left and monotonic() < deadline:
            if stderr.poll(0):
                left = left[os.write(STDERR, left[: select.PIPE_BUF]) :]
            else:
                gevent.sleep(STACKS_PAUSE)

    # -- hosts -------------------------------------------------------------------------------

    def _file_changed(self, path: str) -> None:
        self.log.info("file_changed", path=path)
        self.signals.put(Command.HOSTS)

    def _read_hosts(self) -> None:
        """Read the configuration in a thread, then serve its hosts (USR2)."""
        files = Files()
        self._in_background(
            Command.HOSTS,
            partial(examine, self.config, files),
            partial(self._change_hosts, files.contents),
        )

    def _change_hosts(self, files: dict[str, bytes], examined: Examined) -> None:
        self.watch.reloaded(examined.configuration or self.hosts.configuration, files)
        try:
            configuration = examined.accepted()
            if self.shard is not None:
                configuration = part(configuration, self.shard)
            changes = self.hosts.change(configuration)
        except LoncError as error:
            self._refuse(Command.HOSTS, str(error).splitlines())
            return
        log_problems(self.log, examined.problems)
        self.reloads.succeed()
        self.log.info(
            "hosts_reloaded",
            hosts=len(self.hosts.pools),
            added=len(changes.added),
            removed=len(changes.removed),
            changed=len(changes.changed),
        )
        self._report_ready()

    def _report_ready(self) -> None:
        systemd.ready(f"{len(self.hosts.pools)} hosts")

    # -- restart in place --------------------------------------------------------------------

    def reload(self, client: int) -> list[str]:
        """Restart as HUP does, for a client that waits for the result; return the problems.

        Does not return if there are none: the next program answers on the client's descriptor.
        """
        if self.reloads.waiting or Command.RESTART in self._at_work:
            return ["another reload is in progress; try again"]
        self.signals.put(Command.RESTART)
        return self.reloads.wait(client)

    def _check_for_restart(self) -> None:
        """Have a child process rehearse the start of the new code and configuration (HUP)."""
        if Command.RESTART in self._at_work:
            return
        systemd.reloading()
        self._in_background(
            Command.RESTART,
            # The outline has descriptors of its own, which only a rehearsal that begins closes.
            lambda: rehearsal.rehearse(self.config, self._outline()),
            self._restart,
        )

    def _restart(self, rehearsed: Rehearsal) -> None:
        """Start the new program in this process, unless the rehearsal found problems."""
        if rehearsed.problems:
            self._refuse(Command.RESTART, rehearsed.problems)
            return
        timeout = self.hosts.configuration.settings.admin.stop_timeout
        self.log.info(
            "restarting",
            clients=self.drain.clients.count,
            stop_timeout_s=timeout,
            rehearsed=bool(rehearsed.files),
        )
        lost, paused, whole = 0, self.hosts.paused, rehearsed.version == VERSION
        if whole:
            self.drain.settle(partial(self._flush, 0.0))
        else:
            self.log.warning("handover_reduced", version=rehearsed.version, expected=VERSION)
            lost = self.drain.hold(timeout)
        if not self.signals.stops:
            self._exec(lost, partial(self._hand_over, rehearsed.files, paused, whole=whole))
        self.drain.go_on()
        self._report_ready()

    def _exec(self, lost: int, hand_over: Callable[[], Handover]) -> None:
        """Execute the new program. Returns if that fails, after logging why."""
        handover = hand_over()
        self.log.info("handing_over", clients=len(handover.clients), con_lost=lost)
        try:
            exec_again(handover, self._before_exec)
        except OSError as error:
            release_signals()
            self.log.error("restart_failed", error=error.strerror)  # noqa: TRY400 - no fault of ours
            problems = [f"the new program could not be started ({error.strerror})"]
            self.reloads.refuse(problems)
            self.reloads.answer(problems)

    def _before_exec(self) -> None:
        hold_signals()
        self._flush(LAST_LINES)
