# SPDX-License-Identifier: GPL-2.0-or-later
"""HUP with a configuration or code that cannot be started: the daemon serves, and says why."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import Network, network, wait_until

import lonc_gevent
from lonc_gevent.daemon.handover import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def weak_certificate(folder: Path) -> dict[str, Any]:
    """Make a certificate with a key of 1,024 bits; return its `[network]` keys."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the fault
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "weak.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "weak.key").touch(0o600)
    (folder / "weak.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {
        "security": "ssl-or-insecure",
        "certificate": "weak.pem",
        "private_key": "weak.key",
        "ca_certificate": "weak.pem",
    }


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Make a full file system at a folder."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder], check=True)
    try:
        (folder / "filler").write_bytes(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def pid_file_on_a_full_disk(net: Network, stack: contextlib.ExitStack) -> str:
    stack.enter_context(full_disk(net.directory / "full"))
    net.tables["daemon"] = {"pid_file": "full/pid"}
    return "daemon.pid_file"


def pid_file_in_a_missing_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["daemon"] = {"pid_file": "none/pid"}
    return "daemon.pid_file"


def pid_file_that_is_a_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "pid").mkdir()
    net.tables["daemon"] = {"pid_file": "pid"}
    return "daemon.pid_file"


def admin_socket_in_a_missing_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["admin"] = {"socket": "none/admin"}
    return "admin.socket"


def admin_socket_that_is_a_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "admin").mkdir()
    net.tables["admin"] = {"socket": "admin"}
    return "admin.socket"


def admin_socket_that_is_a_file(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "admin").touch()
    net.tables["admin"] = {"socket": "admin"}
    return "admin.socket"


def admin_port_in_use(net: Network, stack: contextlib.ExitStack) -> str:
    busy = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    net.tables["admin"] = {"listen": f"127.0.0.1:{busy.getsockname()[1]}"}
    return "admin.listen"


def socket_directory_of_another_daemon(net: Network, stack: contextlib.ExitStack) -> str:
    folder = net.directory / "other"
    folder.mkdir()
    other = stack.enter_context(network(folder))
    other.add("s10", start=False)
    other.start()
    net.tables["sockets"] = {"directory": str(other.sockets)}
    return "another lonc-gevent holds this directory"


def certificate_of_1024_bits(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["network"] = weak_certificate(net.directory)
    return "network.certificate"


def key_file_that_is_none(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "key").touch(0o600)
    net.tables["delayed"] = {"key_file": "key"}
    return "delayed.key_file"


def key_file_of_others(net: Network, _stack: contextlib.ExitStack) -> str:
    net.write()
    assert net.command("delayed", "new-key", str(net.directory / "key")).returncode == 0
    (net.directory / "key").chmod(0o666)
    net.tables["delayed"] = {"key_file": "key"}
    return "delayed.key_file"


def hosts_tab_without_hosts(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "empty.tab").touch()
    net.tables["network"] = {"hosts_tab": "empty.tab"}
    return "no host in it"


def configuration_half_written(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["log"] = {"level": "loud"}
    return "log.level"


CONFIGURATIONS = [
    pid_file_on_a_full_disk,
    pid_file_in_a_missing_directory,
    pid_file_that_is_a_directory,
    admin_socket_in_a_missing_directory,
    admin_socket_that_is_a_directory,
    admin_socket_that_is_a_file,
    admin_port_in_use,
    socket_directory_of_another_daemon,
    certificate_of_1024_bits,
    key_file_that_is_none,
    key_file_of_others,
    hosts_tab_without_hosts,
    configuration_half_written,
]


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


@pytest.mark.parametrize("change", CONFIGURATIONS, ids=lambda change: change.__name__)
def test_configuration_that_cannot_be_started_changes_nothing(
    net: Network, change: Callable[[Network, contextlib.ExitStack], str]
) -> None:
    net.add("msul2")
    net.start()
    with contextlib.ExitStack() as stack:
        reason = change(net, stack)
        net.write()
        check = net.command("check")
        before = sorted(path.name for path in net.directory.iterdir())

        problems = refused(net)

        assert any(reason in problem for problem in problems), problems
        assert sorted(path.name for path in net.directory.iterdir()) == before
        if change is not socket_directory_of_another_daemon:  # `check` cannot know whose it is
            assert (check.returncode, reason in check.stderr.decode()) == (2, True), check.stderr


CODE = {
    "an empty module of a command": ("cli/run.py", lambda _text: ""),
    "no status page": ("admin/page/index.html", None),
    "an exception in the constructor": (
        "daemon/life_cycle.py",
        lambda text: text.replace("        self.shard = shard\n", "        self.shard = 1 / 0\n"),
    ),
    "an exception in the start": (
        "daemon/life_cycle.py",
        lambda text: text.replace("        started = monotonic()\n", "        1 / 0\n", 1),
    ),
    "a module that does not compile": ("admin/server.py", lambda text: text + "def\n"),
    "an option that is gone": (
        "cli/common.py",
        lambda text: text.replace('"--config"', '"--conf"'),
    ),
}


@pytest.mark.parametrize(("name", "change"), CODE.values(), ids=CODE)
def test_code_that_cannot_be_started_changes_nothing(
    net: Network, name: str, change: Callable[[str], str] | None
) -> None:
    net.add("msul2")
    code = net.directory / "code"
    shutil.copytree(Path(lonc_gevent.__file__).parent, code / "lonc_gevent")
    net.start(env={"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"})
    path = code / "lonc_gevent" / name
    text = path.read_text()
    path.unlink()
    if change is not None:
        assert change(text) != text
        path.write_text(change(text))

    assert refused(net)


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
        wait_until(lambda: net.status("msul2")["busy"] == 1, "a request is under way")
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
