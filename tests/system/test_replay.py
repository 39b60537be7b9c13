# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests through the real daemon: in order, none lost, none needlessly twice."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from harness import PATIENCE, Network, network, wait_until
from unixhttp import host_status, http
from users import DAEMON, SHARED, WEB, as_user, only_root, shared_directory, unprivileged

from lonc_gevent.client.delayed import delay
from lonc_gevent.delayed import host_replay
from lonc_gevent.delayed.host_replay import HostReplay
from lonc_gevent.delayed.inspection import Inspected
from lonc_gevent.delayed.requests import Verdict, shown_name
from lonc_gevent.delayed.spool import Claim, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETTLE = 0.3
HOUR = 3600.0


@pytest.fixture
def directory(net: Network) -> Path:
    """Give the delayed directory of a network that looks into it often."""
    net.tables["delayed"] = {"directory": "d", "settle": SETTLE, "scan_interval": 0.2}
    path = net.directory / "d"
    path.mkdir(mode=0o700)
    return path


def put(directory: Path, name: str, data: bytes, age: float = 10.0) -> Path:
    """Write a file as lonnet does, `age` seconds ago."""
    path = directory / name
    path.write_bytes(data)
    path.chmod(0o600)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def names(directory: Path) -> list[str]:
    """Return the names of the delayed requests that are there."""
    return sorted(p.name for p in directory.iterdir() if p.name[0] != "." and not p.is_dir())


def quarantined(directory: Path) -> list[str]:
    """Return the names in quarantine."""
    folder = directory / "quarantine"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def is_empty(directory: Path) -> Callable[[], bool]:
    """Return a condition: no delayed request is left."""
    return lambda: not names(directory)


def test_sent_in_order_and_removed(net: Network, directory: Path) -> None:
    """Each is sent once, in the order of the names, removed, and recorded with an S line."""
    net.tables["delayed"] |= {"perm_log": "perm.log", "scan_interval": 1000.0}
    lond = net.add("msul2")
    for i in reversed(range(30)):
        put(directory, f"1000.{i:03d}.7.echo.msul2", b"echo:%d\n" % i)
    net.start()

    wait_until(is_empty(directory), "all are sent")

    assert lond.received == [b"echo:%d" % i for i in range(30)]
    assert net.daemon is not None
    assert net.daemon.end() == 0
    lines = (net.directory / "perm.log").read_text().splitlines()
    assert [":".join(line.split(":")[1:5]) for line in lines] == [
        f"S:msul2:echo:{i}" for i in range(30)
    ]
    events = net.find("delayed_replayed", host="msul2")
    assert [e["file"] for e in events] == [f"1000.{i:03d}.7.*.msul2" for i in range(30)]
    assert events[0]["verb"] == "echo"


def test_a_perm_log_that_cannot_be_written(net: Network, directory: Path) -> None:
    """It is said, and the file is done all the same: it is not sent again for want of a line."""
    (net.directory / "perm.log").mkdir()
    net.tables["delayed"]["perm_log"] = "perm.log"
    lond = net.add("msul2")
    put(directory, "1.1.1.echo.msul2", b"echo:x\n")
    net.start()

    net.wait_for("delayed_perm_log_failed", error="Is a directory")

    assert names(directory) == []
    assert lond.received == [b"echo:x"]


def test_ids_with_dots_and_ids_that_end_alike(net: Network, directory: Path) -> None:
    """A file goes to the host named after the fourth dot, and to no other."""
    ids = ("l2", "s10.l2", "x.s10.l2")
    londs = [net.add(host) for host in ids]
    for host in ids:
        put(directory, f"1.1.1.echo.{host}", b"echo:%s\n" % host.encode())
    net.start()

    wait_until(is_empty(directory), "all are sent")

    assert [lond.received for lond in londs] == [[b"echo:%s" % host.encode()] for host in ids]


def test_a_host_that_is_down_is_tried_for_the_sake_of_a_file(net: Network, directory: Path) -> None:
    """With no client asking, the host is dialled again, and gets the file when it is there."""
    lond = net.add("msul2", start=False)
    put(directory, "1.1.1.echo.msul2", b"echo:late\n")
    net.start()
    net.wait_for("connection_failed", times=3, host="msul2")
    assert names(directory)

    lond.start()

    wait_until(is_empty(directory), "it is sent")
    assert lond.received == [b"echo:late"]
    assert not net.find("delayed_attempt_lost"), "what never left is no attempt"


def test_files_that_come_while_the_host_is_down(net: Network, directory: Path) -> None:
    """They are found and sent as soon as the host is back, not at the next scan only."""
    net.tables["delayed"]["scan_interval"] = 1000.0
    lond = net.add("msul2", start=False)
    net.start()
    assert net.ask("msul2", b"ping") == b"con_lost"
    put(directory, "1.1.1.echo.msul2", b"echo:late\n")
    lond.start()

    wait_until(lambda: net.ask("msul2", b"ping") == b"msul2", "it is back")

    wait_until(is_empty(directory), "it is sent")


