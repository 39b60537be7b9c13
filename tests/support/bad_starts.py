# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to make a start fail, to be put in place under a running daemon.

A way is a function that spoils a network's configuration, files or code. It registers on the stack
what restores them, and returns a text that the reason for the refusal contains. The daemon's user
may be another than the test's: what a way makes is readable for everybody, except on purpose.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from harness import network

import lonc_gevent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Network

    Way = Callable[[Network, contextlib.ExitStack], str]


@contextlib.contextmanager
def spoilt(net: Network, way: Way) -> Iterator[str]:
    """Put a way in place and write the configuration; restore both at the end."""
    tables, hosts = copy.deepcopy(net.tables), copy.deepcopy(net.hosts)
    with contextlib.ExitStack() as stack:
        reason = way(net, stack)
        if way not in AFTER_WRITING:
            net.write()
        yield reason
    net.tables, net.hosts = tables, hosts
    net.write()


def copy_code(net: Network) -> dict[str, str]:
    """Copy the package into the network's folder; return the environment that runs the copy."""
    code = net.directory / "code"
    shutil.copytree(Path(lonc_gevent.__file__).parent, code / "lonc_gevent")
    return {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}


# -- files of the daemon ---------------------------------------------------------------------


def pid_file_on_a_full_disk(net: Network, stack: contextlib.ExitStack) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a file system")
    folder = net.directory / "full"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder], check=True)
    stack.callback(subprocess.check_call, ["umount", folder])
    (folder / "filler").write_bytes(bytes(4096))
    net.tables["daemon"] = {"pid_file": "full/pid"}
    return "daemon.pid_file"


def pid_file_in_a_missing_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["daemon"] = {"pid_file": "none/pid"}
    return "daemon.pid_file"


def pid_file_that_is_a_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "pid").mkdir()
    net.tables["daemon"] = {"pid_file": "pid"}
    return "daemon.pid_file"


def delayed_directory_that_is_a_file(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "a-file").touch()
    net.tables["delayed"] = {"directory": "a-file"}
    return "delayed.directory"


# -- sockets ---------------------------------------------------------------------------------


def admin_socket_in_a_missing_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["admin"] = {"socket": "none/admin"}
    return "admin.socket"


def admin_socket_that_is_a_directory(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "admin").mkdir()
    net.tables["admin"] = {"socket": "admin"}
    return "admin.socket"


def admin_socket_that_is_a_file(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "admin.txt").touch()
    net.tables["admin"] = {"socket": "admin.txt"}
    return "admin.socket"


def admin_port_in_use(net: Network, stack: contextlib.ExitStack) -> str:
    busy = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    net.tables["admin"] = {"listen": f"127.0.0.1:{busy.getsockname()[1]}"}
    return "admin.listen"


def socket_directory_of_another_daemon(net: Network, stack: contextlib.ExitStack) -> str:
    (net.directory / "other").mkdir()
    other = stack.enter_context(network(net.directory / "other"))
    other.add("s10", start=False)
    other.start()
    net.tables["sockets"] = {"directory": "other/s"}
    return "another lonc-gevent holds this directory"


def socket_directory_that_is_a_file(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "no-directory").touch()
    net.tables["sockets"] = {"directory": "no-directory"}
    return "sockets.directory"


