# SPDX-License-Identifier: GPL-2.0-or-later
"""A web process of each flavour, for test_client_flavours.py to start.

    python flavours.py sync|threads|gevent|asyncio|fork   a job as JSON on stdin, outcomes on stdout
    gunicorn flavours:application                      one call a request, as JSON, likewise

A job is {"sockets", "calls": [[host, request, timeout], ...]}: all at once, where the flavour
can. Or it is {"sockets", "host", "stop"}: ask again and again, by a client that keeps connections
and by `reply` in turns, until the file `stop` exists. Either may have "uid": the user to be.

fork: the client is used, and then by four children, each in a quarter of the calls or in a loop.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "gevent":
    import gevent
    from gevent import monkey

    monkey.patch_all()
    gevent.get_hub()  # imports modules, which the user of the job may not be able to read

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lonc_gevent.client import AsyncClient, Client, ClientError, aio, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WORKERS = 32
CHILDREN = 4

CLIENT = Client()
ASYNC_CLIENT = AsyncClient()


def one_call(sockets: str, host: str, request: str, timeout: float) -> str:
    """Return the reply, or the name of the error in angle brackets."""
    try:
        return CLIENT.reply(request.encode(), host, timeout=timeout, sockets=sockets).decode()
    except ClientError as error:
        return f"<{type(error).__name__}>"


async def one_aio_call(sockets: str, host: str, request: str, timeout: float) -> str:  # noqa: ASYNC109
    """Do the same with asyncio."""
    try:
        answer = await ASYNC_CLIENT.reply(request.encode(), host, timeout=timeout, sockets=sockets)
        return answer.decode()
    except ClientError as error:
        return f"<{type(error).__name__}>"


class Looper:
    """Asks again and again; counts what comes."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.options = {"sockets": job["sockets"], "timeout": 10}
        self.outcomes: dict[str, int] = {}
        self.last = ""
        self.number = 0

    def next(self) -> str | None:
        """Return the next text to ask for, or None: it is time to stop."""
        self.number += 1
        if os.path.exists(self.job["stop"]):  # noqa: PTH110 - the same under asyncio
            return None
        return f"{os.getpid()}-{id(self)}-{self.number}"

    def note(self, text: str, outcome: bytes | ClientError) -> None:
        """Count an outcome."""
        if isinstance(outcome, ClientError):
            self.last = type(outcome).__name__
        else:
            self.last = "ok" if outcome == text.encode() else "WRONG"
        self.outcomes[self.last] = self.outcomes.get(self.last, 0) + 1

    def loop(self) -> None:
        """Ask by turns, blocking."""
        while (text := self.next()) is not None:
            ask = CLIENT.reply if self.number % 2 else reply
            try:
                self.note(text, ask(f"echo:{text}".encode(), self.job["host"], **self.options))
            except ClientError as error:
                self.note(text, error)
                time.sleep(0.01)

    async def loop_aio(self) -> None:
        """Ask by turns, with asyncio."""
        while (text := self.next()) is not None:
            ask = ASYNC_CLIENT.reply if self.number % 2 else aio.reply
            request = f"echo:{text}".encode()
            try:
                self.note(text, await ask(request, self.job["host"], **self.options))
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
    if flavour == "fork":
        return run_forked(job)
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


def run_forked(job: dict[str, Any]) -> list[Any]:
    """Use the client, and then do the job in children: at once, and each with it alone."""
    one_call(job["sockets"], "msul2", "ping", 10)
    pipes = []
    for number in range(CHILDREN):
        reader, writer = os.pipe()
        if os.fork() == 0:
            calls = {"calls": job["calls"][number::CHILDREN]} if "calls" in job else {}
            Path(f"/dev/fd/{writer}").write_text(json.dumps(run("sync", job | calls)))
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    results = [json.loads(Path(f"/dev/fd/{reader}").read_text()) for reader in pipes]
    for _ in range(CHILDREN):
        os.wait()
    if "calls" not in job:
        return [report for result in results for report in result]
    return [results[n % CHILDREN][n // CHILDREN] for n in range(len(job["calls"]))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer a call over HTTP, as any WSGI application would."""
    job = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if "uid" in job:
        os.seteuid(job["uid"])
    body = json.dumps(one_call(job["sockets"], *job["call"])).encode()
    if "uid" in job:
        os.seteuid(0)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    """Do the job on stdin."""
    job = json.load(sys.stdin)
    if "uid" in job:
        os.seteuid(job["uid"])
    sys.stdout.write(json.dumps(run(sys.argv[1], job)))


if __name__ == "__main__":
    main()
