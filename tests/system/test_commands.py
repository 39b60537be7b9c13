# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands, by what they print and by their exit codes (contract.md, "Command line")."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import free_port
from users import only_root

import lonc_gevent
from lonc_gevent.cli import COMMANDS

if TYPE_CHECKING:
    from harness import Network


def lonc_gevent_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m lonc_gevent`."""
    return subprocess.run(
        [sys.executable, "-m", "lonc_gevent", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_version() -> None:
    """`--version` says which one this is."""
    result = lonc_gevent_command("--version")

    assert result.returncode == 0
    assert lonc_gevent.__version__ in result.stdout


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_has_help(command: str) -> None:
    """`COMMAND --help` explains it."""
    result = lonc_gevent_command(command, "--help")

    assert result.returncode == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["check", "--config"], ["send", "--config", "x"], ["lond", "--port"]],
)
def test_bad_usage(arguments: list[str]) -> None:
    """Bad usage: exit 2 and no traceback."""
    result = lonc_gevent_command(*arguments)

    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr


def test_check_of_a_good_configuration(net: Network) -> None:
    """`check` of what passes: exit 0 and one line."""
    net.add("msul2", start=False)
    net.write()

    result = net.command("check")

    assert result.returncode == 0
    assert b"good" in result.stdout


def test_check_names_every_problem(net: Network) -> None:
    """`check` of what does not pass: exit 2, a line for each problem."""
    net.pool = {"max_conections": 3, "reply_timeout": -1}
    net.add("msul2", start=False)
    net.write()

    result = net.command("check")

    lines = [x for x in result.stderr.decode().splitlines() if not x.startswith("warning: ")]
    assert result.returncode == 2
    assert len(lines) == 2
    assert any("max_connections" in line for line in lines)
    assert any("pool.reply_timeout" in line for line in lines)


@only_root
def test_check_as_root_without_user_option_warns(net: Network) -> None:
    net.add("msul1", start=False)
    net.write()

    as_root = net.command("check")
    strict = net.command("check", "--strict")
    as_root_by_name = net.command("check", "--strict", "--user", "root")
    as_nobody = net.command("check", "--user", "nobody")
    unknown = net.command("check", "--user", "no-such-user")

    assert (as_root.returncode, strict.returncode, as_root_by_name.returncode) == (0, 2, 0)
    assert b"warning: " in as_root.stderr
    assert b"checked as root" in as_root.stderr
    assert b"warning: " not in strict.stderr
    assert as_root_by_name.stderr == b""
    assert as_nobody.returncode == 2
    assert b"may not be read by this user" in as_nobody.stderr
    assert unknown.returncode == 2
    assert b"no user 'no-such-user'" in unknown.stderr


def test_check_accepts_the_port_of_the_running_daemon(net: Network) -> None:
    net.tables["admin"]["listen"] = f"127.0.0.1:{free_port()}"
    net.add("msul1", start=False)
    net.start()

    assert net.command("check").returncode == 0


def test_check_for_an_older_program_that_restarts(net: Network) -> None:
    net.add("msul1", start=False)
    net.start()
    assert net.command("check", "--for-restart").returncode == 0

    net.config.write_text(net.config.read_text() + "[pol]\n")
    result = net.command("check", "--for-restart")

    assert result.returncode == 2
    assert b"[pool]" in result.stderr


def test_send_prints_the_reply(net: Network) -> None:
    """`send` of a request that is answered: its reply on stdout, exit 0."""
    net.add("msul2")
    net.start()

    result = net.command("send", "msul2", "echo:hello")

    assert (result.returncode, result.stdout) == (0, b"hello\n")


def test_send_reads_stdin(net: Network) -> None:
    """`send HOST -` reads the request from stdin, bytes as they are."""
    net.add("msul2")
    net.start()

    result = net.command("send", "msul2", "-", stdin=b"echo:\xff\x00\n")

    assert (result.returncode, result.stdout) == (0, b"\xff\x00\n")


def test_send_of_several_lines_is_bad_usage(net: Network) -> None:
    """A request is one line."""
    net.add("msul2", start=False)
    net.write()

    assert net.command("send", "msul2", "-", stdin=b"a\nb\n").returncode == 2


def test_send_to_a_host_that_is_down(net: Network) -> None:
    """`con_lost`: exit 4."""
    net.add("msul2", start=False)
    net.start()

    result = net.command("send", "msul2", "ping")

    assert (result.returncode, result.stdout) == (4, b"con_lost\n")


def test_send_without_a_daemon(net: Network) -> None:
    """No daemon there: exit 5 and one line that names the socket."""
    net.add("msul2", start=False)
    net.write()

    result = net.command("send", "msul2", "ping")

    assert result.returncode == 5
    assert str(net.sockets / "msul2") in result.stderr.decode()


def test_send_that_times_out(net: Network) -> None:
    """No reply in time: exit 6."""
    net.add("msul2")
    net.start()

    result = net.command("send", "--timeout", "0.3", "msul2", "fault:mute")

    assert result.returncode == 6


def test_send_to_an_unknown_host(net: Network) -> None:
    """A host that is not served: exit 2, with the ones that are."""
    net.add("msul2", start=False)
    net.write()

    result = net.command("send", "msul3", "ping")

    assert result.returncode == 2
    assert b"msul2" in result.stderr


def test_shell_completes_host_ids(net: Network) -> None:
    net.add("msul2", start=False)
    net.add("nscll1", start=False)
    net.write()
    words = f"lonc-gevent -c {net.config} pause ms"
    env = {"_LONC_GEVENT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}

    result = subprocess.run(
        [Path(sys.executable).with_name("lonc-gevent")],
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.stdout.split() == ["plain,msul2"]