def test_what_is_not_settled_is_left_alone(net: Network, directory: Path) -> None:
    """A file is not sent before its writer can have checked it."""
    net.tables["delayed"]["settle"] = 1.0
    lond = net.add("msul2")
    net.start()
    written = time.time()
    path = put(directory, "1.1.1.echo.msul2", b"echo:young\n", age=0)

    wait_until(lambda: not path.exists(), "it is sent")

    assert time.time() - written >= 1.0
    assert lond.received == [b"echo:young"]


def test_unfinished_file_is_not_sent_and_delays_no_other(net: Network, directory: Path) -> None:
    """An empty file and one without a newline wait, those behind them are sent."""
    lond = net.add("msul2")
    empty = put(directory, "1.1.1.echo.msul2", b"", age=HOUR - 60)
    half = put(directory, "1.1.2.echo.msul2", b"echo:ha", age=HOUR - 60)
    put(directory, "1.1.3.echo.msul2", b"echo:whole\n")
    net.start()
    wait_until(lambda: names(directory) == [empty.name, half.name], "the third one is sent")
    assert lond.received == [b"echo:whole"]

    with half.open("ab") as file:
        file.write(b"lf\n")

    wait_until(lambda: names(directory) == [empty.name], "the second one is sent")
    assert lond.received == [b"echo:whole", b"echo:half"]


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("unfinished", b"echo:x"),
        ("unfinished", b""),
        ("too_large", b"echo:" + b"x" * 1000 + b"\n"),
        ("several_lines", b"echo:x\necho:y\n"),
        ("control_line", b"reset_retries\n"),
    ],
)
@pytest.mark.parametrize("up", [True, False])
def test_contents_that_are_never_sent(
    net: Network, directory: Path, reason: str, data: bytes, up: bool
) -> None:
    """A bad content goes to quarantine, whole, with an event; the next file is sent."""
    net.pool["max_request_bytes"] = 1000
    lond = net.add("msul2", start=up)
    put(directory, "1.1.1.echo.msul2", data, age=HOUR + 60)
    put(directory, "1.1.2.echo.msul2", b"echo:good\n")
    net.start()

    event = net.wait_for("delayed_quarantined", host="msul2")

    assert (event["file"], event["reason"]) == ("1.1.1.*.msul2", reason)
    assert (directory / "quarantine" / "1.1.1.echo.msul2").read_bytes() == data
    if up:
        wait_until(is_empty(directory), "the good one is sent")
        assert lond.received == [b"echo:good"]


def test_things_that_are_no_files(net: Network, directory: Path) -> None:
    """Links, pipes, sockets and folders go to quarantine as they are; nothing is followed."""
    lond = net.add("msul2")
    secret = net.directory / "secret"
    secret.write_bytes(b"echo:secret\n")
    (directory / "1.1.1.link.msul2").symlink_to(secret)
    os.mkfifo(directory / "1.1.2.pipe.msul2")
    (directory / "1.1.3.folder.msul2").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "1.1.4.sock.msul2"))
    put(directory, "1.1.5.echo.msul2", b"echo:good\n")
    net.start()

    wait_until(lambda: len(net.find("delayed_quarantined")) == 4, "four are put away")

    wait_until(lambda: lond.received, "the good one is sent")
    assert lond.received == [b"echo:good"]
    assert {e["reason"] for e in net.find("delayed_quarantined")} == {"no_regular_file"}
    assert len(quarantined(directory)) == 4
    assert secret.read_bytes() == b"echo:secret\n"


@pytest.mark.parametrize(
    ("name", "reason", "shown", "host"),
    [
        ("1.1.1.echo.nobody", "unknown_host", "1.1.1.*.nobody", "nobody"),
        ("1.1.1.echo.xmsul2", "unknown_host", "1.1.1.*.xmsul2", "xmsul2"),
        ("1.1.1.echo.*", "unknown_host", "1.1.1.*.*", "*"),
        ("1.1.1.echo", "no_such_name", "*", None),
        ("1.1.1.\udcff\n.nobody", "unknown_host", "*", None),
        ("x.1.1.echo.nobody", "unknown_host", "*", None),
    ],
)
def test_names_of_no_known_host(
    net: Network, directory: Path, name: str, reason: str, shown: str, host: str | None
) -> None:
    """A file of no known host goes to quarantine, whatever is in its name."""
    net.tables["delayed"]["orphan_after"] = 0.0
    net.add("msul2")
    put(directory, name, b"echo:x\n")
    net.start()

    event = net.wait_for("delayed_quarantined")
    assert (event["reason"], event["file"], event.get("host")) == (reason, shown, host)
    assert quarantined(directory) == [name]


def test_hosts_that_others_serve(net: Network, directory: Path) -> None:
    """A host of hosts.tab that this daemon does not serve keeps its files."""
    net.tables["network"] = {"hosts": ["msul2"]}
    lond = net.add("msul2")
    net.add("msul3", start=False)
    put(directory, "1.1.1.echo.msul3", b"echo:other\n")
    put(directory, "1.1.2.echo.msul2", b"echo:ours\n")
    net.start()

    wait_until(lambda: names(directory) == ["1.1.1.echo.msul3"], "ours is sent")

    assert lond.received == [b"echo:ours"]
    assert not net.find("delayed_quarantined")


