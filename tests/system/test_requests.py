# SPDX-License-Identifier: GPL-2.0-or-later
"""A request's way through the real daemon, as a web process sees it (contract.md, "Sockets")."""

from __future__ import annotations

import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from unixhttp import host_status
from users import WEB, as_user, only_root

if TYPE_CHECKING:
    from harness import Network


def test_a_request_gets_its_reply(net: Network) -> None:
    """A request line goes to the host's lond, and its reply line comes back."""
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"echo:hello") == b"hello"
    assert net.ask("msul2", b"ping") == b"msul2"
    assert net.londs["msul2"].received == [b"echo:hello", b"ping"]


@pytest.mark.parametrize("habit", ["legacy", "modern"])
@pytest.mark.parametrize("negotiation", ["auto", "legacy", "modern"])
def test_each_way_to_negotiate(net: Network, habit: str, negotiation: str) -> None:
    """Each negotiation reaches the londs that it is meant for, encrypted requests too."""
    net.add("msul2", "--habit", habit, negotiation=negotiation)
    net.start()

    if (habit, negotiation) == ("legacy", "modern"):
        assert net.ask("msul2", b"ping") == b"con_lost"
        net.wait_for("connection_failed", host="msul2")
    else:
        assert net.ask("msul2", b"encrypt:eget:secret") == b"secret"
        assert net.ask("msul2", b"ping") == b"msul2"


def test_every_byte_but_the_newline_passes(net: Network) -> None:
    """Requests and replies are bytes: nothing is decoded, changed or cut."""
    net.add("msul2")
    net.start()
    payload = bytes(b for b in range(256) if b != 10) * 20

    assert net.ask("msul2", b"echo:" + payload) == payload


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096, 1_000_000])
def test_an_encrypted_request_of_any_size(net: Network, size: int) -> None:
    """What starts with `encrypt:` is sealed on the wire, and a sealed reply comes in clear."""
    net.add("msul2")
    net.start()
    text = b"x" * size

    assert net.ask("msul2", b"encrypt:eget:" + text) == text


def test_encryption_behind_a_sethost_prefix(net: Network) -> None:
    """`encrypt:` counts after one `sethost:ID:` prefix too (protocol.md, section 3e)."""
    net.add("msul2")
    net.start()

    assert net.ask("msul2", b"sethost:msul2:encrypt:eget:text") == b"text"
    assert net.ask("msul2", b"sethost:msul2:echo:text") == b"text"


def test_several_lines_in_one_write(net: Network) -> None:
    """Several lines written at once are answered one by one, in order."""
    net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        client.send(b"".join(b"echo:%d\n" % i for i in range(100)))
        assert [client.line() for _ in range(100)] == [b"%d\n" % i for i in range(100)]


def test_a_line_in_many_pieces(net: Network) -> None:
    """A request that arrives byte by byte is one request."""
    net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        for byte in b"echo:slowly\n":
            client.send(bytes([byte]))
        assert client.line() == b"slowly\n"


def test_a_large_request_and_its_reply(net: Network) -> None:
    """A line of many megabytes comes back whole, although neither side takes it at once."""
    net.add("msul2")
    net.start()
    text = b"0123456789abcdef" * (512 * 1024)

    with net.client("msul2") as client:
        sender = threading.Thread(target=client.send, args=(b"echo:" + text + b"\n",))
        sender.start()
        reply = client.line()
        sender.join()
        assert reply == text + b"\n"
        assert client.ask(b"ping") == b"msul2"


def test_a_client_that_leaves_early_loses_only_its_reply(net: Network) -> None:
    """A request that a connection has taken runs to its end, though its client disconnects."""
    lond = net.add("msul2")
    net.start()
    assert net.ask("msul2", b"ping") == b"msul2"

    with net.client("msul2") as client:
        client.send(b"echo:from one who leaves\n")

    wait_until(lambda: lond.received[1:] == [b"echo:from one who leaves"], "lond got the request")
    assert net.ask("msul2", b"ping") == b"msul2"


def test_a_queued_request_of_a_client_that_left_is_dropped(net: Network) -> None:
    """So that after a burst the requests of clients that still wait are sent; it is counted."""
    net.pool |= {"max_connections": 1}
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as busy, net.client("msul2") as half_closed:
        busy.send(b"delay:2000:first\n")
        wait_until(lambda: lond.received, "lond has the first one")
        with net.client("msul2") as leaving:
            leaving.send(b"echo:of one who left\n")
            wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "it waits")
        half_closed.send(b"echo:second\n")
        half_closed.sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: host_status(net, "msul2")["queue"] == 2, "both wait")
        assert busy.line() == b"first\n"
        assert half_closed.line() == b"second\n"
    assert lond.received == [b"delay:2000:first", b"echo:second"]
    assert host_status(net, "msul2")["con_lost"] == 0, "no client got con_lost"


def test_half_a_request_is_not_sent(net: Network) -> None:
    """A client that leaves before its newline has asked for nothing."""
    lond = net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        client.send(b"echo:half a req")

    assert net.ask("msul2", b"ping") == b"msul2"
    assert lond.received == [b"ping"]


