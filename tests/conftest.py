# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: a network of real processes for each test that asks for one."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from fakedaemon import FakeDaemon
from harness import Network, network
from snapshots import Snapshot

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator


def pytest_configure() -> None:
    """Prepare for busy machines, and for tests that are more than 1,024 clients."""
    patient = hypothesis.settings(
        deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.register_profile("patient", patient)
    hypothesis.settings.load_profile("patient")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that updates snapshots."""
    parser.addoption("--update-snapshots", action="store_true", help="write the texts expected")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """Give the expected text of this test."""
    update = request.config.getoption("--update-snapshots")
    return Snapshot(request.path, request.node.name, update=update)


@pytest.fixture(autouse=True)
def loop_on_time() -> None:
    """Tell this process's loop what time it is: it knows as of its last turn, a test ago or ten.

    A timeout begun before it turns again would be over at once.
    """
    if "gevent" in sys.modules:
        sys.modules["gevent"].get_hub().loop.update_now()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Give a directory with a short name: Unix socket paths are limited to 107 bytes.

    It is on a disk: /tmp of Debian 13 is not, and `check` warns of that.
    """
    path = Path(tempfile.mkdtemp(prefix="lonc", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def net(short_path: Path) -> Iterator[Network]:
    """Give an empty network with short limits, so that tests need not wait for long ones."""
    pool = {
        "connect_timeout": 2.0,
        "handshake_timeout": 2.0,
        "reply_timeout": 5.0,
        "queue_timeout": 5.0,
        "retry_backoff_min": 0.2,
        "retry_backoff_max": 1.0,
    }
    with network(short_path, pool=pool, tables={"admin": {"stop_timeout": 2.0}}) as made:
        yield made


@pytest.fixture
def up(net: Network) -> Network:
    """Give a network with the host msul2 running and the host down not running."""
    net.tables["admin"] = {"stop_timeout": 0.5}
    net.add("msul2")
    net.add("down", start=False)
    net.start()
    return net


@pytest.fixture
def fake(short_path: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], FakeDaemon]]:
    """Give a function that starts a fake daemon on the socket `fake`."""
    made: list[FakeDaemon] = []

    def make(talk: Callable[[socket.socket], None]) -> FakeDaemon:
        made.append(FakeDaemon(short_path / "fake", talk))
        return made[-1]

    yield make
    for each in made:
        each.close()
