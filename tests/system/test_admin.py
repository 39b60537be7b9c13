# SPDX-License-Identifier: GPL-2.0-or-later
"""The admin socket: what it says, what it does, and who may."""

from __future__ import annotations

import grp
import gzip
import json
import os
import pwd
import signal
import socket
import stat
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, Client, free_port, network, sockets_in, wait_until
from unixhttp import UnixConnection, exchange, host_status, http
from users import only_root, unprivileged

import lonc_gevent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Network


@pytest.fixture
def listen(net: Network) -> str:
    """Have the daemon listen on TCP, too."""
    address = f"127.0.0.1:{free_port()}"
    net.tables["admin"] = {"listen": address}
    return address


def test_version_is_in_status_metrics_and_log(net: Network) -> None:
    version = lonc_gevent.__version__
    net.add("msul2", start=False)
    net.start()

    assert json.loads(http(net, "/status").body)["version"] == version
    metric = f'lonc_build_info{{version="{version}"}} 1.0\n'
    assert metric.encode() in http(net, "/metrics").body
    assert net.find("starting")[0]["version"] == version


def test_only_its_owner_may_connect(net: Network) -> None:
    """The admin socket has mode 0600, and is gone when the daemon is."""
    net.add("msul2")
    daemon = net.start()
    path = net.sockets / "lonc-admin"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert daemon.end() == 0
    assert not path.exists()


def test_group_of_operators_may_use_the_socket(net: Network) -> None:
    net.add("msul2", start=False)
    group = grp.getgrgid(os.getegid()).gr_name
    net.tables["admin"] = {"group": group}
    net.start()

    status = (net.sockets / "lonc-admin").stat()

    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getegid()


def test_unknown_group_of_operators_is_refused(net: Network) -> None:
    net.add("msul2", start=False)
    net.tables["admin"] = {"group": "no-such-group"}
    net.write()

    result = net.command("check")

    assert result.returncode == 2
    assert b'admin.group: no group "no-such-group"' in result.stderr


@only_root
def test_user_without_permission_is_named_the_owner_of_the_socket(net: Network) -> None:
    net.add("msul2", start=False)
    net.start()
    os.chown(net.sockets / "lonc-admin", pwd.getpwnam("nobody").pw_uid, -1)

    result = unprivileged(lambda: net.command("status"))

    assert result.returncode == 5
    assert b"permission denied: you are root, the socket is for nobody" in result.stderr


def test_status_counts_what_happened(net: Network) -> None:
    """`/status` has each host with its counts, the worst first, and the totals."""
    net.add("msul2")
    net.add("msul9", start=False)
    net.start()
    for _ in range(3):
        net.ask("msul2", b"ping")
    assert net.ask("msul9", b"ping") == b"con_lost"

    status = http(net, "/status").json

    worst, best = status["hosts"]
    assert (worst["host"], worst["state"], worst["con_lost"]) == ("msul9", "down", 1)
    assert worst["error"].startswith("unreachable: ")
    assert worst["lost_lately"] == 1
    assert (best["host"], best["state"], best["ok"]) == ("msul2", "up", 3)
    assert 0 < best["p50_ms"] <= best["p99_ms"]
    assert best["rate"] > 0
    totals = status["totals"]
    assert (totals["hosts"], totals["requests"], totals["con_lost"]) == (2, 4, 1)
    assert totals["states"] == {"down": 1, "up": 1}
    assert status["phase"] == "ready"
    assert len(status["charts"]["rate"]) == 90


def test_one_host(net: Network) -> None:
    """`/hosts/ID` is one host with its charts; an unknown one is not found."""
    net.add("s10.l2")
    net.start()

    assert http(net, "/hosts/s10.l2").json["host"]["host"] == "s10.l2"
    assert http(net, "/hosts/s10%2El2").json["host"]["host"] == "s10.l2"
    assert http(net, "/hosts/s10").status == 404
    assert http(net, "/hosts/").status == 404
    assert http(net, "/else").status == 404