def test_files_that_others_could_have_written(net: Network, directory: Path) -> None:
    """A file that all may write to, or of a foreign owner, is not sent."""
    lond = net.add("msul2")
    put(directory, "1.1.1.echo.msul2", b"echo:x\n").chmod(0o666)
    expected = {"writable_by_others"}
    if os.geteuid() == 0:
        os.chown(put(directory, "1.1.2.echo.msul2", b"echo:y\n"), 12345, -1)
        expected.add("foreign_owner")
    put(directory, "1.1.3.echo.msul2", b"echo:good\n")
    net.start()

    wait_until(is_empty(directory), "all are dealt with")

    wait_until(lambda: lond.received, "the good one is sent")
    assert lond.received == [b"echo:good"]
    assert {e["reason"] for e in net.find("delayed_quarantined")} == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_files_of_users_that_are_allowed(net: Network, directory: Path) -> None:
    """A file that belongs to one of allow_uids is sent."""
    net.tables["sockets"] = {"allow_uids": [0, 12345]}
    lond = net.add("msul2")
    os.chown(put(directory, "1.1.2.echo.msul2", b"echo:y\n"), 12345, -1)
    net.start()

    wait_until(is_empty(directory), "it is sent")

    assert lond.received == [b"echo:y"]


@pytest.fixture
def group() -> Iterator[int]:
    """Give a group that we, and what we start, are in for a while."""
    before = os.getgroups()
    os.setgroups([SHARED])
    yield SHARED
    os.setgroups(before)


@only_root
def test_web_processes_of_another_user(net: Network, directory: Path, group: int) -> None:
    """What they write for the daemon is sent; what it may not read, it leaves where it is."""
    net.tables["sockets"] = {"allow_uids": [0, WEB]}
    net.directory.chmod(0o711)
    os.chown(directory, -1, group)
    directory.chmod(0o770)
    lond = net.add("msul2")
    with as_user(WEB, group):
        delay(b"echo:1", "msul2", directory)
        private = delay(b"echo:2", "msul2", directory)
        private.chmod(0o600)
        delay(b"echo:3", "msul2", directory)
    unprivileged(net.start)

    shown = shown_name(private.name)
    net.wait_for("delayed_trouble", error=f"cannot read {shown}: Permission denied")
    wait_until(lambda: names(directory) == [private.name], "the others are sent")
    assert lond.received == [b"echo:1", b"echo:3"]
    assert b" unreadable " in unprivileged(lambda: net.command("delayed", "list")).stdout
    with as_user(WEB, group):
        private.chmod(0o640)

    wait_until(is_empty(directory), "it is sent")
    assert lond.received == [b"echo:1", b"echo:3", b"echo:2"]
    assert not net.find("delayed_quarantined")
    assert len(net.find("delayed_trouble")) == 1, "once a minute is enough"


@only_root
def test_a_file_that_becomes_unreadable_when_its_turn_comes(
    net: Network, directory: Path, group: int
) -> None:
    """It is skipped and reported; it stays, and is sent once it can be read."""
    net.tables["sockets"] = {"allow_uids": [0, WEB]}
    net.tables["delayed"]["scan_interval"] = 1000.0
    lond = net.add("msul2")
    put(directory, "1.1.1.delay.msul2", b"delay:500:x\n")
    second = put(directory, "1.1.2.echo.msul2", b"echo:y\n")
    os.chown(second, WEB, group)
    second.chmod(0o640)
    put(directory, "1.1.3.echo.msul2", b"echo:z\n")
    unprivileged(net.start)
    wait_until(lambda: lond.received, "the first one is under way")

    second.chmod(0o600)

    net.wait_for("delayed_trouble", error="cannot read 1.1.2.*.msul2: Permission denied")
    wait_until(lambda: names(directory) == [second.name], "the rest is sent")
    assert lond.received == [b"delay:500:x", b"echo:z"]


@pytest.mark.parametrize(
    ("found", "reported"),
    [
        (Inspected(Verdict.UNREADABLE, "Input/output error"), "cannot read 1.1.1.*.msul2: Input/"),
        (Inspected(Verdict.YOUNG, age=-3600.0), ""),
        (Inspected(Verdict.YOUNG, age=-0.5), ""),
    ],
)
def test_what_a_host_waits_for(
    monkeypatch: pytest.MonkeyPatch, found: Inspected, reported: str
) -> None:
    """For a file that settles soon, and also for one dated later than the clock."""
    troubles: list[str] = []
    waits: list[float] = []
    owner: Any = SimpleNamespace(
        spool=SimpleNamespace(
            claim=lambda *_: Claim(found, 0), inspector=SimpleNamespace(settle=5.0), cancelled=True
        ),
        in_thread=lambda function, *arguments: function(*arguments),
        trouble=lambda _, error: troubles.append(error),
    )
    pool: Any = SimpleNamespace(
        host=SimpleNamespace(
            pool=SimpleNamespace(
                max_request_bytes=100, retry_backoff_min=1.0, retry_backoff_max=1.0
            )
        )
    )
    replay = HostReplay(owner, pool)
    replay.give(["1.1.1.echo.msul2"], more=False)
    monkeypatch.setattr(replay, "_wait", waits.append)

    replay._next("1.1.1.echo.msul2")

    assert [trouble[: len(reported)] for trouble in troubles] == ([reported] if reported else [])
    assert list(replay._names) == ([] if reported else ["1.1.1.echo.msul2"])
    assert waits == ([] if reported else [5.0])
    replay.greenlet.kill()