def socket_directory_with_too_long_a_path(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["sockets"] = {"directory": "d" * 100}
    return "sockets.directory"


def lock_file_that_is_a_fifo(net: Network, stack: contextlib.ExitStack) -> str:
    lock, aside = net.sockets / ".lonc.lock", net.sockets / "lock.aside"
    lock.rename(aside)
    stack.callback(aside.rename, lock)
    os.mkfifo(lock)
    lock.chmod(0o666)
    return "not a regular file"


def group_that_does_not_exist(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["sockets"] = {"directory": "s", "group": "nogrp-here"}
    return "sockets.group"


# -- certificates and keys -------------------------------------------------------------------


def certificate_of_1024_bits(net: Network, _stack: contextlib.ExitStack) -> str:
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
    (net.directory / "weak.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (net.directory / "weak.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    net.tables["network"] = _ssl("weak.pem", "weak.key")
    return "network.certificate"


def certificate_that_is_missing(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["network"] = _ssl("none.pem", "none.key")
    return "network.certificate"


def _ssl(certificate: str, key: str) -> dict[str, Any]:
    return {
        "security": "ssl-or-insecure",
        "certificate": certificate,
        "private_key": key,
        "ca_certificate": certificate,
    }


def key_file_that_is_none(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "empty.key").touch()
    net.tables["delayed"] = {"key_file": "empty.key"}
    return "delayed.key_file"


def key_file_of_others(net: Network, _stack: contextlib.ExitStack) -> str:
    path = net.directory / "open.key"
    net.write()
    assert net.command("delayed", "new-key", str(path)).returncode == 0
    path.chmod(0o666)
    net.tables["delayed"] = {"key_file": "open.key"}
    return "delayed.key_file"


# -- configuration ---------------------------------------------------------------------------


def hosts_tab_without_hosts(net: Network, _stack: contextlib.ExitStack) -> str:
    (net.directory / "empty.tab").touch()
    net.tables["network"] = {"hosts_tab": "empty.tab"}
    return "no host in it"


def hosts_tab_that_is_missing(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["network"] = {"hosts_tab": "none.tab"}
    return "network.hosts_tab"


def value_that_is_none(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["log"] = {"level": "loud"}
    return "log.level"


def key_that_is_unknown(net: Network, _stack: contextlib.ExitStack) -> str:
    net.tables["log"] = {"levle": "info"}
    return "log.levle"


def configuration_half_written(net: Network, _stack: contextlib.ExitStack) -> str:
    text = net.config.read_text()
    net.config.write_text(text[: text.rindex("]")])
    return "not TOML"


def configuration_that_is_missing(net: Network, _stack: contextlib.ExitStack) -> str:
    net.config.unlink()
    return "does not exist"


# -- code ------------------------------------------------------------------------------------


def _spoil_code(
    net: Network, stack: contextlib.ExitStack, name: str, change: Callable[[str], str] | None
) -> None:
    path = net.directory / "code" / "lonc_gevent" / name
    aside = path.with_name("aside")
    path.rename(aside)
    stack.callback(aside.rename, path)
    if change is not None:
        text = aside.read_text()
        assert change(text) != text
        path.write_text(change(text))


def module_of_a_command_that_is_empty(net: Network, stack: contextlib.ExitStack) -> str:
    _spoil_code(net, stack, "cli/run.py", lambda _text: "")
    return "rehearse"


def status_page_that_is_missing(net: Network, stack: contextlib.ExitStack) -> str:
    _spoil_code(net, stack, "admin/page/index.html", None)
    return "index.html"


def exception_in_the_constructor(net: Network, stack: contextlib.ExitStack) -> str:
    old, new = "        self.shard = shard\n", "        self.shard = 1 / 0\n"
    _spoil_code(net, stack, "daemon/life_cycle.py", lambda text: text.replace(old, new))
    return "ZeroDivisionError"


def exception_in_the_start(net: Network, stack: contextlib.ExitStack) -> str:
    old, new = "        started = monotonic()\n", "        1 / 0\n"
    _spoil_code(net, stack, "daemon/life_cycle.py", lambda text: text.replace(old, new, 1))
    return "ZeroDivisionError"


def module_that_does_not_compile(net: Network, stack: contextlib.ExitStack) -> str:
    _spoil_code(net, stack, "admin/server.py", lambda text: text + "def\n")
    return "SyntaxError"


def option_that_is_gone(net: Network, stack: contextlib.ExitStack) -> str:
    old, new = '"--config"', '"--conf"'
    _spoil_code(net, stack, "cli/common.py", lambda text: text.replace(old, new))
    return "--config"


CONFIGURATIONS: list[Way] = [
    pid_file_on_a_full_disk,
    pid_file_in_a_missing_directory,
    pid_file_that_is_a_directory,
    delayed_directory_that_is_a_file,
    admin_socket_in_a_missing_directory,
    admin_socket_that_is_a_directory,
    admin_socket_that_is_a_file,
    admin_port_in_use,
    socket_directory_of_another_daemon,
    socket_directory_that_is_a_file,
    socket_directory_with_too_long_a_path,
    lock_file_that_is_a_fifo,
    group_that_does_not_exist,
    certificate_of_1024_bits,
    certificate_that_is_missing,
    key_file_that_is_none,
    key_file_of_others,
    hosts_tab_without_hosts,
    hosts_tab_that_is_missing,
    value_that_is_none,
    key_that_is_unknown,
    configuration_half_written,
    configuration_that_is_missing,
]
CODE: list[Way] = [
    module_of_a_command_that_is_empty,
    status_page_that_is_missing,
    exception_in_the_constructor,
    exception_in_the_start,
    module_that_does_not_compile,
    option_that_is_gone,
]
AFTER_WRITING: list[Way] = [configuration_half_written, configuration_that_is_missing]
"""Ways that spoil the configuration file itself."""

UNKNOWN_TO_CHECK: list[Way] = [socket_directory_of_another_daemon, lock_file_that_is_a_fifo]
"""Ways that `lonc-gevent check` cannot know: whose the lock is shows only a start."""