def test_health_and_readiness(net: Network) -> None:
    """`/healthz` and `/readyz` say 200; while the daemon stops, `/readyz` says why it is not."""
    net.tables["admin"] = {"stop_timeout": 10.0}
    net.add("msul2")
    daemon = net.start()
    assert http(net, "/healthz").status == http(net, "/readyz").status == 200

    connection = UnixConnection(net.sockets / "lonc-admin")
    with net.client("msul2") as client:
        client.send(b"fault:mute\n")
        wait_until(lambda: host_status(net, "msul2")["busy"], "the request is under way")
        daemon.send_signal(signal.SIGTERM)
        net.wait_for("stopping")
        unready = exchange(connection, "GET", "/readyz")
        healthy = exchange(connection, "GET", "/healthz")
    connection.close()

    assert (unready.status, unready.body) == (503, b"stopping\n")
    assert healthy.status == 200
    assert daemon.end() == 0


def test_head_has_no_body(net: Network) -> None:
    """HEAD gets the headers of GET, and the connection goes on after it."""
    net.add("msul2")
    net.start()
    connection = UnixConnection(net.sockets / "lonc-admin")

    for path in ("/", "/status", "/metrics", "/healthz"):
        response = exchange(connection, "HEAD", path)
        assert (response.status, response.body) == (200, b""), path
        assert int(response.headers["Content-Length"]), path
    connection.close()


def test_a_paused_host_lets_requests_wait(net: Network) -> None:
    """pause: what is under way finishes, connections end, requests wait; resume: they are sent."""
    lond = net.add("msul2")
    net.start()
    assert net.ask("msul2", b"ping") == b"msul2"

    paused = http(net, "/hosts/msul2/pause", "POST")
    replies: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: replies.append(net.ask("msul2", b"echo:1")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: host_status(net, "msul2")["queue"] == 3, "three requests wait")
    waiting = host_status(net, "msul2")
    seen = len(lond.received)
    resumed = http(net, "/hosts/msul2/resume", "POST")
    for thread in threads:
        thread.join(PATIENCE)

    assert (paused.status, paused.body) == (200, b"pause: msul2 is paused\n")
    assert (waiting["state"], waiting["idle"], waiting["busy"]) == ("paused", 0, 0)
    assert waiting["oldest_wait_s"] > 0
    assert seen == 1, "nothing is sent while the host is paused"
    assert resumed.status == 200
    assert len(replies) == 3
    assert b"con_lost" not in replies
    assert host_status(net, "msul2")["state"] == "up"
    event = net.find("admin_command")[0]
    assert (event["command"], event["host"]) == ("pause", "msul2")
    assert net.wait_for("host_paused")["host"] == "msul2"
    assert net.wait_for("host_resumed")["queue"] == 3
    assert (event["client_uid"], event["client_pid"]) == (os.getuid(), os.getpid())


def test_queue_timeout_holds_while_paused(net: Network) -> None:
    """A request that waits for a paused host gets con_lost after queue_timeout."""
    net.pool["queue_timeout"] = 0.3
    net.add("msul2")
    net.start()
    http(net, "/hosts/msul2/pause", "POST")

    assert net.ask("msul2", b"ping") == b"con_lost"


def test_pause_lets_what_is_under_way_finish(net: Network) -> None:
    """A request that was sent before the pause gets its reply."""
    net.add("msul2")
    net.start()
    with net.client("msul2") as client:
        client.send(b"fault:drip:whole\n")
        wait_until(lambda: host_status(net, "msul2")["busy"], "the request is under way")
        http(net, "/hosts/msul2/pause", "POST")

        assert client.line() == b"fault:drip:whole\n"

    wait_until(lambda: not host_status(net, "msul2")["busy"], "nothing is under way")
    assert host_status(net, "msul2")["idle"] == 0