@only_root
def test_files_of_another_user_keep_their_order_when_the_clock_is_set_back(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file dated ahead is sent before others, once it was left alone for `settle`."""
    name, elapsed, sent = "1.1.1.echo.msul2", 0.0, []
    directory = shared_directory(short_path, DAEMON, SHARED)
    path = put(directory, name, b"echo:x\n", age=0.0)
    os.chown(path, WEB, SHARED)
    path.chmod(0o640)
    spool = Spool(directory, uids=frozenset({WEB}), settle=5.0)
    owner: Any = SimpleNamespace(
        spool=spool, in_thread=lambda function, *arguments: function(*arguments)
    )
    limits = SimpleNamespace(max_request_bytes=100, retry_backoff_min=1.0, retry_backoff_max=1.0)
    pool: Any = SimpleNamespace(host=SimpleNamespace(id="msul2", pool=limits))
    past, start = time.time() - 3600, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: past + elapsed)
    monkeypatch.setattr(host_replay, "monotonic", lambda: start + elapsed)
    monkeypatch.setattr(HostReplay, "_wait", lambda *_: None)
    monkeypatch.setattr(HostReplay, "_send", lambda _self, name, _claim: sent.append(name))
    with as_user(DAEMON, SHARED):
        spool.open()
        replay = HostReplay(owner, pool)
        replay.give([name, "1.1.2.echo.msul2"], more=False)
        replay._next(name)
        elapsed = 4.0
        replay._next(name)
        assert (list(replay._names), sent) == ([name, "1.1.2.echo.msul2"], [])
        elapsed = 6.0
        replay._next(name)

    assert sent == [name]
    replay.greenlet.kill()
    spool.close()
    spool.close()


def test_file_that_does_not_settle_stops_its_host_for_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After that it is passed over at each scan until it settles; one event says so."""
    name, now = "1.1.1.echo.msul2", 1000.0
    log = mock.Mock()
    owner: Any = SimpleNamespace(
        spool=SimpleNamespace(
            claim=lambda *_: Claim(Inspected(Verdict.YOUNG, age=1.0), 0),
            inspector=SimpleNamespace(settle=5.0),
            cancelled=True,
        ),
        in_thread=lambda function, *arguments: function(*arguments),
        log=log,
    )
    limits = SimpleNamespace(max_request_bytes=100, retry_backoff_min=1.0, retry_backoff_max=1.0)
    pool: Any = SimpleNamespace(host=SimpleNamespace(id="msul2", pool=limits))
    monkeypatch.setattr(host_replay, "monotonic", lambda: now)
    monkeypatch.setattr(HostReplay, "_wait", lambda *_: None)
    replay = HostReplay(owner, pool)
    replay.give([name, "1.1.2.echo.msul2"], more=False)

    replay._next(name)
    now += 59.0
    replay._next(name)
    assert list(replay._names) == [name, "1.1.2.echo.msul2"]
    now += 2.0
    replay._next(name)
    assert list(replay._names) == ["1.1.2.echo.msul2"]
    later = HostReplay(owner, pool, replay)
    later.give([name, "1.1.2.echo.msul2"], more=False)
    later._next(name)

    assert list(later._names) == ["1.1.2.echo.msul2"]
    log.warning.assert_called_once_with(
        "delayed_unsettled", host="msul2", file="1.1.1.*.msul2", waited_s=61
    )
    replay.greenlet.kill()
    later.greenlet.kill()


def test_file_that_ends_connections_is_quarantined_and_delays_no_other(
    net: Network, directory: Path
) -> None:
    """A file that takes max_attempts connections down is put away; the ones behind it are sent."""
    net.tables["delayed"]["max_attempts"] = 3
    lond = net.add("msul2")
    put(directory, "1.1.1.fault.msul2", b"fault:drop-before\n")
    put(directory, "1.1.2.echo.msul2", b"echo:good\n")
    net.start()

    wait_until(is_empty(directory), "both are dealt with")

    assert lond.received == [b"fault:drop-before"] * 3 + [b"echo:good"]
    event = net.wait_for("delayed_quarantined", host="msul2")
    assert (event["reason"], event["attempts"]) == ("max_attempts", 3)
    assert quarantined(directory) == ["1.1.1.fault.msul2"]
    assert net.find("delayed_attempt_lost")[0]["error"] == "connection_lost"


def test_what_only_waited_is_no_attempt(net: Network, directory: Path) -> None:
    """A file that no connection took in time is tried again, and nothing is counted."""
    net.pool |= {"max_connections": 1, "queue_timeout": 0.3}
    net.tables["delayed"]["max_attempts"] = 1
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as client:
        client.send(b"delay:1500:live\n")
        wait_until(lambda: lond.received, "a live one is under way")
        put(directory, "1.1.1.echo.msul2", b"echo:x\n")
        net.wait_for("requests_refused", host="msul2")

        assert client.line() == b"live\n"

    wait_until(is_empty(directory), "it is sent")
    assert lond.received == [b"delay:1500:live", b"echo:x"]
    assert not net.find("delayed_failed")
    assert not net.find("delayed_attempt_lost")


def test_attempts_survive_a_restart(net: Network, directory: Path) -> None:
    """A daemon that is killed does not forget how many connections a file has cost."""
    net.tables["delayed"]["max_attempts"] = 3
    lond = net.add("msul2")
    put(directory, "1.1.1.fault.msul2", b"fault:drop-before\n")
    daemon = net.start()
    wait_until(
        lambda: (
            (directory / ".notes").exists()
            and any(p.name[0] != "." for p in (directory / ".notes").iterdir())
        ),
        "an attempt is noted",
    )
    daemon.kill()
    daemon.close()

    net.start()

    wait_until(is_empty(directory), "it is put away")
    assert len(lond.received) <= 3 + 1, "one more if it was killed before the note"
    assert net.wait_for("delayed_quarantined")["attempts"] >= 3


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"error:secret detail", "error"),
        (b"con_lost", "con_lost"),
        (b"refused", "refused"),
        (b"unknown_cmd", "unknown_cmd"),
    ],
)
def test_answer_that_it_did_not_run_is_retried_and_then_quarantined(
    net: Network, directory: Path, answer: bytes, word: str
) -> None:
    """It counts as an attempt, is no success in perm_log, and the next file follows."""
    net.tables["delayed"] |= {"max_attempts": 3, "perm_log": "perm.log"}
    lond = net.add("msul2")
    put(directory, "1.1.1.echo.msul2", b"echo:%s\n" % answer)
    put(directory, "1.1.2.echo.msul2", b"echo:ok\n")
    net.start()

    wait_until(is_empty(directory), "the second is sent")

    assert lond.received == [b"echo:%s" % answer] * 3 + [b"echo:ok"]
    assert quarantined(directory) == ["1.1.1.echo.msul2"]
    event = net.wait_for("delayed_quarantined", host="msul2")
    assert (event["reason"], event["attempts"]) == (word, 3)
    refused = net.find("delayed_refused", host="msul2")
    assert [(e["verb"], e["answer"], e["attempts"]) for e in refused] == [
        ("echo", word, attempts) for attempts in (1, 2, 3)
    ]
    net.wait_for("delayed_replayed", host="msul2")
    assert not any("secret" in line for line in lines_of(net))
    perm_log = net.directory / "perm.log"
    wait_until(
        lambda: perm_log.exists() and perm_log.read_text().endswith("\n"), "the success is recorded"
    )
    [line] = perm_log.read_text().splitlines()
    assert line.split(":", 1)[1].startswith("S:msul2:echo:ok:")


