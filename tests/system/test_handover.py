# SPDX-License-Identifier: GPL-2.0-or-later
"""What a restart in place (HUP) hands over: requests, lond connections, states and counters."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import Authority
from harness import wait_until
from test_restart import frozen, hup
from unixhttp import host_status, http

import lonc_gevent

if TYPE_CHECKING:
    from harness import Lond, Network

LARGE = 12_000_000
"""Bytes that fit neither into the buffers of a TCP connection nor into those of a Unix socket."""


@pytest.fixture(autouse=True)
def patience(net: Network) -> None:
    """Let no time limit of the network end what a test keeps in progress on a busy machine."""
    net.pool |= dict.fromkeys(
        ("reply_timeout", "queue_timeout", "unacknowledged_timeout", "idle_timeout"), 60.0
    )
    net.pool |= {
        "max_connections": 2,
        "max_request_bytes": 30_000_000,
        "max_reply_bytes": 30_000_000,
    }


def made(net: Network, host: str = "msul2") -> float:
    """Return how many connections to the lond of a host were made, over all restarts."""
    return counters(net)[f'lonc_connection_attempts_total{{host="{host}",result="ok"}}']


def counters(net: Network) -> dict[str, float]:
    """Return all counters of the metrics, those of histograms included."""
    lines = http(net, "/metrics").body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        name: float(value)
        for name, value in pairs
        if name.partition("{")[0].endswith(("_total", "_count", "_bucket", "_sum"))
    }


def wait_for_request(lond: Lond, request: bytes) -> None:
    """Wait until the lond has received the request."""
    wait_until(lambda: request in lond.received, f"{request!r} at lond")


def test_request_at_lond_is_answered_after_three_restarts(net: Network) -> None:
    """On the connection that it was sent on; a request in the queue follows it there."""
    net.pool["max_connections"] = 1
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as busy, net.client("msul2") as waiting:
        busy.send(b"delay:300:first\n")
        wait_for_request(lond, b"delay:300:first")
        with frozen(lond):
            waiting.send(b"echo:second\n")
            wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "the second one waits")
            hup(net, 3)
            assert host_status(net, "msul2")["busy"] == 1
            assert host_status(net, "msul2")["queue"] == 1
        assert busy.line() == b"first\n"
        assert waiting.line() == b"second\n"
    assert lond.received == [b"delay:300:first", b"echo:second"]
    assert made(net) == 1
    assert [event["con_lost"] for event in net.find("handing_over")] == [0, 0, 0]


def test_slow_requests_get_their_own_replies_without_a_new_connection(net: Network) -> None:
    """A HUP does not wait for them."""
    net.pool["max_connections"] = 8
    net.tables["admin"] = {"stop_timeout": 600.0}
    lond = net.add("msul2")
    net.start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(net.client("msul2")) for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(b"delay:%d:%d\n" % (1000 - 100 * number, number))
        wait_until(lambda: len(lond.received) == 8, "all are at lond")
        connections = made(net)
        with frozen(lond):
            hup(net)
            assert host_status(net, "msul2")["busy"] == 8
        assert [client.line() for client in clients] == [b"%d\n" % n for n in range(8)]
        assert clients[0].ask(b"ping") == b"msul2"
    assert made(net) == connections
    assert len(lond.received) == 9


@pytest.mark.parametrize("security", ["insecure", "ssl", "local"])
def test_idle_connection_keeps_its_session(net: Network, security: str) -> None:
    """An encrypted request after the restart uses the key of the program before."""
    options: tuple[str, ...] = ("--client-id", "msul1")
    if security == "ssl":
        authority = Authority(net.directory)
        net.tables["network"] = authority.settings(authority.sign("lonc", "msul1"))
        options += authority.lond_options(authority.sign("lond"))
    net.add("msul2", *options, security=security)
    net.start()
    assert net.ask("msul2", b"encrypt:echo:before") == b"before"
    connections = made(net)
    hup(net, 2)
    assert host_status(net, "msul2")["idle"] == connections
    assert net.ask("msul2", b"encrypt:echo:after") == b"after"
    assert made(net) == connections


def test_reply_that_has_arrived_in_part_is_completed(net: Network) -> None:
    """Large, sealed, and interrupted by restarts at any place."""
    lond = net.add("msul2", "--client-id", "msul1")
    net.start()
    text = b"z" * LARGE
    with net.client("msul2") as plain, net.client("msul2") as sealed:
        plain.send(b"echo:" + text + b"\n")
        sealed.send(b"encrypt:echo:" + text + b"\n")
        hup(net, 2)
        assert plain.line() == text + b"\n"
        assert sealed.line() == text + b"\n"
    assert len(lond.received) == 2
    assert not net.find("reply_lost")


def test_request_and_reply_that_are_sent_in_part_are_completed(net: Network) -> None:
    """A lond that does not read, and a client that does not read its reply yet."""
    lond = net.add("msul2")
    net.start()
    net.wait_for("connection_made")
    text = b"y" * LARGE
    with net.client("msul2") as slow, net.client("msul2") as large:
        slow.send(b"echo:" + text + b"\n")
        wait_until(lambda: host_status(net, "msul2")["ok"] == 1, "the reply is there")
        with frozen(lond):
            large.send(b"echo:" + text + b"\n")
            wait_until(lambda: host_status(net, "msul2")["busy"] == 1, "the request is begun")
            hup(net, 2)
        assert slow.line() == text + b"\n"
        assert large.line() == text + b"\n"
        assert slow.ask(b"ping") == b"msul2"
    assert len(lond.received) == 3


def test_pauses_gates_and_counters_are_handed_over(net: Network) -> None:
    """No counter is less than before, and a host that was down is down, for as long as before."""
    net.pool |= {"retry_backoff_min": 3600.0, "retry_backoff_max": 3600.0}
    net.add("msul2", "--client-id", "msul1")
    net.add("down", start=False)
    net.start()
    for _ in range(20):
        assert net.ask("msul2", b"ping") == b"msul2"
    assert net.ask("down", b"ping") == b"con_lost"
    wait_until(lambda: host_status(net, "down")["state"] == "down", "it is down")
    assert http(net, "/hosts/msul2/pause", "POST").status == 200
    before, down = counters(net), host_status(net, "down")
    hup(net, 2)
    after, still = counters(net), host_status(net, "down")
    assert not {name for name in before if after.get(name, -1.0) < before[name]}
    assert after['lonc_requests_total{host="msul2",outcome="ok"}'] == 20
    assert (still["state"], still["error"]) == ("down", down["error"])
    assert (still["next_attempt_in_s"] or 0.0) < down["next_attempt_in_s"]
    assert still["con_lost"] == 1
    assert host_status(net, "msul2")["state"] == "paused"


def test_charts_are_handed_over(net: Network) -> None:
    """The requests of before are in the chart after."""
    net.add("msul2")
    net.start()
    for _ in range(5):
        assert net.ask("msul2", b"ping") == b"msul2"

    def charted() -> float:
        return float(sum(http(net, "/status").json["charts"]["rate"]))

    wait_until(lambda: charted() > 0, "a step of the history")
    before = charted()
    hup(net)
    assert charted() == before


def test_host_with_other_settings_gets_new_connections_after_its_transaction(net: Network) -> None:
    """As on USR2."""
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as busy:
        busy.send(b"delay:300:done\n")
        wait_for_request(lond, b"delay:300:done")
        net.hosts["msul2"]["max_reply_bytes"] = 1_000_000
        net.write()
        connections = made(net)
        with frozen(lond):
            hup(net)
        assert busy.line() == b"done\n"
        assert busy.ask(b"ping") == b"msul2"
    assert made(net) == connections + 1


def test_transaction_of_a_removed_host_finishes(net: Network) -> None:
    """Its queued requests get con_lost, and its clients are disconnected."""
    net.pool["max_connections"] = 1
    lond = net.add("msul2")
    net.add("nscll1")
    net.start()
    with net.client("msul2") as busy, net.client("msul2") as waiting:
        busy.send(b"delay:300:done\n")
        wait_for_request(lond, b"delay:300:done")
        with frozen(lond):
            waiting.send(b"echo:queued\n")
            wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "one waits")
            del net.hosts["msul2"]
            net.write()
            hup(net)
            assert waiting.line() == b"con_lost\n"
        assert busy.line() == b"done\n"
        assert busy.at_end()


def test_delayed_request_at_lond_is_not_sent_again(net: Network) -> None:
    """Its file is removed by the program that gets the reply."""
    net.tables["delayed"] = {"directory": "delayed", "settle": 0.1, "scan_interval": 0.2}
    lond = net.add("msul2")
    net.start()
    file = net.directory / "delayed" / "1.1.1.echo.msul2"
    new = file.with_name(".new.test")
    new.write_bytes(b"delay:300:late\n")
    new.chmod(0o600)
    new.rename(file)
    wait_for_request(lond, b"delay:300:late")
    with frozen(lond):
        hup(net, 2)
        assert file.exists()
    wait_until(lambda: not file.exists(), "its file is removed")
    assert net.wait_for("delayed_replayed")["file"]
    assert lond.received == [b"delay:300:late"]


def test_lond_that_closes_during_the_restart_costs_its_request_only(net: Network) -> None:
    """The next program finds the end of the connection, and con_lost is the reply."""
    lond = net.add("msul2")
    daemon = net.start()
    with net.client("msul2") as client:
        client.send(b"fault:mute\n")
        wait_for_request(lond, b"fault:mute")
        daemon.send_signal(signal.SIGHUP)
        net.wait_for("handing_over")
        lond.kill()
        assert client.line() == b"con_lost\n"
        lond.start()
        assert client.ask(b"ping") == b"msul2"
    assert lond.received.count(b"fault:mute") == 1


def test_client_that_disconnects_meanwhile_leaves_the_connection_in_order(net: Network) -> None:
    """The reply to its request is not given to the next client."""
    net.pool["max_connections"] = 1
    lond = net.add("msul2")
    net.start()
    with net.client("msul2") as gone, net.client("msul2") as next_one:
        gone.send(b"delay:300:for the first\n")
        wait_for_request(lond, b"delay:300:for the first")
        with frozen(lond):
            gone.sock.shutdown(socket.SHUT_RDWR)
            next_one.send(b"echo:for the second\n")
            hup(net)
        assert next_one.line() == b"for the second\n"


def test_nothing_secret_of_the_handover_gets_out(net: Network) -> None:
    """A request at lond, and the beginning of another, stay out of environment, files and log."""
    canary = b"CANARY5ecret"
    net.tables["log"] = {"level": "debug"}
    lond = net.add("msul2", "--client-id", "msul1")
    daemon = net.start()
    with net.client("msul2") as busy, net.client("msul2") as half:
        half.send(b"echo:" + canary)
        busy.send(b"encrypt:fault:mute:" + canary + b"\n")
        wait_for_request(lond, b"fault:mute:" + canary)
        hup(net, 2)
        assert host_status(net, "msul2")["busy"] == 1
        out = Path(f"/proc/{daemon.pid}/environ").read_bytes() + "".join(daemon.lines).encode()
        for path in net.directory.rglob("*"):
            if path.is_file() and path != lond.record:
                out += path.read_bytes()
    assert canary not in out


def test_program_of_another_version_gets_a_reduced_handover(net: Network) -> None:
    """What is queued is answered by it; what lond does not answer in stop_timeout gets con_lost."""
    net.pool["max_connections"] = 1
    net.tables["admin"] = {"stop_timeout": 0.3}
    lond = net.add("msul2")
    code = net.directory / "code"
    shutil.copytree(Path(lonc_gevent.__file__).parent, code / "lonc_gevent")
    net.start(env={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"})
    module = code / "lonc_gevent" / "daemon" / "handover.py"
    text = module.read_text()
    assert text.count("\nVERSION: Final = 3\n") == 1
    module.write_text(text.replace("\nVERSION: Final = 3\n", "\nVERSION: Final = 4\n"))
    with net.client("msul2") as busy, net.client("msul2") as waiting, net.client("msul2") as idle:
        assert idle.ask(b"ping") == b"msul2"
        busy.send(b"fault:mute\n")
        wait_for_request(lond, b"fault:mute")
        waiting.send(b"echo:queued\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "one waits")
        hup(net)
        assert busy.line() == b"con_lost\n"
        assert waiting.line() == b"queued\n"
        assert idle.ask(b"ping") == b"msul2"
        assert busy.ask(b"ping") == b"msul2"
    assert host_status(net, "msul2")["state"] == "up"
    assert net.find("handover_reduced")[0]["version"] == 4
    assert net.find("handing_over")[0]["con_lost"] == 1
    assert lond.received.count(b"echo:queued") == 1
