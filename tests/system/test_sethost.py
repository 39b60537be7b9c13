# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests for one of several ids on a lond: in one line to newer ones, in two to older ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import pytest
from gevent import socket

from lonc_gevent.backend.lond import Lond
from lonc_gevent.errors import StaleConnectionError, UnsolicitedBytesError
from lonc_gevent.eventloop import Stream
from lonc_gevent.protocol.handshake import Session

if TYPE_CHECKING:
    import harness
    from harness import Network


def two_ids(net: Network, *options: str) -> harness.Lond:
    """Add a lond with two ids, and one connection to it."""
    lond = net.add("msul2", "--id", "msul2b", "--client-id", "msul1", *options, max_connections=1)
    net.start()
    return lond


@pytest.mark.parametrize("revision", [1, 321, 322, 402])
def test_each_id_is_asked(net: Network, revision: int) -> None:
    """The prefix says which id is meant, and holds for that request alone, whatever lond's age."""
    two_ids(net, "--revision", str(revision))

    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        assert client.ask(b"sethost:msul2b:ping") == b"msul2b"
        assert client.ask(b"sethost:msul2b:ping") == b"msul2b"
        assert client.ask(b"ping") == b"msul2"
        assert client.ask(b"sethost:msul2:ping") == b"msul2"
        assert client.ask(b"sethost:msul2b:encrypt:eget:x") == b"x"
        assert client.ask(b"encrypt:ping") == b"msul2"
    net.wait_for("connection_made")
    assert len(net.find("connection_made")) == 1


@pytest.mark.parametrize("revision", [321, 402])
def test_an_id_that_lond_does_not_have(net: Network, revision: int) -> None:
    """Its refusal is the reply; the request itself is not run, and the next one is right again."""
    lond = two_ids(net, "--revision", str(revision))

    with net.client("msul2") as client:
        assert client.ask(b"sethost:elsewhere:echo:no") == b"unable_to_set"
        assert client.ask(b"ping") == b"msul2"
    assert b"echo:no" not in lond.received


def test_a_lond_without_sethost(net: Network) -> None:
    """A lond of 2003 is never sent a prefix for the one host that it has."""
    lond = two_ids(net, "--habit", "legacy")

    with net.client("msul2") as client:
        assert client.ask(b"sethost:msul2:ping") == b"msul2"
        assert client.ask(b"sethost:msul2b:echo:no") == b"unknown_cmd"
        assert client.ask(b"sethost:msul2:echo:a:b") == b"a:b"
    assert lond.received == [b"ping", b"sethost:msul2b", b"echo:a:b"]


ANSWERS = {
    ("--revision", "300"): (b"ok", b"ok"),
    ("--revision", "402"): (b"ok", b"ok"),
    ("--habit", "legacy"): (b"unknown_cmd", b"unknown_cmd"),
}
"""By the age of lond: what it says to a bare sethost, and to one behind another."""


@pytest.mark.parametrize("options", ANSWERS)
def test_a_bare_sethost(net: Network, options: tuple[str, str]) -> None:
    """A client that sets the host for itself does not change it for others."""
    lond = two_ids(net, *options)
    bare, nested = ANSWERS[options]

    with net.client("msul2") as client, net.client("msul2") as other:
        for _ in range(2):
            assert client.ask(b"sethost:msul2b") == bare
            assert other.ask(b"ping") == b"msul2"
            assert client.ask(b"sethost:msul2:sethost:msul2b") == nested
            assert other.ask(b"ping") == b"msul2"
            assert other.ask(b"ping") == b"msul2"
        assert client.ask(b"sethost:msul2:echo:x") == b"x"
    assert lond.received.count(b"ping") == 6


@pytest.mark.parametrize(
    "request_line",
    [
        b"encrypt:sethost:msul2b",
        b"encrypt:sethost:msul2b:ping",
        b"sethost\r:msul2b",
        b"\rsethost:msul2b",
        b"SETHOST:msul2b",
        b"sethost:msul2: sethost:msul2b",
    ],
)
@pytest.mark.parametrize("revision", [300, 402])
def test_host_that_a_client_sets_in_another_spelling_is_not_set_for_others(
    net: Network, request_line: bytes, revision: int
) -> None:
    """Neither the `encrypt:` in front of it nor its spelling lets it stay on a connection."""
    two_ids(net, "--revision", str(revision))

    with net.client("msul2") as client, net.client("msul2") as other:
        assert other.ask(b"ping") == b"msul2"
        assert client.ask(request_line) not in (b"", b"con_lost", b"unknown_cmd")
        assert other.ask(b"ping") == b"msul2"


@pytest.mark.parametrize(
    "request_line",
    [
        b"ekey",
        b"sethost:msul2:ekey",
        b"encrypt:ekey",
        b"ek\rey",
        b" EKEY",
        b"sethost:msul2:sethost:msul2:ekey",
        b"init",
        b"exit",
    ],
)
@pytest.mark.parametrize("revision", [300, 402])
def test_a_key_that_a_client_asks_for(net: Network, request_line: bytes, revision: int) -> None:
    """Only that client is affected: no other request uses that connection any more."""
    two_ids(net, "--revision", str(revision))

    with net.client("msul2") as client, net.client("msul2") as other:
        assert other.ask(b"eget:before") == b"before"
        assert client.ask(request_line) not in (b"", b"con_lost")
        assert other.ask(b"encrypt:echo:sealed") == b"sealed"
        assert other.ask(b"eget:after") == b"after"


def stream_of(sock: socket.socket) -> Stream:
    """Make a stream of a socket."""
    stream = Stream(gevent.get_hub())
    stream.open(sock.detach())
    return stream


def test_unrequested_line_after_the_answer_to_sethost_closes_the_connection() -> None:
    """It is not a reply: nothing of the request was sent, so another connection may send it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    peer = gevent.spawn(lambda: (theirs.recv(100), theirs.send(b"ok\nUNASKED\n")))
    session = Session(bytes(16), lond_version=300, host_set=True)
    lond = Lond(stream_of(ours), session, "msul2", 100)

    with pytest.raises(UnsolicitedBytesError, match="sethost"):
        lond.exchange(b"sethost:msul2b:store:once\n")
    peer.join()
    lond.close()
    theirs.close()


def test_a_lond_lost_at_sethost() -> None:
    """Where only the sethost was sent, nothing of the request was: another connection may try."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard: list[bytes] = []

    def hang_up() -> None:
        heard.append(theirs.recv(100))
        theirs.close()

    peer = gevent.spawn(hang_up)
    session = Session(bytes(16), lond_version=300, host_set=True)
    lond = Lond(stream_of(ours), session, "msul2", 100)

    with pytest.raises(StaleConnectionError, match="sethost"):
        lond.exchange(b"sethost:msul2b:store:once\n")
    peer.join()
    lond.close()
    assert heard == [b"sethost:msul2b\n"]