def without(net: Network, host: str) -> Callable[[], None]:
    """Take a host out of hosts.tab and have the daemon read it; return what undoes that."""
    assert net.daemon
    tab = net.directory / "hosts.tab"
    before = tab.read_text()

    def write(text: str) -> None:
        assert net.daemon
        times = len(net.find("hosts_reloaded")) + 1
        tab.write_text(text)
        net.daemon.send_signal(signal.SIGUSR2)
        net.wait_for("hosts_reloaded", times)

    write("".join(line for line in before.splitlines(True) if not line.startswith(f"{host}:")))
    return lambda: write(before)


def test_files_of_a_host_that_vanishes_from_hosts_tab_wait_for_it(
    net: Network, directory: Path
) -> None:
    """They stay where they are, with an event, and are sent in order once the host is back."""
    net.add("msul1", start=False)
    lond = net.add("msul2")
    net.start()
    restore = without(net, "msul2")
    for i in range(3):
        put(directory, f"1.1.{i}.echo.msul2", b"echo:%d\n" % i)

    event = net.wait_for("delayed_orphaned", host="msul2")
    restore()

    assert event["orphan_after_s"] == 86400.0
    wait_until(is_empty(directory), "all are sent")
    assert lond.received == [b"echo:0", b"echo:1", b"echo:2"]
    assert not net.find("delayed_quarantined")