def test_a_paused_host_that_is_down_keeps_its_queue(net: Network) -> None:
    """Requests for a paused host wait even if it is down; after resume it is tried at once."""
    net.pool["retry_backoff_min"] = net.pool["retry_backoff_max"] = 60.0
    lond = net.add("msul2", start=False)
    net.start()
    net.wait_for("host_down")
    http(net, "/hosts/msul2/pause", "POST")
    with net.client("msul2") as client:
        client.send(b"ping\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "the request waits")
        lond.start()
        http(net, "/hosts/msul2/resume", "POST")

        assert client.line() == b"msul2\n"


def test_stop_while_paused(net: Network) -> None:
    """A stop answers con_lost to what waits for a paused host."""
    net.add("msul2")
    daemon = net.start()
    http(net, "/hosts/msul2/pause", "POST")
    with net.client("msul2") as client:
        client.send(b"ping\n")
        wait_until(lambda: host_status(net, "msul2")["queue"] == 1, "the request waits")

        assert daemon.end() == 0
        assert client.line() == b"con_lost\n"


def test_reconnect_makes_new_connections(net: Network) -> None:
    """reconnect: the connections end, the gate opens, the next request makes a new one."""
    net.add("msul2")
    net.start()
    net.ask("msul2", b"ping")

    assert http(net, "/hosts/msul2/reconnect", "POST").status == 200

    net.wait_for("connection_closed", host="msul2")
    assert net.ask("msul2", b"ping") == b"msul2"
    net.wait_for("connection_made", 2, host="msul2")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/hosts/msul2/else", 404),
        ("POST", "/hosts/msul7/pause", 404),
        ("POST", "/hosts/msul2", 405),
        ("POST", "/status", 405),
        ("POST", "/nothing", 404),
        ("PUT", "/status", 405),
        ("DELETE", "/hosts/msul2/pause", 405),
        ("GET", "/hosts/msul2/pause", 404),
    ],
)
def test_what_there_is_not(net: Network, method: str, path: str, status: int) -> None:
    """Unknown paths are 404, wrong methods 405, each with one line of plain text."""
    net.add("msul2", start=False)
    net.start()

    response = http(net, path, method)

    assert response.status == status
    assert response.headers["Content-Type"].startswith("text/plain")
    assert response.body.count(b"\n") == 1
    assert not net.find("admin_command")


def test_tcp_only_reads(net: Network, listen: str) -> None:
    """Over TCP all can be read, and nothing can be commanded."""
    net.add("msul2")
    net.start()
    connection = HTTPConnection(listen, timeout=PATIENCE)

    for path in ("/", "/status", "/metrics", "/readyz", "/hosts/msul2"):
        assert exchange(connection, "GET", path).status == 200, path
    refused = exchange(connection, "POST", "/hosts/msul2/pause")
    foreign = exchange(connection, "GET", "/status", Host="evil.example")
    connection.close()

    assert refused.status == 403
    assert foreign.status == 421, "another site's name that points here is not ours"
    assert host_status(net, "msul2")["state"] == "up"


def test_a_tcp_port_that_is_taken(net: Network, listen: str) -> None:
    """A TCP address that cannot be had is a problem of the configuration: exit 2, one line."""
    host, _, port = listen.partition(":")
    net.add("msul2", start=False)
    with socket.create_server((host, int(port))):
        daemon = net.start(ready=False)
        assert daemon.process.wait(PATIENCE) == 2

    assert daemon.stderr == f"admin.listen: cannot listen on {listen} (Address already in use)\n"
    assert not sockets_in(net.sockets)
    net.daemon = None
    daemon.close()


