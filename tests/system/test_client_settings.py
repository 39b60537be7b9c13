# SPDX-License-Identifier: GPL-2.0-or-later
"""`Client` and `AsyncClient`: common settings, connections kept open, what is sent again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE

from lonc_gevent import client
from lonc_gevent.client import (
    ArgumentError,
    AsyncClient,
    Client,
    DisconnectedError,
    NoDaemonError,
    PermissionDeniedError,
    ReplyError,
    Sockets,
    TimedOutError,
    UnknownHostError,
    aio,
)
from lonc_gevent.client.kept import KeptSockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fakedaemon import FakeDaemon
    from harness import Network

    Fake = Callable[[Callable[[socket.socket], None]], FakeDaemon]


class AsyncioFlavour:
    """An AsyncClient that is called like a Client: one event loop for each call."""

    def __init__(self, **settings: Any) -> None:
        self.client = AsyncClient(**settings)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name in ("reply", "many", "critical"):
            return lambda *args, **options: asyncio.run(method(*args, **options))
        return method


@pytest.fixture(params=[Client, AsyncioFlavour])
def make(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give the maker of clients of each flavour; they are closed afterwards."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Any:
            one = request.param(**settings)
            stack.callback(one.close)
            return one

        yield make


@pytest.fixture
def up(net: Network) -> Network:
    """Give a network with the hosts msul1 and msul2 running and the host down not running."""
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.add("msul1")
    net.add("msul2")
    net.add("down", start=False)
    net.start()
    return net


def echo(sock: socket.socket) -> None:
    """Answer each line by itself."""
    while line := sock.recv(1000):
        sock.sendall(line)


def test_a_connection_serves_many_requests(short_path: Path, fake: Fake, make: Any) -> None:
    daemon = fake(echo)
    one = make(sockets=short_path)

    assert [one.reply(b"%d" % n, "fake") for n in range(50)] == [b"%d" % n for n in range(50)]
    assert one.many({"fake": b"x"}) == {"fake": b"x"}
    assert one.critical(b"x", "fake") == b"x"
    one.close()
    assert daemon.clients == 1


def test_without_kept_connections_each_request_opens_one(
    short_path: Path, fake: Fake, make: Any
) -> None:
    daemon = fake(echo)
    one = make(sockets=short_path, max_kept=0)

    for _ in range(3):
        one.reply(b"x", "fake")

    assert daemon.clients == 3


def test_kept_connections_are_bounded_over_all_hosts(up: Network) -> None:
    """The least recently used is closed."""
    with Client(sockets=up.sockets, max_kept=2) as one:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: one.reply(b"delay:100:%d" % n, "msul2"), range(8)))
        assert len(one._kept) == 2
        one.reply(b"ping", "msul1")
        assert sorted(sock.host for sock in one._kept._open) == ["msul1", "msul2"]
        one.reply(b"ping", "msul1")
        assert len(one._kept) == 2
    assert len(one._kept) == 0


def test_threads_share_a_client_and_get_their_own_replies(up: Network) -> None:
    def ask(number: int) -> bool:
        text = b"%d-" % number + b"x" * (number % 7 * 9973)
        return one.reply(b"echo:" + text, "msul2") == text

    with Client(sockets=up.sockets, timeout=PATIENCE) as one, ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(1000)))


def test_a_thousand_tasks_share_a_client_and_get_their_own_replies(up: Network) -> None:
    async def ask() -> list[bytes]:
        async with AsyncClient(sockets=up.sockets, timeout=PATIENCE) as one:
            calls = (one.reply(b"echo:%d" % number, "msul2") for number in range(1000))
            replies = await asyncio.gather(*calls)
            assert len(one._kept) == 20
            return replies

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        assert asyncio.run(ask()) == [b"%d" % number for number in range(1000)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_forked_child_has_connections_of_its_own(up: Network) -> None:
    """Though another thread was using the client, and its lock, while the process forked."""
    ended = threading.Event()

    def use() -> None:
        while not ended.is_set():
            one.reply(b"ping", "msul1")

    with Client(sockets=up.sockets, timeout=PATIENCE) as one:
        one.reply(b"ping", "msul2")
        thread = threading.Thread(target=use)
        thread.start()
        children = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                ok = False
                try:
                    ok = all(one.reply(b"echo:c%d" % n, "msul2") == b"c%d" % n for n in range(100))
                finally:
                    os._exit(0 if ok else 1)
            children.append(child)
        answers = [one.reply(b"echo:p%d" % n, "msul2") for n in range(300)]
        statuses = [os.waitpid(child, 0)[1] for child in children]
        ended.set()
        thread.join(PATIENCE)

    assert answers == [b"p%d" % n for n in range(300)]
    assert statuses == [0] * 5


def test_a_forked_child_can_use_a_lock_that_was_held() -> None:
    kept = KeptSockets(1)
    with kept._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if kept.take("x") is None else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_client_is_healed_after_a_restart_of_the_daemon(up: Network, make: Any) -> None:
    one = make(sockets=up.sockets)
    assert one.reply(b"ping", "msul2") == b"msul2"
    assert up.daemon
    up.daemon.end()
    up.daemon.close()

    with pytest.raises(NoDaemonError) as caught:
        one.reply(b"ping", "msul2")
    assert caught.value.may_have_run is False
    up.start()
    assert one.reply(b"ping", "msul2") == b"msul2"
    one.close()


def test_host_and_functions_are_the_same_requests(up: Network) -> None:
    with Client(sockets=up.sockets) as one:
        msul2 = one.host("msul2")
        assert msul2.reply(b"ping") == msul2.critical(b"ping") == b"msul2"
        assert repr(msul2) == "<Host msul2>"

    async def ask() -> list[bytes]:
        async with AsyncClient(sockets=up.sockets) as two:
            host = two.host("msul2")
            return [await host.reply(b"ping", timeout=3), await host.critical(b"ping")]

    assert asyncio.run(ask()) == [b"msul2"] * 2


def test_both_modules_export_the_same_names() -> None:
    assert set(aio.__all__) == set(client.__all__)
    assert aio.Client is aio.AsyncClient is client.AsyncClient
    with pytest.raises(AttributeError):
        _ = client.nothing


def test_the_default_timeout_is_five_seconds() -> None:
    assert Client().timeout == AsyncClient().timeout == 5.0


def unread_then(replies: list[bytes], talk: list[str]) -> Callable[[socket.socket], None]:
    """Return a daemon that closes a connection unread for each "unread", and then answers."""

    def serve(sock: socket.socket) -> None:
        step = talk.pop(0) if talk else "answer"
        if step == "answer":
            replies.append(sock.recv(1000))
            sock.sendall(b"ok\n")
        elif step == "read":
            replies.append(sock.recv(1000))
        else:
            assert sock.recv(1, socket.MSG_PEEK)  # the request is there, and stays unread

    return serve


def test_what_the_daemon_did_not_read_is_sent_again(
    short_path: Path, fake: Fake, make: Any
) -> None:
    got: list[bytes] = []
    fake(unread_then(got, ["unread", "unread"]))

    assert make(sockets=short_path).reply(b"x", "fake") == b"ok"
    assert got == [b"x\n"]


def test_a_request_is_sent_three_times_at_most(short_path: Path, fake: Fake, make: Any) -> None:
    steps = ["unread"] * 9
    fake(unread_then([], steps))

    with pytest.raises(DisconnectedError, match="had not read") as caught:
        make(sockets=short_path).reply(b"x", "fake")

    assert caught.value.may_have_run is False
    assert len(steps) == 6


def test_many_sends_again_what_was_not_read(short_path: Path, fake: Fake, make: Any) -> None:
    got: list[bytes] = []
    fake(unread_then(got, ["unread"]))

    assert make(sockets=short_path).many({"fake": b"x"}) == {"fake": b"ok"}


def test_what_may_have_run_is_not_sent_again(short_path: Path, fake: Fake, make: Any) -> None:
    got: list[bytes] = []
    fake(unread_then(got, ["read"]))

    with pytest.raises(DisconnectedError) as caught:
        make(sockets=short_path).reply(b"x", "fake")

    assert caught.value.may_have_run is True
    assert got == [b"x\n"]


def test_never_sends_a_request_once(short_path: Path, fake: Fake, make: Any) -> None:
    steps = ["unread"] * 3
    fake(unread_then([], steps))

    with pytest.raises(DisconnectedError):
        make(sockets=short_path, retry="never").reply(b"x", "fake")

    assert len(steps) == 2


def test_an_idempotent_request_is_sent_again_after_con_lost(
    short_path: Path, fake: Fake, make: Any
) -> None:
    """The daemon is made to reconnect to the host in between."""
    got: list[bytes] = []
    fake(unread_then(got, ["read"]))

    assert make(sockets=short_path).reply(b"x", "fake", retry="idempotent") == b"ok"
    assert got == [b"x\n", b"reset_retries\n", b"x\n"]


def test_a_second_try_does_not_hide_that_the_first_may_have_run(
    short_path: Path, fake: Fake, make: Any
) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(1000)
        (short_path / "fake").rename(away / "fake")

    (away := short_path / "away").mkdir()
    fake(talk)

    with pytest.raises(NoDaemonError) as caught:
        make(sockets=short_path, timeout=0.5).reply(b"x", "fake", retry="idempotent")

    (away / "fake").rename(short_path / "fake")
    assert caught.value.may_have_run is True


def test_check_raises_reply_error(up: Network, make: Any) -> None:
    one = make(sockets=up.sockets)

    for call in (one.reply, one.critical):
        with pytest.raises(ReplyError) as caught:
            call(b"echo:error:not_allowed", "msul2", check=True)
        assert (caught.value.host, caught.value.word) == ("msul2", "error")
        assert caught.value.detail == "not_allowed"
    assert one.reply(b"echo:refused", "msul2") == b"refused"
    outcome = one.many({"msul2": b"echo:refused", "msul1": b"load"}, check=True)
    assert isinstance(outcome["msul2"], ReplyError)
    assert outcome["msul1"] == b"0.12"
    one.close()


def test_a_mistyped_host_is_unknown_with_a_directory_and_with_a_configuration(
    up: Network, make: Any
) -> None:
    for sockets in (up.sockets, Sockets.read(up.config)):
        with pytest.raises(UnknownHostError, match=r"^'msul3': .* did you mean msul\d\?") as caught:
            make(sockets=sockets).reply(b"ping", "msul3")
        assert caught.value.may_have_run is False


def test_a_host_is_not_unknown_if_no_daemon_runs(short_path: Path, make: Any) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(short_path / "gone"))
    for directory in (short_path, short_path / "missing"):
        with pytest.raises(NoDaemonError):
            make(sockets=directory).reply(b"ping", "msul2")


def test_a_host_is_not_unknown_while_the_daemon_makes_its_sockets(
    short_path: Path, fake: Fake, make: Any
) -> None:
    """Others are there first; it is waited for as long as more of them appear at each look."""
    fake(echo)
    names = iter(["other1", "other2", "other3", "late"])
    looked = Sockets.missing

    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        def missing(*args: Any) -> client.ClientError:
            error = looked(*args)
            new = stack.enter_context(socket.socket(socket.AF_UNIX))
            new.bind(str(short_path / next(names)))
            new.listen()
            return error

        patch.setattr(Sockets, "missing", missing)
        with pytest.raises(TimedOutError, match="no whole reply"):  # connected; nothing answers
            make(sockets=short_path, timeout=2).reply(b"ping", "late")


def test_permission_denied_is_an_error_of_its_own(up: Network, make: Any) -> None:
    if os.geteuid() != 0:
        (up.sockets / "msul2").chmod(0)
        with pytest.raises(PermissionDeniedError, match="permission denied for uid") as caught:
            make(sockets=up.sockets).reply(b"ping", "msul2")
        assert caught.value.may_have_run is False
        return
    child = os.fork()  # root may connect to any socket
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setuid(65534)
            one = Client(sockets=up.sockets)
            one.reply(b"ping", "msul2")
        except PermissionDeniedError as error:
            code = 0 if error.may_have_run is False and "uid 65534" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_connecting_can_have_a_shorter_timeout(short_path: Path, make: Any) -> None:
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(short_path / "deaf"))
        deaf.listen(0)
        first.connect(str(short_path / "deaf"))
        began = time.monotonic()
        with pytest.raises(TimedOutError, match="did not take the request") as caught:
            make(sockets=short_path, timeout=60, connect_timeout=0.2).reply(b"x", "deaf")

    assert caught.value.may_have_run is False
    assert time.monotonic() - began < PATIENCE


def test_a_request_that_a_gevent_timeout_ends_gives_no_late_reply(up: Network) -> None:
    code = (
        "from gevent import monkey; monkey.patch_all(); import gevent\n"
        "from lonc_gevent.client import Client\n"
        f"client = Client(sockets={str(up.sockets)!r})\n"
        "client.reply(b'ping', 'msul2')\n"
        "with gevent.Timeout(0.2, False): client.reply(b'delay:400:late', 'msul2')\n"
        "print(repr(client), client.reply(b'delay:600:right', 'msul2'))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "<Client 0 open> b'right'\n"


def test_a_reply_that_is_late_may_have_run(up: Network, make: Any) -> None:
    with pytest.raises(TimedOutError, match="no whole reply") as caught:
        make(sockets=up.sockets, timeout=0.2).reply(b"delay:2000:x", "msul2")

    assert caught.value.may_have_run is True


@pytest.mark.parametrize(
    "call",
    [
        lambda make, _: make(timeout=0),
        lambda make, _: make(timeout=None),
        lambda make, _: make(timeout="5"),
        lambda make, _: make(connect_timeout=-1),
        lambda make, _: make(retry="always"),
        lambda make, _: make(sockets=5),
        lambda _, one: one.reply("ping", "msul2"),
        lambda _, one: one.reply(None, "msul2"),
        lambda _, one: one.reply(b"a\nb", "msul2"),
        lambda _, one: one.reply(b"ping", b"msul2"),
        lambda _, one: one.reply(b"ping", None),
        lambda _, one: one.reply(b"ping", "msul2", timeout="5"),
        lambda _, one: one.reply(b"ping", "msul2", retry="sometimes"),
        lambda _, one: one.many([b"ping"]),
        lambda _, one: one.many({"msul2": b"ping", 5: b"ping"}),
        lambda _, one: one.critical(b"ping", 5),
    ],
)
def test_bad_arguments_are_argument_errors(
    short_path: Path, make: Any, call: Callable[..., object]
) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(make, make(sockets=short_path))

    assert caught.value.may_have_run is False


def test_a_process_without_descriptors_gets_a_client_error(up: Network) -> None:
    one = Client(sockets=up.sockets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", partial(_fail, OSError(24, "Too many open files")))
        with pytest.raises(NoDaemonError, match="Too many open files"):
            one.reply(b"ping", "msul2")


def _fail(error: OSError, *_: object) -> None:
    raise error
