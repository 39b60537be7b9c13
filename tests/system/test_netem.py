# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own packet loss and delay, in a network namespace that the test makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORT = Path(__file__).parents[1] / "support"


def tool(*command: str) -> str:
    """Run a command; return what it says on stderr if it fails, else nothing."""
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    return done.stderr.strip() or f"exit {done.returncode}" if done.returncode else ""


@pytest.fixture
def namespace() -> Iterator[str]:
    """Give the name of a network namespace with nothing but its loopback device."""
    if not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("no ip and tc here: Debian's iproute2 has them")
    name = f"lonc{os.getpid()}"
    trouble = tool("ip", "netns", "add", name)
    if trouble:
        pytest.skip(f"a network namespace may not be made here: {trouble}")
    try:
        assert not tool("ip", "netns", "exec", name, "ip", "link", "set", "lo", "up")
        yield name
    finally:
        tool("ip", "netns", "del", name)


@pytest.mark.parametrize(
    ("faults", "least"),
    [
        ("", 0.0),
        ("delay 20ms 5ms", 0.04),
        ("loss 3%", 0.0),
        ("delay 10ms 5ms loss 1% reorder 10% duplicate 1%", 0.02),
    ],
    ids=["nothing", "delay", "loss", "all of it"],
)
def test_traffic_through_a_bad_network(namespace: str, faults: str, least: float) -> None:
    """TCP mends what the network does: every request gets its reply, only later."""
    inside = ("ip", "netns", "exec", namespace)
    if faults:
        trouble = tool(*inside, "tc", "qdisc", "add", "dev", "lo", "root", "netem", *faults.split())
        if trouble:
            pytest.skip(f"this kernel has no netem: {trouble}")

    done = subprocess.run(
        [*inside, sys.executable, str(SUPPORT / "netem_scene.py"), "60"],
        env=os.environ | {"PYTHONPATH": f"{SUPPORT.parents[1]}:{SUPPORT}"},
        capture_output=True,
        check=False,
        timeout=50,
    )

    assert done.returncode == 0, done.stderr.decode()
    ends = json.loads(done.stdout)
    assert ends["wrong"] == ends["con_lost"] == 0
    assert ends["ok"] >= 60
    assert ends["longest"] >= least
