# SPDX-License-Identifier: GPL-2.0-or-later
"""Shards: each host has exactly one process, and one process more moves few."""

from __future__ import annotations

from collections import Counter

import pytest
from hosts import host_settings
from hypothesis import given
from hypothesis import strategies as st

from lonc_gevent.configuration.settings import (
    Admin,
    Configuration,
    Daemon,
    Settings,
)
from lonc_gevent.configuration.shard import Shard, owner, parse, part

HOSTS = [f"host{number}" for number in range(2000)]


@given(st.text(max_size=20), st.integers(1, 20))
def test_each_host_has_one(host_id: str, of: int) -> None:
    """Exactly one of the processes serves a host, whatever its id is."""
    assert sum(Shard(number, of).holds(host_id) for number in range(of)) == 1


@pytest.mark.parametrize("of", [1, 2, 3, 4, 7, 16])
def test_one_process_more(of: int) -> None:
    """A new process takes its share, and nothing moves between the others."""
    moved = [host for host in HOSTS if owner(host, of) != owner(host, of + 1)]

    assert {owner(host, of + 1) for host in moved} == {of}
    assert abs(len(moved) - len(HOSTS) / (of + 1)) < 5 * (len(HOSTS) / (of + 1)) ** 0.5


def test_even_shares() -> None:
    """No process gets much more than the others."""
    shares = Counter(owner(host, 4) for host in HOSTS)

    assert all(400 < shares[number] < 600 for number in range(4))


def test_the_rule_never_changes() -> None:
    """Processes of two versions, side by side in an update, must agree whose a host is."""
    assert [owner(host, 5) for host in HOSTS[:12]] == [4, 0, 0, 4, 4, 1, 4, 1, 1, 4, 0, 3]


@pytest.mark.parametrize("text", ["0/1", "0/2", "1/2", "999/1000"])
def test_good_ones(text: str) -> None:
    """`I/N` is read, and shown the same way."""
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1", "/", "0/0", "1/1", "2/2", "-1/2", "0/1001", "a/b", "0/2/3", "¹/2", " 0/2"]
)
def test_bad_ones(text: str) -> None:
    """Anything else is refused with words for people."""
    with pytest.raises(ValueError, match=r"expected|counted"):
        parse(text)


def test_the_parts_make_the_whole() -> None:
    """Hosts and sockets are divided; files that two cannot share get the process's number."""
    whole = Configuration(
        settings=Settings(
            admin=Admin(socket="/s/lonc-admin"), daemon=Daemon(pid_file="/l/lonc.pid")
        ),
        hosts=tuple(map(host_settings, HOSTS[:50])),
        sockets={f"socket-{host_id}": host_id for host_id in HOSTS[:50]},
    )

    parts = [part(whole, Shard(number, 3)) for number in range(3)]

    assert sorted(h.id for p in parts for h in p.hosts) == sorted(HOSTS[:50])
    assert {k: v for p in parts for k, v in p.sockets.items()} == whole.sockets
    assert all(set(p.sockets.values()) == {h.id for h in p.hosts} for p in parts)
    assert [p.settings.daemon.pid_file for p in parts] == [f"/l/lonc.pid.{n}" for n in range(3)]
    assert [p.settings.admin.socket for p in parts] == [f"/s/lonc-admin.{n}" for n in range(3)]
    assert {p.settings.daemon.report_file for p in parts} == {""}


def test_what_gets_the_number() -> None:
    """The report gets it behind its name, the port of admin.listen is that much higher."""
    whole = Configuration(
        settings=Settings(
            admin=Admin(listen="[::1]:9663"), daemon=Daemon(report_file="/l/loncstatus.txt")
        ),
        hosts=(),
        sockets={},
    )
    second = part(whole, Shard(2, 3)).settings
    none = part(Configuration(settings=Settings(), hosts=(), sockets={}), Shard(2, 3)).settings

    assert second.admin.listen == "[::1]:9665"
    assert second.daemon.report_file == "/l/loncstatus.txt.2"
    assert none.admin.listen == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0/2/3", "expected I/N, such as 0/2, not '0/2/3'"),
        ("x" * 30, "not '" + "x" * 20 + "'$"),
        ("0/10000", "expected I/N"),
        ("0/9999", "expected 1 to 1000 processes, not 9999"),
        ("4/4", "processes are counted from 0: the last of 4 is 3$"),
    ],
)
def test_the_words_for_bad_ones(text: str, words: str) -> None:
    """They say what would be right."""
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_an_id_that_is_not_utf8() -> None:
    """It has its process, as any other."""
    assert owner("b\udcfcro", 7) == owner("b\udcfcro", 7) < 7
