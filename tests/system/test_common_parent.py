# SPDX-License-Identifier: GPL-2.0-or-later
"""lonnet's request for the socket of a host, and hosts that share a DNS name."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from harness import Client, sockets_in, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


class Lonnet:
    """A client that behaves as lonnet of 2007 and later (protocol.md, section 2)."""

    def __init__(self, directory: Path, ids: dict[str, list[str]], *, asks: bool = True) -> None:
        self.directory = directory
        self.ids = ids
        self.asks = asks

    def reply(self, name: str, host_id: str, request: bytes) -> bytes:
        """Send a request to one id of a DNS name. Each of ten attempts may wait for a second."""
        for _ in range(10):
            with suppress(OSError), Client(self.directory / name) as client:
                return client.ask(b"sethost:%s:%s" % (host_id.encode(), request))
            if self.asks:
                with Client(self.directory / "common_parent") as parent:
                    parent.send(":".join([name, *self.ids[name]]).encode() + b"\n")
                    if parent.line() == b"done\n":
                        continue
            time.sleep(1)
        return b"con_lost"


@pytest.fixture
def parent(net: Network) -> Path:
    net.tables["sockets"] = {
        "name": "dns",
        "common_parent": str(net.sockets / "common_parent"),
        "group": "",
    }
    net.add("msul2")
    net.start()
    return net.sockets / "common_parent"


def add_host(net: Network, host_id: str, dns_name: str, port: int) -> None:
    """Add a host to the files, as loncron does; the daemon is not signalled."""
    with (net.directory / "hosts.tab").open("a") as tab:
        tab.write(f"{host_id}:msu:access:{dns_name}\n")
    with net.config.open("a") as toml:
        toml.write(f'[hosts.{host_id}]\naddress = "127.0.0.1"\nport = {port}\n')


def ask(path: Path, line: bytes) -> bytes:
    with Client(path) as client:
        client.send(line)
        return client.line()


def test_new_host_is_served_when_lonnet_asks_for_it(net: Network, parent: Path) -> None:
    lond = net.add("nscll1")
    add_host(net, "nscll1", "nscll1.example", lond.port)
    lonnet = Lonnet(parent.parent, {"nscll1.example": ["nscll1"]})
    assert lonnet.reply("nscll1.example", "nscll1", b"ping") == b"nscll1"
    net.wait_for("hosts_reloaded", added=1)


def test_known_host_is_done_without_reading_hosts_tab(net: Network, parent: Path) -> None:
    name = next(name for name in sockets_in(net.sockets) if name != "common_parent")
    assert ask(parent, f"{name}:msul2:other\n".encode()) == b"done\n"
    assert ask(parent, b"elsewhere.example:msul2") == b"", "no newline"
    assert not net.find("hosts_reloaded")


@pytest.mark.parametrize("line", [b"nobody.example:nobody\n", b"..:.:/:../lonc.toml\n", b"\xff\n"])
def test_unknown_host_is_disconnected(net: Network, parent: Path, line: bytes) -> None:
    net.directory.joinpath("hosts.tab").touch()
    with Client(parent) as waiting:
        waiting.send(line)
        net.wait_for("hosts_reloaded")
        assert waiting.at_end()
    assert ask(parent, line) == b"", "hosts.tab is not read again unless it has changed"
    assert len(net.find("hosts_reloaded")) == 1


def test_socket_survives_a_restart_and_is_made_again(net: Network, parent: Path) -> None:
    assert net.daemon
    inode = parent.stat().st_ino
    net.daemon.send_signal(1)
    net.wait_for("ready", 2)
    assert parent.stat().st_ino == inode
    assert ask(parent, b"lonc-admin\n") == b"done\n"
    parent.unlink()
    net.wait_for("socket_lost")
    wait_until(parent.is_socket, "the socket is made again")
    net.daemon.end()
    assert not parent.exists()


def test_ids_of_one_dns_name_share_a_socket_and_its_connections(net: Network) -> None:
    """A multi-domain server: several ids, one lond (contract.md, sockets.name)."""
    net.tables["sockets"] = {"name": "dns"}
    lond = net.add("msul2", "--id", "msul2b", "--id", "msul2c", "--client-id", "msul1")
    net.write()
    tab = net.directory / "hosts.tab"
    name = next(line.split(":")[3] for line in tab.read_text().splitlines() if "msul2:" in line)
    net.start()
    for other in ("msul2b", "msul2c"):
        add_host(net, other, name, lond.port)
    os.kill(net.daemon.pid if net.daemon else 0, 12)
    net.wait_for("hosts_reloaded", added=2)
    lonnet = Lonnet(net.sockets, {name: ["msul2", "msul2b", "msul2c"]}, asks=False)
    for host_id in ("msul2", "msul2b", "msul2c", "msul2"):
        assert lonnet.reply(name, host_id, b"ping") == host_id.encode()
    assert sockets_in(net.sockets).count(name) == 1
    net.wait_for("connection_made", host="msul2")
    assert len(net.find("connection_made", host="msul2")) == 1