def test_files_come_back_from_quarantine_when_their_host_is_back(
    net: Network, directory: Path
) -> None:
    """Those that were there for its absence only: all of them, in order."""
    net.tables["delayed"] |= {"orphan_after": 0.5}
    net.add("msul1", start=False)
    lond = net.add("msul2")
    net.start()
    put(directory, "1.1.0.echo.msul2", b"echo:several\necho:lines\n")
    net.wait_for("delayed_quarantined", reason="several_lines")
    restore = without(net, "msul2")
    for i in range(1, 4):
        put(directory, f"1.1.{i}.echo.msul2", b"echo:%d\n" % i)
    wait_until(lambda: len(quarantined(directory)) == 4, "they are in quarantine")
    assert not lond.received

    restore()

    net.wait_for("delayed_returned", host="msul2", count=3)
    wait_until(is_empty(directory), "all are sent")
    assert lond.received == [b"echo:1", b"echo:2", b"echo:3"]
    assert quarantined(directory) == ["1.1.0.echo.msul2"]


def test_age_of_oldest_file_and_usability_are_known_to_status_and_metrics(
    net: Network, directory: Path
) -> None:
    """The age counts from when a file was last written; an unusable directory says why."""
    net.add("msul2", start=False)
    put(directory, "1.1.1.echo.msul2", b"echo:x\n", age=100.0)
    put(directory, "1.1.2.echo.msul2", b"echo:y\n", age=500.0)
    net.start()
    wait_until(lambda: host_status(net, "msul2")["delayed_waiting"] == 2, "both are counted")

    document = http(net, "/status").json
    metrics = http(net, "/metrics").body.decode()
    directory.chmod(0o777)
    net.wait_for("delayed_unavailable")
    unusable = http(net, "/status").json
    unusable_metrics = http(net, "/metrics").body.decode()

    assert document["delayed_error"] is None
    assert 500 <= document["totals"]["delayed_oldest_s"] < 500 + PATIENCE
    assert document["hosts"][0]["delayed_oldest_s"] == document["totals"]["delayed_oldest_s"]
    assert re.search(r'^lonc_delayed_oldest_seconds\{host="msul2"\} 5\d\d\.', metrics, re.MULTILINE)
    assert "\nlonc_delayed_directory_usable 1.0\n" in metrics
    assert unusable["delayed_error"] == "writable by all users"
    assert "\nlonc_delayed_directory_usable 0.0\n" in unusable_metrics


def lines_of(net: Network) -> list[str]:
    """Return all that the daemon has logged, as it is."""
    assert net.daemon is not None
    return net.daemon.lines


def trouble(net: Network) -> str:
    """Wait for the event that says what is wrong with the directory."""
    return str(net.wait_for("delayed_unavailable")["error"])


def test_a_directory_that_others_may_write_to(net: Network, directory: Path) -> None:
    """It is refused, live requests go on, and it is used once it is mended."""
    lond = net.add("msul2")
    put(directory, "1.1.1.echo.msul2", b"echo:x\n")
    directory.chmod(0o777)
    net.start()
    assert trouble(net) == "writable by all users"
    assert net.ask("msul2", b"ping") == b"msul2"
    assert lond.received == [b"ping"]

    directory.chmod(0o700)

    wait_until(is_empty(directory), "it is sent")
    net.wait_for("delayed_available")
    assert len(net.find("delayed_unavailable")) == 1, "once a minute is enough"


def test_a_directory_that_vanishes_and_comes_back(net: Network, directory: Path) -> None:
    """The daemon says so, goes on serving, and sends what it finds once it is back."""
    lond = net.add("msul2")
    net.start()
    wait_until((directory / "quarantine").exists, "it is in use")
    away = directory.with_name("away")
    directory.rename(away)
    assert "No such file" in trouble(net)
    assert net.ask("msul2", b"ping") == b"msul2"

    put(away, "1.1.1.echo.msul2", b"echo:x\n")
    away.rename(directory)

    wait_until(is_empty(directory), "it is sent")
    assert lond.received == [b"ping", b"echo:x"]


def test_a_directory_that_is_a_link(net: Network, directory: Path) -> None:
    """No symbolic link is followed to the directory itself."""
    net.add("msul2")
    directory.rename(directory.with_name("real"))
    directory.symlink_to("real")
    net.start()

    assert "symbolic link" in trouble(net)


def test_another_directory_in_its_place(net: Network, directory: Path) -> None:
    """The daemon takes up the directory that stands at the path now."""
    lond = net.add("msul2")
    net.start()
    wait_until((directory / "quarantine").exists, "it is in use")
    directory.rename(directory.with_name("away"))
    directory.mkdir(mode=0o700)

    put(directory, "1.1.1.echo.msul2", b"echo:x\n")

    wait_until(lambda: lond.received, "it is sent")
    wait_until(is_empty(directory), "it is removed")