def test_a_client_that_closes_its_sending_side_gets_its_reply(net: Network) -> None:
    """A client that will send no more may still read (`echo ping | nc -U`)."""
    net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        client.send(b"delay:100:late\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.line() == b"late\n"
        assert client.at_end()


def test_client_that_never_reads_delays_no_other(net: Network) -> None:
    """The lond connection is free as soon as its reply is whole, even if it is not read."""
    net.pool["max_connections"] = 1
    net.add("msul2")
    net.start()

    with net.client("msul2") as deaf:
        deaf.send(b"big:8000000\n")
        for i in range(20):
            assert net.ask("msul2", b"echo:%d" % i) == b"%d" % i
        assert len(deaf.line()) == 8_000_001


def test_a_client_that_never_reads_is_closed_in_the_end(net: Network) -> None:
    """A reply that the client does not read within reply_timeout is dropped."""
    net.pool["reply_timeout"] = 0.5
    net.add("msul2")
    net.start()

    with net.client("msul2") as deaf:
        deaf.send(b"big:8000000\n")
        event = net.wait_for("client_stalled", host="msul2")
        assert event["client_pid"]


def test_a_request_over_the_limit(net: Network) -> None:
    """A request over max_request_bytes gets con_lost, then the connection is closed."""
    net.pool["max_request_bytes"] = 1000
    net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        client.send(b"echo:" + b"x" * 994 + b"\n")
        assert client.line() == b"x" * 994 + b"\n"
        client.send(b"echo:" + b"x" * 995 + b"\n")
        assert client.line() == b"con_lost\n"
        assert client.at_end()
    event = net.wait_for("request_too_long", host="msul2")
    assert "max_request_bytes" in event["error"]
    assert len(net.londs["msul2"].received) == 1


def test_a_request_that_never_ends(net: Network) -> None:
    """The limit holds before the newline is seen."""
    net.pool["max_request_bytes"] = 100_000
    net.add("msul2")
    net.start()

    with net.client("msul2") as client:
        client.send(b"x" * 100_000)
        assert client.line() == b"con_lost\n"


def test_reset_retries_is_for_the_daemon(net: Network) -> None:
    """`reset_retries` opens the gate of a host that is down, and is never sent on."""
    net.pool |= {"retry_backoff_min": 1000.0, "retry_backoff_max": 1000.0}
    lond = net.add("msul2", start=False)
    net.start()
    assert net.ask("msul2", b"ping") == b"con_lost"
    net.wait_for("host_down", host="msul2")
    lond.start()

    assert net.ask("msul2", b"reset_retries") == b"ok"

    net.wait_for("host_up", host="msul2")
    assert net.ask("msul2", b"ping") == b"msul2"
    assert lond.received == [b"ping"]


def test_close_connection_exit_is_for_the_daemon(net: Network) -> None:
    """`close_connection_exit` closes the host's connections, and is never sent on."""
    lond = net.add("msul2")
    net.start()
    net.wait_for("connection_made")
    with net.client("msul2") as busy:
        busy.send(b"delay:300:slow\n")
        wait_until(lambda: lond.received, "lond has the request")

        assert net.ask("msul2", b"close_connection_exit") == b"ok"

        assert busy.line() == b"slow\n"
    net.wait_for("connection_closed", host="msul2")
    assert net.ask("msul2", b"ping") == b"msul2"
    assert lond.received == [b"delay:300:slow", b"ping"]


def test_the_mode_of_the_sockets(net: Network) -> None:
    """Sockets have the mode that the configuration says."""
    net.tables["sockets"] = {"mode": "0640"}
    net.add("msul2")
    net.start()

    found = (net.sockets / "msul2").stat()

    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o640


@only_root
@pytest.mark.parametrize(("uids", "answered"), [([WEB], True), ([54321, "root"], False)])
def test_only_some_users_may_connect(net: Network, uids: list[int | str], answered: bool) -> None:
    """With allow_uids, the user that the kernel reports decides."""
    net.directory.chmod(0o711)
    net.tables["sockets"] = {"allow_uids": uids, "mode": "0666"}
    net.add("msul2")
    net.start()
    assert net.ask("msul2", b"ping") == b"msul2", "the daemon's own user is admitted"

    with as_user(WEB), net.client("msul2") as client:
        if answered:
            assert client.ask(b"ping") == b"msul2"
        else:
            assert client.at_end()
            assert net.wait_for("client_denied", host="msul2")["client_pid"]


def test_sampled_transactions_are_logged_without_their_payload(net: Network) -> None:
    """With log.sample, an event says how a transaction went, and nothing of what it held."""
    net.tables["log"] = {"sample": 2}
    net.add("msul2")
    net.start()

    for _ in range(4):
        assert net.ask("msul2", b"echo:canary") == b"canary"

    event = net.wait_for("transaction", times=2, host="msul2")
    assert (event["verb"], event["request_bytes"], event["reply_bytes"]) == ("echo", 12, 7)
    assert len(net.find("transaction")) == 2
    assert "canary" not in "".join(net.daemon.lines if net.daemon else [])