@pytest.fixture
def hasty(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """Give a network whose admin socket has little patience."""
    customize = short_path / "sitecustomize.py"
    customize.write_text(
        "from lonc_gevent.admin.http_server import HttpServer\nHttpServer.request_timeout = 0.3\n"
    )
    root = Path(lonc_gevent.__file__).parents[1]
    paths = [str(short_path), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    with network(short_path) as made:
        made.add("msul2")
        made.start()
        yield made


@pytest.mark.parametrize("sent", [b"", b"GET /sta", b"POST /reload HTTP/1.1\r\nContent-Length: 9"])
def test_silent_client_is_disconnected(hasty: Network, sent: bytes) -> None:
    """Who does not finish a request is disconnected, without a word in the log."""
    with Client(hasty.sockets / "lonc-admin") as client:
        client.send(sent)

        assert client.at_end()

    assert http(hasty, "/healthz").status == 200
    assert not [e for e in hasty.events if e["level"] == "error"]


def test_a_client_that_reads_nothing_is_let_go(hasty: Network) -> None:
    """Who asks for much and reads nothing is disconnected."""
    began = time.monotonic()
    with Client(hasty.sockets / "lonc-admin") as client:
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        wait_until(lambda: time.monotonic() - began > 1.0, "its time is over")
        received = 0
        try:
            while data := client.sock.recv(1 << 20):
                received += len(data)
        except ConnectionResetError:
            pass

    assert b"lonc_build_info" in http(hasty, "/metrics").body
    assert received < 400 * 5000, "not all was sent"
    assert [e for e in hasty.events if e["level"] == "error"] == []


def test_a_client_that_goes_on_asking_is_kept(hasty: Network) -> None:
    """The deadline is one request's: a connection that is used lives longer than that."""
    connection = UnixConnection(hasty.sockets / "lonc-admin")
    connection.connect()
    first = connection.sock
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        assert exchange(connection, "GET", "/healthz").status == 200

    assert connection.sock is first
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 1500 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"POST /reload HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", b"413"),
        (b"POST /reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"413"),
    ],
)
def test_large_request_is_refused_and_its_connection_closed(
    net: Network, sent: bytes, status: bytes
) -> None:
    """More than 8 KB of headers, and any body, end the connection; nothing is done or logged."""
    net.add("msul2", start=False)
    net.start()

    with Client(net.sockets / "lonc-admin") as client:
        client.send(sent + b"GET /healthz HTTP/1.1\r\n\r\n")
        received = b"".join(iter(client.line, b""))

    assert received.startswith(b"HTTP/1.1 " + status)
    assert received.count(b"HTTP/1.1") == 1
    assert not net.find("admin_command")
    assert not [e for e in net.events if e["level"] == "error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:9663", "Host": "localhost:9663"}, 200),
        ({"Origin": "http://localhost:9663", "Host": "localhost:9000"}, 403),
        ({"Origin": "http://evil.example", "Host": "localhost"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_command_from_a_page_of_another_site_is_refused(
    net: Network, headers: dict[str, str], status: int
) -> None:
    """A browser that reaches the socket through `ssh -L` commands nothing for a foreign page."""
    net.add("msul2", start=False)
    net.start()

    assert http(net, "/hosts/msul2/pause", "POST", **headers).status == status
    assert (host_status(net, "msul2")["state"] == "paused") == (status == 200)


def test_status_is_compressed_when_gzip_is_accepted(net: Network) -> None:
    """The same document, with the length that is sent."""
    net.add("msul2", start=False)
    net.start()

    response = http(net, "/status", Accept_Encoding="gzip")

    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(response.body))["hosts"][0]["host"] == "msul2"


def test_invalid_http_is_refused_without_an_error_event(net: Network) -> None:
    """What is no HTTP gets 400, and nothing is logged or said on stderr."""
    net.add("msul2")
    net.start()
    for nonsense in (b"hello\r\n\r\n", b"GET / HTTP/9.x\r\n\r\n", b"\0\1\2\n\n"):
        with Client(net.sockets / "lonc-admin") as client:
            client.send(nonsense)
            assert client.line().startswith(b"HTTP/1.1 400")

    assert not [e for e in net.events if e["level"] == "error"]


def test_connections_are_bounded(net: Network) -> None:
    """More clients than are served at once wait in the backlog; the daemon goes on."""
    net.add("msul2")
    net.start()
    clients = [Client(net.sockets / "lonc-admin") for _ in range(60)]
    assert net.ask("msul2", b"ping") == b"msul2"
    for client in clients:
        client.sock.close()

    assert http(net, "/healthz").status == 200


def test_admin_socket_whose_file_is_removed_is_opened_anew(net: Network) -> None:
    net.add("msul2")
    net.start()
    path = net.sockets / "lonc-admin"
    connection = UnixConnection(path)
    assert exchange(connection, "GET", "/healthz").status == 200

    path.unlink()

    net.wait_for("part_lost", part="admin.socket")
    wait_until(path.is_socket, "it is there again")
    assert http(net, "/healthz").status == 200
    assert exchange(connection, "GET", "/healthz").status == 200
    connection.close()


def test_admin_socket_that_another_program_has_taken_is_opened_once_it_is_free(
    net: Network,
) -> None:
    net.add("msul2")
    net.tables["admin"] = {"listen": f"127.0.0.1:{free_port()}"}
    daemon = net.start()
    path = net.sockets / "lonc-admin"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "in use" in net.wait_for("part_unavailable", part="admin.socket")["error"]
        with closing(HTTPConnection(net.tables["admin"]["listen"], timeout=PATIENCE)) as tcp:
            assert list(exchange(tcp, "GET", "/status").json["missing"]) == ["admin.socket"]
    path.unlink()

    net.wait_for("part_available", part="admin.socket")

    assert http(net, "/status").json["missing"] == {}
    assert daemon.end() == 0
    assert not path.exists()
