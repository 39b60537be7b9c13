# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients: those that note the reply to each request, and those that are killed."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from harness import Client

from chaos.record import brief
from chaos.scene import HOSTS

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 30.0
"""Seconds after which a request counts as stuck; every limit of the daemon is shorter."""

PAUSE: Final = 0.01
"""Seconds between two requests of a client."""

STAY: Final = 20
"""Requests on one connection, of a client that keeps its connection."""


SIZES: Final = (0, 20, 200, 2000, 100_000)
OFTEN: Final = (5, 10, 5, 5, 1)
"""Bytes of filling in a request, and how often each is taken."""


class Outcome(NamedTuple):
    """One request and its outcome. Times are monotonic seconds."""

    began: float
    ended: float
    host: str
    request: bytes
    """Shortened."""
    what: str
    """ok, con_lost, none (no daemon there), cut (the connection ended), stuck, or wrong."""


class Clients:
    """Threads that send one unique request after another, to all hosts."""

    def __init__(self, sockets: Path, seed: int, clients: int) -> None:
        self.outcomes: list[Outcome] = []
        self.wrong: list[tuple[bytes, bytes]] = []
        self._sockets = sockets
        self._numbers = count()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(random.Random(f"{seed}/{i}"), i % 2 == 1))
            for i in range(clients)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; wait for requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE + 5.0)

    def _ask(self, chance: random.Random, stays: bool) -> None:  # noqa: FBT001 - one thread's way
        while not self._stop.wait(PAUSE):
            host = chance.choice(HOSTS)
            for _ in range(STAY if stays else 1):
                if self._one(chance, host) or self._stop.is_set():
                    break

    def _one(self, chance: random.Random, host: str) -> bool:
        """Send one request, or two at once, on a connection; return whether it has ended."""
        texts = [self._text(chance, host) for _ in range(chance.choice((1, 1, 1, 2)))]
        verbs = [chance.choice((b"echo:", b"echo:", b"encrypt:eget:")) for _ in texts]
        began = time.monotonic()
        over = False
        try:
            with Client(self._sockets / host, PATIENCE) as client:
                lines = zip(verbs, texts, strict=True)
                client.send(b"".join(verb + text + b"\n" for verb, text in lines))
                for verb, text in zip(verbs, texts, strict=True):
                    reply = client.line() if not over else b""
                    over |= self._note(began, host, verb, text, reply)
        except TimeoutError:
            self._add(began, host, verbs[0] + texts[0], "stuck")
        except (ConnectionRefusedError, FileNotFoundError):
            self._add(began, host, verbs[0] + texts[0], "none")
        except OSError:
            self._add(began, host, verbs[0] + texts[0], "cut")
        else:
            return over
        return True

    def _text(self, chance: random.Random, host: str) -> bytes:
        (size,) = chance.choices(SIZES, OFTEN)
        return b"%s:%08d:" % (host.encode(), next(self._numbers)) + b"x" * size

    def _note(self, began: float, host: str, verb: bytes, text: bytes, reply: bytes) -> bool:
        kinds = {text + b"\n": "ok", b"con_lost\n": "con_lost"}
        what = kinds.get(reply, "wrong" if reply.endswith(b"\n") else "cut")
        if what == "wrong":
            self.wrong.append(((verb + text)[:40], reply[:60]))
        self._add(began, host, verb + text, what)
        return what == "cut"

    def _add(self, began: float, host: str, request: bytes, what: str) -> None:
        request = brief(request.removeprefix(b"encrypt:"))
        self.outcomes.append(Outcome(began, time.monotonic(), host, request, what))

    def probe(self, host: str, number: int) -> str:
        """Send one more request, and return its outcome."""
        text = b"%s:probe%d:" % (host.encode(), number)
        began = time.monotonic()
        try:
            with Client(self._sockets / host, PATIENCE) as client:
                client.send(b"echo:" + text + b"\n")
                self._note(began, host, b"echo:", text, client.line())
                return self.outcomes[-1].what
        except OSError:
            return "none"


class Victim:
    """A client process that requests large replies, and is stopped and killed."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, __file__, str(self._sockets)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def again(self) -> None:
        """Kill it, and start another one."""
        self.kill()
        self.process = self._start()


def run_victim(sockets: Path, stop: Callable[[], bool]) -> None:
    """Request large replies and small ones, and ignore them."""
    chance = random.Random()
    while not stop():
        host = chance.choice(HOSTS)
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(2.0)
                sock.connect(str(sockets / host))
                size = chance.choice((10, 1_000_000, 5_000_000))
                sock.sendall(b"big:%d\nping\n" % size)
                while size > 0:
                    size -= len(sock.recv(65536)) or size
        except OSError:
            time.sleep(0.05)
        time.sleep(0.02)


if __name__ == "__main__":
    END = time.monotonic() + 3600.0
    run_victim(Path(sys.argv[1]), lambda: time.monotonic() > END)
