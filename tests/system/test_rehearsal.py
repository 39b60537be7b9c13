# SPDX-License-Identifier: GPL-2.0-or-later
"""HUP with a configuration or code that cannot be started: the daemon serves, and says why."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bad_starts import CODE, CONFIGURATIONS, UNKNOWN_TO_CHECK, copy_code, spoilt
from certificates import Authority
from harness import Network, Process, wait_until
from unixhttp import host_status

from lonc_gevent.daemon.handover import in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bad_starts import Way


def refused(net: Network) -> list[str]:
    """Send HUP, wait until it is refused, and see that the same program serves; return why."""
    assert net.daemon
    with net.client("msul2") as client:
        assert client.ask(b"ping") == b"msul2"
        net.daemon.send_signal(signal.SIGHUP)
        event = net.wait_for("reload_refused")
        assert client.ask(b"ping") == b"msul2"
    assert net.ask("msul2", b"ping") == b"msul2"
    assert len(net.find("starting")) == 1
    problems: list[str] = event["problems"]
    return problems


@pytest.mark.parametrize("way", CONFIGURATIONS, ids=lambda way: way.__name__)
def test_configuration_that_cannot_be_started_changes_nothing(net: Network, way: Way) -> None:
    net.add("msul2")
    net.start()
    with spoilt(net, way) as reason:
        check = net.command("check")
        before = sorted(path.name for path in net.directory.iterdir())

        problems = refused(net)

        assert any(reason in problem for problem in problems), problems
        assert sorted(path.name for path in net.directory.iterdir()) == before
        if way not in UNKNOWN_TO_CHECK:
            assert (check.returncode, reason in check.stderr.decode()) == (2, True), check.stderr


@pytest.mark.parametrize("way", CODE, ids=lambda way: way.__name__)
def test_code_that_cannot_be_started_changes_nothing(net: Network, way: Way) -> None:
    net.add("msul2")
    net.start(env=copy_code(net))
    with spoilt(net, way) as reason:
        problems = refused(net)

    assert any(reason in problem for problem in problems), problems


@contextlib.contextmanager
def restarting(net: Network, **tables: dict[str, Any]) -> Iterator[None]:
    """Send HUP, and do something between the rehearsal and the exec; then wait until it is over.

    tables: those of the configuration that are different for the new program
    """
    net.tables["admin"]["stop_timeout"] = 60.0
    net.pool |= {"reply_timeout": 60.0, "queue_timeout": 60.0}
    daemon = net.start()
    lond = net.londs["msul2"].process
    assert lond
    net.wait_for("connection_made", host="msul2")
    with net.client("msul2") as busy:
        lond.send_signal(signal.SIGSTOP)
        busy.send(b"echo:done\n")
        wait_until(lambda: host_status(net, "msul2")["busy"] == 1, "a request is under way")
        net.tables |= tables
        net.write()
        daemon.send_signal(signal.SIGHUP)
        net.wait_for("restarting")
        yield
        lond.send_signal(signal.SIGCONT)
        net.wait_for("ready", 2)
        assert busy.line() == b"done\n"
        assert busy.ask(b"ping") == b"msul2"
    assert net.ask("msul2", b"ping") == b"msul2"


def admin_status(net: Network) -> dict[str, Any]:
    """Return the status document."""
    result = net.command("status", "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


FILES = ["lonc.toml", "hosts.tab", "key", "ca.pem", "ca-lonc.pem", "ca-lonc.key"]


@pytest.mark.parametrize("name", FILES)
def test_file_half_written_after_the_rehearsal_does_no_harm(net: Network, name: str) -> None:
    authority = Authority(net.directory)
    net.add("msul2", *authority.lond_options(authority.sign("lond")))
    net.write()
    assert net.command("delayed", "new-key", str(net.directory / "key")).returncode == 0
    net.tables["delayed"] = {"key_file": "key"}
    net.tables["network"] = {"security": "ssl", **authority.settings(authority.sign("lonc"))}

    with restarting(net):
        path = net.directory / name
        path.write_bytes(path.read_bytes()[:20])

    assert not net.find("reload_refused")
    assert not net.find("part_unavailable")


def test_pid_file_that_cannot_be_written_after_the_rehearsal_is_tried_again(net: Network) -> None:
    folder = net.directory / "run"
    folder.mkdir()
    net.tables["daemon"] = {"pid_file": "run/pid"}
    net.add("msul2")

    with restarting(net):
        shutil.rmtree(folder)

    event = net.wait_for("part_unavailable", part="daemon.pid_file")
    assert os.strerror(2) in event["error"]
    assert list(admin_status(net)["missing"]) == ["daemon.pid_file"]
    folder.mkdir()
    net.wait_for("part_available", part="daemon.pid_file")
    assert net.daemon
    assert (folder / "pid").read_text() == f"{net.daemon.pid}\n"
    assert admin_status(net)["missing"] == {}


def test_admin_port_that_was_taken_after_the_rehearsal_is_tried_again(net: Network) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    net.add("msul2")

    with contextlib.ExitStack() as stack:
        with restarting(net, admin={"listen": "{}:{}".format(*address), "stop_timeout": 60.0}):
            stack.enter_context(socket.create_server(address))
        net.wait_for("part_unavailable", part="admin.listen")
        assert list(admin_status(net)["missing"]) == ["admin.listen"]
    net.wait_for("part_available", part="admin.listen")


def test_socket_that_cannot_be_had_after_a_restart_is_tried_again(net: Network) -> None:
    net.add("nscll1")
    net.add("msul2")

    with restarting(net):
        (net.sockets / "nscll1").unlink()
        (net.sockets / "nscll1").write_text("mine")

    net.wait_for("socket_failed", host="nscll1")
    assert list(admin_status(net)["missing"]) == ["socket nscll1"]
    (net.sockets / "nscll1").unlink()
    net.wait_for("part_available", part="socket nscll1")
    assert net.ask("nscll1", b"ping") == b"nscll1"


def test_handover_leaves_no_key_in_the_environment_or_the_log(net: Network) -> None:
    net.add("msul2")
    net.write()
    assert net.command("delayed", "new-key", str(net.directory / "key")).returncode == 0
    key = (net.directory / "key").read_bytes().split(b":")[-1].strip()
    net.tables["delayed"] = {"key_file": "key"}
    daemon = net.start()

    daemon.send_signal(signal.SIGHUP)
    net.wait_for("ready", 2)

    assert len(key) == 64
    assert key not in Path(f"/proc/{daemon.pid}/environ").read_bytes()
    assert key.decode() not in "".join(daemon.lines)
    found = subprocess.run(["grep", "-rlF", key, net.directory], capture_output=True, check=False)
    assert found.stdout.decode().splitlines() == [str(net.directory / "key")]


def test_file_in_memory_is_sealed() -> None:
    fd = in_memory(b"content")

    with os.fdopen(os.dup(fd), "r+b", buffering=0) as file, pytest.raises(PermissionError):
        file.write(b"other")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_warnings_do_not_refuse_a_reload(net: Network) -> None:
    authority = Authority(net.directory)
    ours = authority.sign("lonc", days=10)
    ours.key.chmod(0o644)
    net.add("msul2", *authority.lond_options(authority.sign("lond")))
    net.tables["network"] = {"security": "ssl", **authority.settings(ours)}
    daemon = net.start()

    daemon.send_signal(signal.SIGHUP)
    net.wait_for("ready", 2)

    warnings = [event["error"] for event in net.find("configuration_warning")]
    for part in ("network.certificate: expires on", "network.private_key"):
        assert len([text for text in warnings if part in text]) == 2, part  # one at each start
        check = net.command("check")
        assert check.returncode == 0
        assert part in check.stderr.decode()
    assert net.command("check", "--strict").returncode == 2


@pytest.mark.parametrize("where", ["before the command", "in the environment"])
def test_rehearsal_uses_the_configuration_wherever_it_was_named(net: Network, where: str) -> None:
    net.add("msul2", start=False)
    net.write()
    config = str(net.config)
    before = where == "before the command"
    options, env = (["-c", config], {}) if before else ([], {"LONC_CONFIG": config})
    net.daemon = Process("lonc_gevent", *options, "run", env=env)
    net.wait_for("ready")

    net.daemon.send_signal(signal.SIGHUP)

    net.wait_for("ready", times=2)
    assert net.find("restarting")[0]["rehearsed"] is True