def test_two_daemons_never_replay_one_directory(net: Network, directory: Path) -> None:
    """The second one serves live requests only, until the first one is gone."""
    lond = net.add("msul2")
    first = net.start()
    wait_until((directory / "quarantine").exists, "the first one has it")
    with network(net.directory / "second", pool=net.pool) as second:
        second.directory.mkdir()
        second.tables["delayed"] = {**net.tables["delayed"], "directory": str(directory)}
        second.hosts = net.hosts
        second.start()
        assert trouble(second) == "another daemon replays it"
        assert second.ask("msul2", b"ping") == b"msul2"

        first.kill()
        put(directory, "1.1.1.echo.msul2", b"echo:x\n")

        second.wait_for("delayed_replayed")
        assert lond.received == [b"ping", b"echo:x"]


def test_a_stop_in_the_middle(net: Network, directory: Path) -> None:
    """TERM: what is under way is finished and its file removed; the rest waits on disk."""
    lond = net.add("msul2")
    for i in range(5):
        put(directory, f"1.1.{i}.delay.msul2", b"delay:300:%d\n" % i)
    daemon = net.start()
    wait_until(lambda: len(lond.received) == 2, "the second one is under way")

    assert daemon.end() == 0

    assert lond.received == [b"delay:300:0", b"delay:300:1"]
    assert names(directory) == [f"1.1.{i}.delay.msul2" for i in (2, 3, 4)]


def test_a_file_that_is_discarded_at_the_last_moment(net: Network, directory: Path) -> None:
    """A file that is gone when its turn comes is no matter."""
    lond = net.add("msul2")
    put(directory, "1.1.1.delay.msul2", b"delay:500:x\n")
    second = put(directory, "1.1.2.echo.msul2", b"echo:y\n")
    put(directory, "1.1.3.echo.msul2", b"echo:z\n")
    net.start()
    wait_until(lambda: lond.received, "the first one is under way")

    second.unlink()

    wait_until(is_empty(directory), "the rest is sent")
    assert lond.received == [b"delay:500:x", b"echo:z"]


def test_leftovers_of_writers_are_removed(net: Network, directory: Path) -> None:
    """What was never given its name is removed after an hour, not before, and never sent."""
    lond = net.add("msul2")
    young = put(directory, ".new.1", b"echo:x\n")
    put(directory, "1.1.1.echo.msul2", b"echo:y\n")
    net.start()

    wait_until(is_empty(directory), "the other one is sent")

    assert young.exists()
    assert lond.received == [b"echo:y"]


# -- sealed at rest --------------------------------------------------------------------------


@pytest.fixture
def key_file(net: Network, directory: Path) -> Path:
    """Give a key file that the configuration names."""
    path = net.directory / "key"
    net.write()
    assert net.command("delayed", "new-key", str(path)).returncode == 0
    net.tables["delayed"]["key_file"] = "key"
    return path


def test_sealed_while_the_host_is_down(net: Network, directory: Path, key_file: Path) -> None:
    """What is to be encrypted is sealed in place; it is sent as it was once the host is back."""
    lond = net.add("msul2", start=False)
    secret = put(directory, "1.1.1.auth.msul2", b"encrypt:echo:secret\n")
    inline = put(directory, "1.1.2.auth.msul2", b"sethost:msul2:encrypt:echo:secret\n")
    clear = put(directory, "1.1.3.echo.msul2", b"echo:clear\n")
    before = secret.stat().st_mtime_ns
    net.start()
    wait_until(
        lambda: b"secret" not in secret.read_bytes() + inline.read_bytes(), "both are sealed"
    )

    assert secret.read_bytes().startswith(b"lonc-sealed:1:")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_mtime_ns == before
    assert clear.read_bytes() == b"echo:clear\n"
    lond.start()

    wait_until(is_empty(directory), "all are sent")
    assert lond.received == [b"echo:secret", b"sethost:msul2:echo:secret", b"echo:clear"]
    assert not any("secret" in line for line in lines_of(net))


@pytest.mark.parametrize("change", ["key", "byte", "no_key"])
def test_a_seal_that_does_not_open(
    net: Network, directory: Path, key_file: Path, change: str
) -> None:
    """With another key, no key, or a changed byte it goes to quarantine, and nothing is sent."""
    lond = net.add("msul2", start=False)
    path = put(directory, "1.1.1.auth.msul2", b"encrypt:echo:secret\n")
    daemon = net.start()
    wait_until(lambda: b"secret" not in path.read_bytes(), "it is sealed")
    daemon.end()
    daemon.close()
    if change == "byte":
        data = path.read_bytes()
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
        os.utime(path, (1, 1))
    else:
        key_file.unlink()
        if change == "key":
            net.command("delayed", "new-key", str(key_file))
        else:
            del net.tables["delayed"]["key_file"]
    lond.start()
    put(directory, "1.1.2.echo.msul2", b"echo:good\n")
    net.start()

    event = net.wait_for("delayed_quarantined", host="msul2")

    reasons = {"key": "wrong_key", "byte": "broken_seal", "no_key": "no_key"}
    assert event["reason"] == reasons[change]
    wait_until(is_empty(directory), "the good one is sent")
    assert lond.received == [b"echo:good"]


