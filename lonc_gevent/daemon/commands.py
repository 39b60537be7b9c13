# SPDX-License-Identifier: GPL-2.0-or-later
"""What people ask of the running daemon, by signals or the admin socket, and how it is done.

One greenlet, the main one, does one thing after another; what takes long is found out in a
thread, and what follows from it comes back as one more thing to do.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import gevent

from lonc_gevent.admin.report import describe, text_report, write_whole
from lonc_gevent.configuration.shard import part
from lonc_gevent.errors import LoncError

from . import rehearsal, systemd
from .handover import exec_again
from .requirements import examine, log_problems
from .signal_queue import Request, hold_signals, release_signals, stacks

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
    from .signal_queue import Control

LAST_LINES = 1.0
"""Seconds that a slow log reader can hold up a restart in place."""

STDERR: Final = 2

_Found = TypeVar("_Found")


class Orders:
    """Does what is asked for until somebody asks to stop.

    config     the TOML file, to be read again
    parts      gets what could not be had
    reloads    has the results of reloads
    hand_over  returns what the next program in this process takes up, given the accepted files
    outline    returns the same for a rehearsal
    """

    def __init__(  # noqa: PLR0913 - it joins what else stands apart
        self,
        config: Path,
        logs: Logs,
        control: Control,
        hosts: Hosts,
        drain: Drain,
        *,
        shard: Shard | None,
        parts: Parts,
        reloads: Reloads,
        hand_over: Callable[[dict[str, bytes]], Handover],
        outline: Callable[[], Handover],
    ) -> None:
        self.config = config
        self.log = logs.logger
        self.control = control
        self.hosts = hosts
        self.drain = drain
        self.shard = shard
        self.parts = parts
        self.reloads = reloads
        self._hand_over = hand_over
        self._outline = outline
        self._flush = logs.flush
        self._threadpool = gevent.get_hub().threadpool
        self._at_work: set[Request] = set()

    def __repr__(self) -> str:
        return f"<Orders {self.control!r}>"

    def obey(self) -> None:
        """Act on what is asked for, until somebody asks to stop."""
        actions = {
            Request.RESTART: self._check_for_restart,
            Request.HOSTS: self._read_hosts,
            Request.STATUS: self.report_status,
            Request.STACKS: self._show_stacks,
        }
        while not self.control.stops:
            request = self.control.get()
            try:
                if not isinstance(request, Request):
                    request()
                elif request is not Request.STOP:
                    actions[request]()
            except Exception:  # noqa: BLE001 - whatever it was, all hosts are served on
                gevent.get_hub().handle_error(self, *sys.exc_info())

    def _in_background(
        self, request: Request, find: Callable[[], _Found], act: Callable[[_Found], None]
    ) -> None:
        """Do `find` in a thread, then `act` on what it returned here. One of a kind at a time."""
        if request in self._at_work:
            return
        self._at_work.add(request)

        def find_out() -> None:
            try:
                found = self._threadpool.apply(find)
            finally:
                self._at_work.discard(request)
            self.control.put(partial(act, found))

        gevent.spawn(find_out)

    def _refuse(self, what: str, problems: list[str]) -> None:
        problems = rehearsal.bounded(problems)
        self.log.error("reload_refused", reload=what, error=problems[0], problems=problems)
        self.reloads.refuse(problems)

    # -- to tell -----------------------------------------------------------------------------

    def report_status(self) -> None:
        """Log one `status` event a host, and open the gate of each that is down (USR1)."""
        pools = self.hosts.pools.values()
        for pool in pools:
            self.log.info("status", **describe(pool, self.shard))
            pool.retry_now()
        report_file = self.hosts.configuration.settings.daemon.report_file
        if report_file:
            gevent.spawn(self._write_report, Path(report_file), text_report(pools))

    def _write_report(self, path: Path, text: str) -> None:
        write = partial(self._threadpool.apply, write_whole, (path, text))
        try:
            write()
        except OSError as error:
            self.log.warning("report_failed", path=str(path), error=error.strerror)
            self.parts.try_again("daemon.report_file", str(error), write)

    def _show_stacks(self) -> None:
        """Write the stack of every greenlet to stderr; the reader there may take its time."""
        self._threadpool.spawn(os.write, STDERR, stacks())

    # -- other hosts -------------------------------------------------------------------------

    def _read_hosts(self) -> None:
        """Read the configuration in a thread, then serve its hosts (USR2)."""
        self._in_background(Request.HOSTS, partial(examine, self.config), self._change_hosts)

    def _change_hosts(self, examined: Examined) -> None:
        try:
            configuration = examined.accepted()
            if self.shard is not None:
                configuration = part(configuration, self.shard)
            changes = self.hosts.change(configuration)
        except LoncError as error:
            self._refuse("hosts", str(error).splitlines())
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
        self._say_ready()

    def _say_ready(self) -> None:
        systemd.ready(f"{len(self.hosts.pools)} hosts")

    # -- restart in place --------------------------------------------------------------------

    def reload(self, client: int) -> list[str]:
        """Do what HUP does, for a client that waits for the result; return the problems.

        If all goes well it does not return: the next program answers on the client's descriptor.
        """
        if self.reloads.waiting or Request.RESTART in self._at_work:
            return ["another reload is in progress; try again"]
        self.control.put(Request.RESTART)
        return self.reloads.wait(client)

    def _check_for_restart(self) -> None:
        """Have a child process rehearse the start of the new code and configuration (HUP)."""
        if Request.RESTART in self._at_work:
            return
        systemd.reloading()
        rehearse = partial(rehearsal.rehearse, self.config, self._outline())
        self._in_background(Request.RESTART, rehearse, self._restart)

    def _restart(self, rehearsed: Rehearsal) -> None:
        """Start the new program in this process, unless there are problems with it."""
        if rehearsed.problems:
            self._refuse("restart", rehearsed.problems)
            self.reloads.answer(rehearsed.problems)
        else:
            timeout = self.hosts.configuration.settings.admin.stop_timeout
            self.log.info(
                "restarting",
                clients=self.drain.clients.count,
                stop_timeout_s=timeout,
                rehearsed=bool(rehearsed.files),
            )
            lost = self.drain.hold(timeout)
            if not self.control.stops:
                self._exec(lost, rehearsed.files)
            self.drain.go_on()
        self._say_ready()

    def _exec(self, lost: int, files: dict[str, bytes]) -> None:
        """Become the new program. If that fails, log why and return."""
        handover = self._hand_over(files)
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
