# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples of docs/guide/web-processes.md, run as they are printed there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness import Network

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide" / "web-processes.md"


def block(language: str, beginning: str) -> str:
    """Return the only block of code of the guide with this language and beginning."""
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found: str
    (found,) = (each for each in blocks if each.startswith(beginning))
    return found.replace("/home/httpd/sockets", "{sockets}")


@pytest.fixture
def perl(net: Network) -> str:
    """Return the Perl client, with the socket directory of the test."""
    if shutil.which("perl") is None:
        pytest.skip("no perl here")
    return block("perl", "use IO::Socket::UNIX").replace("{sockets}", str(net.sockets))


def ask(perl: str, *arguments: str) -> str:
    """Run the Perl client with all warnings as errors; return its output."""
    done = subprocess.run(
        ["perl", "-Mstrict", "-Mwarnings=FATAL,all", "-e", perl, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_perl_client(net: Network, perl: str) -> None:
    """Ten lines of Perl get replies, and con_lost where there is none."""
    net.add("msul2")
    net.add("down", start=False)
    net.start()

    assert len(perl.splitlines()) == 10
    assert ask(perl, "echo:Good morning", "msul2") == "Good morning\n"
    assert ask(perl, "encrypt:eget:between us", "msul2") == "between us\n"
    assert ask(perl, "sethost:msul2:ping", "msul2") == "msul2\n"
    assert ask(perl, "ping", "down") == "con_lost\n"
    assert ask(perl, "fault:drop-middle:abcdef", "msul2") == "con_lost\n"
    assert ask(perl, "ping", "nobody") == "con_lost\n"
    assert len(ask(perl, "big:1000000", "msul2")) == 1_000_001


def test_the_python_examples(net: Network) -> None:
    """The Python block runs from its first to its last line."""
    net.add("msul1")
    net.add("msul2")
    net.start()
    code = block("python", "from lonc_gevent.client").replace("{sockets}", str(net.sockets))
    code += "\nassert answer == b'Ada&Example', answer\nassert set(loads.values()) == {b'0.12'}\n"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"LONC_CONFIG": str(net.config), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )

    assert (done.returncode, done.stderr) == (0, "")