def test_a_key_file_that_others_may_read(net: Network, key_file: Path) -> None:
    """The daemon does not start with a key that is no secret."""
    net.add("msul2", start=False)
    key_file.chmod(0o644)
    daemon = net.start(ready=False)

    assert daemon.process.wait(15) == 2

    assert "0600" in daemon.stderr
    daemon.close()
    net.daemon = None


# -- killed at each step ---------------------------------------------------------------------


def start_until_killed(net: Network, point: str) -> None:
    """Start the daemon, and wait until it kills itself at that point."""
    net.write()
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    daemon = net.run(ready=False, env=env, program=("dying_daemon", point))
    assert daemon.process.wait(15) == -signal.SIGKILL
    daemon.close()
    net.daemon = None


@pytest.mark.parametrize(
    ("point", "times"), [("claimed", 1), ("answered", 2), ("removed", 1), ("done", 1)]
)
def test_killed_while_delivering(net: Network, directory: Path, point: str, times: int) -> None:
    """Whenever the daemon is killed, each request is received, in order, twice at most once."""
    lond = net.add("msul2")
    for i in range(3):
        put(directory, f"1.1.{i}.echo.msul2", b"echo:%d\n" % i)
    start_until_killed(net, point)

    net.start()

    wait_until(is_empty(directory), "all are sent")
    assert lond.received == [b"echo:0"] * times + [b"echo:1", b"echo:2"]


@pytest.mark.parametrize("point", ["half-written", "seal-written", "sealed"])
def test_killed_while_sealing(net: Network, directory: Path, key_file: Path, point: str) -> None:
    """The file is either whole and in clear or whole and sealed, and is sent once."""
    lond = net.add("msul2", start=False)
    path = put(directory, "1.1.1.auth.msul2", b"encrypt:echo:secret\n")
    start_until_killed(net, point)
    data = path.read_bytes()
    assert (data == b"encrypt:echo:secret\n") == (point != "sealed")
    assert data.startswith((b"lonc-sealed:1:", b"encrypt:"))
    assert data.endswith(b"\n")
    lond.start()

    net.start()

    wait_until(is_empty(directory), "it is sent")
    assert lond.received == [b"echo:secret"]


@pytest.mark.parametrize("point", ["quarantine-noted", "quarantine-moved", "half-written"])
def test_killed_while_putting_away(net: Network, directory: Path, point: str) -> None:
    """The file is in one of both places, whole, and ends in quarantine."""
    lond = net.add("msul2")
    put(directory, "1.1.1.echo.msul2", b"a\nb\n")
    put(directory, "1.1.2.echo.msul2", b"echo:good\n")
    start_until_killed(net, point)
    assert len(quarantined(directory)) + ("1.1.1.echo.msul2" in names(directory)) == 1

    net.start()

    wait_until(is_empty(directory), "both are dealt with")
    assert (directory / "quarantine" / "1.1.1.echo.msul2").read_bytes() == b"a\nb\n"
    assert lond.received == [b"echo:good"]


def test_killed_after_an_attempt_was_noted(net: Network, directory: Path) -> None:
    """The attempt counts, the file stays, and it is put away after the others."""
    net.tables["delayed"]["max_attempts"] = 2
    lond = net.add("msul2")
    put(directory, "1.1.1.fault.msul2", b"fault:drop-before\n")
    start_until_killed(net, "attempt-noted")
    assert names(directory)

    net.start()

    wait_until(is_empty(directory), "it is put away")
    assert lond.received == [b"fault:drop-before"] * 2


def test_the_writing_side(net: Network, directory: Path) -> None:
    """What the client library writes is private, and sent in the order in which it was written."""
    lond = net.add("msul2")
    paths = [delay(b"echo:%d" % i, "msul2", directory) for i in range(20)]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in paths)
    assert [path.name for path in paths] == names(directory)
    net.start()

    wait_until(is_empty(directory), "all are sent")

    assert lond.received == [b"echo:%d" % i for i in range(20)]


@pytest.mark.parametrize(
    ("request_line", "host"), [(b"", "h"), (b"\n", "h"), (b"a\nb", "h"), (b"a", ""), (b"a", "a/b")]
)
def test_what_cannot_be_written(tmp_path: Path, request_line: bytes, host: str) -> None:
    """What is no single line, or for no host, is refused, and nothing is left behind."""
    with pytest.raises(ValueError, match=r"line|host id"):
        delay(request_line, host, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_writers_in_the_same_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests of one microsecond get two names, in their order."""
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000_000)

    paths = [delay(b"echo:%d" % i, "msul2", tmp_path) for i in range(3)]

    assert len(set(paths)) == 3
    assert paths == sorted(paths)
    assert [path.read_bytes() for path in paths] == [b"echo:0\n", b"echo:1\n", b"echo:2\n"]


def test_writer_keeps_its_order_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of one process grow, whatever the clock says."""
    clock = iter([9_000_000_000_000, 5_000_000_000_000, 5_000_000_000_000, 9_000_000_500_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))

    paths = [delay(b"echo:%d" % i, "msul2", tmp_path) for i in range(4)]

    assert len(set(paths)) == 4
    assert paths == sorted(paths)
