# SPDX-License-Identifier: GPL-2.0-or-later
"""1,000 sessions in each security mode: both versions of TLS, each way to leave it.

Every session is a handshake on a connection of its own with a fake lond, and on it a request
in clear and a sealed one. No session may fail, and none may be less secure than it was told to
be. What must be refused (another CA, an expired certificate, another name) is refused each time.

    modes [--sessions N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import msgspec
from certificates import Authority

from lonc_gevent.backend.lond import connect
from lonc_gevent.backend.tls import Credentials
from lonc_gevent.configuration.settings import HostSettings, Network, Pool, Security
from lonc_gevent.errors import LondError, TlsFailedError
from lonc_gevent.eventloop.stream import Stream
from lonc_gevent.eventloop.turns import Turns
from lonc_gevent.fake_lond import FakeLond, Manner
from lonc_gevent.fake_lond.tls import TlsManner

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 8
"""Sessions under way at the same time."""


@dataclass(frozen=True)
class Case:
    """What to do many times, and what must come of it."""

    name: str
    security: Security
    manner: Manner
    credentials: Credentials
    expected: str = ""
    """The security of the session; "": refused."""


def cases(directory: Path) -> Iterator[Case]:
    """Give all modes, and what must be refused."""
    manner = Manner(ids=("msul2",), client_id="msul1")
    ours, other = Authority(directory), Authority(directory, "other")
    pair = ours.sign("lonc", "msul1")
    network = Network(
        host_id="msul1",
        hosts_tab="/x",
        certificate=str(pair.certificate),
        private_key=str(pair.key),
        ca_certificate=str(ours.certificate),
    )
    plain = Credentials(key_directory=str(directory))
    yield Case("insecure", "insecure", manner, plain, "insecure")
    yield Case("local", "local", replace(manner, allow_insecure=False), plain, "local")
    only_ssl = replace(manner, allow_insecure=False)

    def ours_with(*, close_notify: bool = False) -> Credentials:
        credentials = Credentials()
        credentials.load(msgspec.structs.replace(network, tls_close_notify=close_notify))
        return credentials

    def tls(authority: Authority, name: str, host: str = "localhost", days: int = 99) -> TlsManner:
        signed = authority.sign(name, host, days=days)
        return TlsManner(signed.certificate, signed.key, authority.certificate)

    good = tls(ours, "lond")
    for version in ("1.2", "1.3"):
        for way in ("none", "send", "late", "both"):
            speaks = replace(good, version=version, close_notify=way)
            lond = replace(only_ssl, tls=speaks)
            name = f"ssl {version}, close_notify {way}"
            yield Case(name, "ssl", lond, ours_with(close_notify=way == "both"), "ssl")
        lond = replace(manner, tls=replace(good, version=version))
        yield Case(f"ssl-or-insecure {version}", "ssl-or-insecure", lond, ours_with(), "ssl")
    yield Case("ssl-or-insecure, none there", "ssl-or-insecure", manner, ours_with(), "insecure")
    for name, bad in (
        ("another CA", tls(other, "lond")),
        ("expired", tls(ours, "old", days=-1)),
        ("another name", tls(ours, "elsewhere", "elsewhere.example")),
    ):
        yield Case(f"ssl, {name}", "ssl", replace(manner, tls=bad), ours_with())
        yield Case(
            f"ssl-or-insecure, {name}",
            "ssl-or-insecure",
            replace(manner, tls=bad),
            ours_with(),
            "insecure",
        )


class Sessions:
    """Makes sessions of one case, and counts what came of them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.wrong: list[str] = []
        self.done = 0
        self._streams: set[Stream] = set()

    def run(self, count: int) -> None:
        """Make so many."""
        with FakeLond(self.case.manner) as lond:
            host = HostSettings(
                id="msul2",
                domain="dom",
                role="library",
                dns_name="localhost",
                address="127.0.0.1",
                port=lond.port,
                security=self.case.security,
                negotiation="auto",
                init_version="",
                client_id="msul1",
                server_id="msul2",
                pool=Pool(),
            )
            sweeper = gevent.spawn(self._sweep)
            todo = iter(range(count))
            workers = [gevent.spawn(self._work, host, todo) for _ in range(AT_ONCE)]
            gevent.joinall(workers, raise_error=True)
            sweeper.kill()

    def _work(self, host: HostSettings, todo: Iterator[int]) -> None:
        for _ in todo:
            stream = Stream(Turns(gevent.get_hub()))
            self._streams.add(stream)
            try:
                self._one(host, stream)
            finally:
                self._streams.discard(stream)
            self.done += 1

    def _one(self, host: HostSettings, stream: Stream) -> None:
        expected = self.case.expected
        try:
            lond = connect(host, gevent.get_hub(), stream, self.case.credentials)
        except TlsFailedError as error:
            if expected:
                self.wrong.append(str(error))
            return
        except LondError as error:
            self.wrong.append(f"{error.kind}: {error}")
            return
        session = lond.session
        stream.deadline = time.monotonic() + 10
        replies = bytes(lond.exchange(b"ping\n")), bytes(lond.exchange(b"encrypt:eget:it\n"))
        if session.security != expected or replies != (b"msul2\n", b"it\n"):
            self.wrong.append(f"{session.security} in place of {expected}, or another reply")
        if (session.security, host.security) == ("insecure", "ssl-or-insecure"):
            self.wrong += [] if session.fell_back else ["fell back without a word"]
        lond.close()

    def _sweep(self) -> None:
        while True:
            gevent.sleep(0.1)
            for stream in tuple(self._streams):
                if stream.deadline <= time.monotonic():
                    stream.expire()


def main() -> int:
    """Run all cases; 0 if not one session went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1000)
    count = parser.parse_args().sessions
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="lonc") as directory:
        for case in cases(Path(directory)):
            started = time.monotonic()
            sessions = Sessions(case)
            sessions.run(count)
            took = time.monotonic() - started
            wrong += len(sessions.wrong) + (sessions.done != count)
            what = f"{case.expected} each time" if case.expected else "refused each time"
            verdict = f"WRONG {len(sessions.wrong)}" if sessions.wrong else what
            print(f"{case.name:<34}{sessions.done:>6} sessions in {took:5.1f} s: {verdict}")
            for words in sorted(set(sessions.wrong))[:3]:
                print(f"    {words}")
        left = list(Path(directory).glob(".lonc-key*"))
    print(f"key files left: {len(left)}")
    print("as it should be" if not wrong and not left else f"NOT as it should be: {wrong} wrong")
    return int(bool(wrong or left))


if __name__ == "__main__":
    sys.exit(main())
