# SPDX-License-Identifier: GPL-2.0-or-later
"""A web process of each flavour, for test_client_flavours.py to start.

    python flavours.py sync|threads|gevent|asyncio     a job as JSON on stdin, outcomes on stdout
    gunicorn flavours:application                      one call a request, as JSON, likewise

A job is {"sockets", "calls": [[host, request, timeout], ...]}: all at once, where the flavour
can. Or it is {"sockets", "host", "stop"}: ask again and again, by `reply` and on a `Connection`
in turns, until the file `stop` exists.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "gevent":
    from gevent import monkey

    monkey.patch_all()

import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lonc_gevent.client import ClientError, Connection, aio, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS = 32


def one_call(sockets: str, host: str, request: str, timeout: float) -> str:
    """Return the reply, or the name of the error in angle brackets."""
    try:
        return reply(request.encode(), host, timeout=timeout, sockets=sockets).decode()
    except ClientError as error:
        return f"<{type(error).__name__}>"


async def one_aio_call(sockets: str, host: str, request: str, timeout: float) -> str:  # noqa: ASYNC109
    """Do the same with asyncio."""
    try:
        answer = await aio.reply(request.encode(), host, timeout=timeout, sockets=sockets)
        return answer.decode()
    except ClientError as error:
        return f"<{type(error).__name__}>"


class Looper:
    """Asks again and again; counts what comes."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.outcomes: dict[str, int] = {}
        self.last = ""
        self.number = 0

    def next(self) -> str | None:
        """Return the next text to ask for, or None: it is time to stop."""
        self.number += 1
        if os.path.exists(self.job["stop"]):  # noqa: PTH110 - the same under asyncio
            return None
        return f"{id(self)}-{self.number}"

    def note(self, text: str, outcome: bytes | ClientError) -> None:
        """Count an outcome."""
        if isinstance(outcome, ClientError):
            self.last = type(outcome).__name__
        else:
            self.last = "ok" if outcome == text.encode() else "WRONG"
        self.outcomes[self.last] = self.outcomes.get(self.last, 0) + 1

    def loop(self) -> None:
        """Ask by turns, blocking."""
        host, sockets = self.job["host"], self.job["sockets"]
        with Connection(host, sockets=sockets, timeout=10) as connection:
            while (text := self.next()) is not None:
                request = f"echo:{text}".encode()
                try:
                    if self.number % 2:
                        answer = connection.reply(request)
                    else:
                        answer = reply(request, host, timeout=10, sockets=sockets)
                    self.note(text, answer)
                except ClientError as error:
                    self.note(text, error)
                    time.sleep(0.01)

    async def loop_aio(self) -> None:
        """Ask by turns, with asyncio."""
        host, sockets = self.job["host"], self.job["sockets"]
        async with aio.Connection(host, sockets=sockets, timeout=10) as connection:
            while (text := self.next()) is not None:
                request = f"echo:{text}".encode()
                try:
                    if self.number % 2:
                        answer = await connection.reply(request)
                    else:
                        answer = await aio.reply(request, host, timeout=10, sockets=sockets)
                    self.note(text, answer)
                except ClientError as error:
                    self.note(text, error)
                    await asyncio.sleep(0.01)

    @property
    def report(self) -> dict[str, Any]:
        """What came, and what came last."""
        return {"outcomes": self.outcomes, "last": self.last}


def at_once(workers: int) -> Callable[..., Iterable[Any]]:
    """Return a `map` whose calls are made in so many threads; one is none."""
    return map if workers == 1 else ThreadPoolExecutor(workers).map


def run(flavour: str, job: dict[str, Any]) -> list[Any]:
    """Do a job."""
    workers = 1 if flavour == "sync" else WORKERS
    if "calls" in job:
        sockets = job["sockets"]
        if flavour == "asyncio":

            async def all_calls() -> list[str]:
                return await asyncio.gather(*(one_aio_call(sockets, *c) for c in job["calls"]))

            return asyncio.run(all_calls())
        return list(at_once(workers)(lambda call: one_call(sockets, *call), job["calls"]))
    loopers = [Looper(job) for _ in range(min(workers, 4))]
    if flavour == "asyncio":

        async def all_loops() -> None:
            await asyncio.gather(*(looper.loop_aio() for looper in loopers))

        asyncio.run(all_loops())
    else:
        list(at_once(workers)(Looper.loop, loopers))
    return [looper.report for looper in loopers]


_local = threading.local()
"""A worker's kept connection: one a thread, or a greenlet where gevent has patched."""


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer a call over HTTP, as any WSGI application would."""
    job = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    host, request, timeout = job["call"]
    if job["kept"]:
        if getattr(_local, "connection", None) is None:
            _local.connection = Connection(host, sockets=job["sockets"])
        try:
            outcome = _local.connection.reply(request.encode(), timeout=timeout).decode()
        except ClientError as error:
            outcome = f"<{type(error).__name__}>"
    else:
        outcome = one_call(job["sockets"], host, request, timeout)
    body = json.dumps(outcome).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    Path("/dev/stdout").write_text(json.dumps(run(sys.argv[1], json.load(sys.stdin))))
