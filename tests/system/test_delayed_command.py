# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent delayed`: what it shows, and what it moves."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Network


@pytest.fixture
def directory(net: Network) -> Path:
    """Give a delayed directory with a file that waits, an odd one, and one in quarantine."""
    net.tables["delayed"] = {"directory": "d", "settle": 30.0, "scan_interval": 0.2}
    path = net.directory / "d"
    (path / "quarantine").mkdir(mode=0o700, parents=True)
    (path / ".notes").mkdir(mode=0o700)
    for name, data, age in (
        ("1.1.1.put.msul2", b"put:secret\n", 7300),
        ("1.1.2.put.msul2", b"put:sec", 130),
        ("1.1.3.put.msul2", b"put:new\n", -60),
        ("quarantine/1.1.0.echo.msul2", b"echo:secret\n", 86400 * 3),
    ):
        (path / name).write_bytes(data)
        (path / name).chmod(0o600)
        os.utime(path / name, (time.time() - age,) * 2)
    (path / ".notes/1.1.0.echo.msul2").write_bytes(b"5 max_attempts\n")
    return path


def test_list(net: Network, directory: Path) -> None:
    """It shows a row a file, those in quarantine last, and no request."""
    net.add("msul2", start=False)
    net.write()

    result = net.command("delayed", "list")

    rows = [line.split(None, 5) for line in result.stdout.decode().splitlines()]
    assert result.returncode == 0
    assert [row[:5] for row in rows[1:]] == [
        ["2h", "msul2", "put", "11", "0"],
        ["2m", "msul2", "put", "7", "0"],
        ["0s", "msul2", "put", "8", "0"],
        ["3d", "msul2", "echo", "12", "5"],
    ]
    assert [row[5].rsplit(None, 1)[0] for row in rows[1:]] == [
        "waiting",
        "unfinished",
        "settling",
        "quarantined: max_attempts",
    ]
    assert b"secret" not in result.stdout


@pytest.mark.parametrize("command", [("list",), ("show", "1.1.1.put.msul2")])
def test_terminal_escapes_in_files_are_not_printed(
    net: Network, directory: Path, command: tuple[str, ...]
) -> None:
    """Neither a request's verb, nor a note, nor a name can steer the terminal of the reader."""
    net.add("msul2", start=False)
    net.write()
    clear = "\x1b[2J\x9b2J\x07"
    (directory / "1.1.1.put.msul2").write_bytes(b"\x1b]0;put\x07\x9b2J:x\n")
    (directory / ".notes/1.1.0.echo.msul2").write_bytes(b"5 max\x1b[2Jattempts\n")
    (directory / f"quarantine/1.1.4.{clear}.msul2").write_bytes(b"echo\n")

    result = net.command("delayed", *command)

    text = result.stdout.decode()
    assert result.returncode == 0
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b]0;put" in text


def test_list_of_nothing(net: Network) -> None:
    """An empty directory is no fault, one that is missing is."""
    net.tables["delayed"] = {"directory": "d"}
    net.add("msul2", start=False)
    net.write()
    assert net.command("delayed", "list").returncode == 2
    (net.directory / "d").mkdir(mode=0o700)

    result = net.command("delayed", "list")

    assert (result.returncode, result.stdout) == (0, b"no delayed requests\n")


def test_show_reveals_only_when_asked(net: Network, directory: Path) -> None:
    """`show` tells about a file, waiting or not; the request itself takes --reveal."""
    net.add("msul2", start=False)
    net.write()
    for name, request, state in (
        ("1.1.1.put.msul2", b"put:secret\n", b"waiting"),
        ("1.1.0.echo.msul2", b"echo:secret\n", b"quarantined: max_attempts"),
    ):
        shown = net.command("delayed", "show", name)
        revealed = net.command("delayed", "show", "--reveal", name)

        assert shown.returncode == 0
        assert state in shown.stdout
        assert b"secret" not in shown.stdout
        assert revealed.stdout == request


def test_a_sealed_request_is_shown_with_the_key_only(net: Network, directory: Path) -> None:
    """`show --reveal` opens what is sealed; without the key it says that it can't."""
    net.tables["delayed"]["key_file"] = "key"
    (directory / "1.1.1.put.msul2").write_bytes(b"encrypt:put:hidden\n")
    os.utime(directory / "1.1.1.put.msul2", (1, 1))
    net.add("msul2", start=False)
    net.write()
    assert net.command("delayed", "new-key", str(net.directory / "key")).returncode == 0
    net.start()
    wait_until(
        lambda: b"hidden" not in (directory / "1.1.1.put.msul2").read_bytes(), "it is sealed"
    )

    assert b" sealed " in net.command("delayed", "list").stdout
    revealed = net.command("delayed", "show", "1.1.1.put.msul2", "--reveal")
    (net.directory / "key").rename(net.directory / "no-key")
    (net.directory / "key").touch(0o600)
    unopened = net.command("delayed", "show", "1.1.1.put.msul2", "--reveal")

    assert revealed.stdout == b"encrypt:put:hidden\n"
    assert (unopened.returncode, unopened.stdout) == (2, b"")
    assert b"cannot be opened" in unopened.stderr


def test_retry_with_a_running_daemon(net: Network, directory: Path) -> None:
    """`retry` takes a file out of quarantine, and the daemon sends it."""
    lond = net.add("msul2")
    net.start()

    result = net.command("delayed", "retry", "1.1.0.echo.msul2")

    assert result.returncode == 0
    wait_until(lambda: b"echo:secret" in lond.received, "it is sent")
    assert not (directory / ".notes/1.1.0.echo.msul2").exists()


def test_retry_without_a_daemon(net: Network, directory: Path) -> None:
    """`retry` moves the file and forgets its attempts; it never covers another one."""
    net.add("msul2", start=False)
    net.write()
    taken = directory / "1.1.0.echo.msul2"
    taken.write_bytes(b"echo:other\n")
    assert net.command("delayed", "retry", taken.name).returncode == 2
    assert taken.read_bytes() == b"echo:other\n"
    taken.unlink()

    assert net.command("delayed", "retry", taken.name).returncode == 0

    assert taken.read_bytes() == b"echo:secret\n"
    assert net.command("delayed", "show", taken.name).stdout.count(b"tries  0") == 1


@pytest.mark.parametrize(
    ("options", "answer", "gone"),
    [((), b"y\n", True), ((), b"n\n", False), ((), b"", False), (("--yes",), b"", True)],
)
@pytest.mark.parametrize("name", ["1.1.1.put.msul2", "1.1.0.echo.msul2"])
def test_discard_asks(
    net: Network, directory: Path, name: str, options: tuple[str, ...], answer: bytes, gone: bool
) -> None:
    """`discard` removes a file for good, and only after a yes."""
    net.tables.setdefault("delayed", {})["perm_log"] = "perm.log"
    net.add("msul2", start=False)
    net.write()

    result = net.command("delayed", "discard", *options, name, stdin=answer)

    left = (directory / name).exists() or (directory / "quarantine" / name).exists()
    assert (result.returncode == 0, left) == (gone, not gone)
    perm_log = net.directory / "perm.log"
    assert perm_log.exists() is gone
    assert not gone or ":S:msul2:discarded:" in perm_log.read_text()


@pytest.mark.parametrize("action", ["show", "retry", "discard"])
@pytest.mark.parametrize("name", ["nothing", "../lonc.toml", "quarantine", ".notes", "\udcff"])
def test_names_that_are_none(net: Network, directory: Path, action: str, name: str) -> None:
    """What is no file of the directory: exit 2, one line, and nothing outside is touched."""
    net.add("msul2", start=False)
    net.write()

    result = net.command("delayed", action, name)

    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert net.config.exists()


def test_new_key_is_private_and_never_overwrites(net: Network) -> None:
    """`new-key` makes a file with mode 0600, and leaves one that is there alone."""
    net.add("msul2", start=False)
    net.write()
    path = net.directory / "key"

    first = net.command("delayed", "new-key", str(path))
    content = path.read_bytes()
    second = net.command("delayed", "new-key", str(path))

    assert (first.returncode, second.returncode) == (0, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == content
    assert content.strip().split(b":")[2] not in first.stdout


def test_a_configuration_that_does_not_pass(net: Network) -> None:
    """With a bad configuration: exit 2, and what is wrong with it."""
    net.add("msul2", start=False)
    net.write()
    net.config.write_text("[netwrok]\n")

    result = net.command("delayed", "list")

    assert result.returncode == 2
    assert b"network" in result.stderr


def test_show_says_why_and_what_to_do(net: Network, directory: Path) -> None:
    net.add("msul2", start=False)
    net.write()

    shown = net.command("delayed", "show", "1.1.0.echo.msul2").stdout.decode()

    assert re.search(r"^since +20\d\d-", shown, re.MULTILINE)
    assert re.search(rf"^by +{pwd.getpwuid(os.getuid()).pw_name}$", shown, re.MULTILINE)
    assert re.search(r"^why +lond was lost during each attempt$", shown, re.MULTILINE)
    assert re.search(r"^do +see delayed_attempt_lost in the log, then retry$", shown, re.MULTILINE)
    assert "secret" not in shown


def test_list_and_show_print_json(net: Network, directory: Path) -> None:
    net.add("msul2", start=False)
    net.write()

    listed = json.loads(net.command("delayed", "list", "--json").stdout)
    shown = json.loads(net.command("delayed", "show", "--json", "1.1.0.echo.msul2").stdout)

    assert [item["state"] for item in listed] == [
        "waiting",
        "unfinished",
        "settling",
        "quarantined: max_attempts",
    ]
    assert (shown["host"], shown["attempts"], shown["retry"]) == ("msul2", 5, True)
    assert "request" not in shown


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        (("--all",), 2),
        (("--host", "msul2"), 1),
        (("--reason", "too_large"), 1),
        (("--host", "msul2", "--reason", "too_large"), 0),
    ],
)
@pytest.mark.parametrize("action", ["retry", "discard"])
def test_several_files_are_selected(
    net: Network, directory: Path, action: str, options: tuple[str, ...], moved: int
) -> None:
    net.add("msul2", start=False)
    net.add("msul3", start=False)
    net.write()
    (directory / "quarantine/1.1.4.put.msul3").write_bytes(b"put:x\n")
    (directory / ".notes/1.1.4.put.msul3").write_bytes(b"0 too_large\n")

    refused = net.command("delayed", action, *options, stdin=b"n\n")
    left = len(list((directory / "quarantine").iterdir()))
    done = net.command("delayed", action, *options, "--yes")

    assert (refused.returncode, left, done.returncode) == (2, 2, 0)
    assert len(list((directory / "quarantine").iterdir())) == 2 - moved


def test_retry_that_cannot_work_says_so(net: Network, directory: Path) -> None:
    net.add("msul2", start=False)
    net.write()
    (directory / "quarantine/1.1.0.echo.msul2").chmod(0o606)

    result = net.command("delayed", "retry", "1.1.0.echo.msul2")

    assert result.returncode == 2
    assert b"will not be sent: writable_by_others: all users may write to it" in result.stdout


@pytest.mark.parametrize("options", [(), ("name", "--all")])
def test_retry_needs_one_selection(net: Network, directory: Path, options: tuple[str, ...]) -> None:
    net.add("msul2", start=False)
    net.write()

    result = net.command("delayed", "retry", *options)

    assert result.returncode == 2
    assert b"give either NAME, or --host, --reason or --all" in result.stderr


def test_options_may_stand_before_the_command(net: Network, directory: Path) -> None:
    """--config and LONC_CONFIG, wherever they stand."""
    net.add("msul2", start=False)
    net.write()
    program = [sys.executable, "-m", "lonc_gevent"]
    config = str(net.config)
    places: tuple[tuple[list[str], dict[str, str]], ...] = (
        (["-c", config, "delayed", "list"], {}),
        (["delayed", "-c", config, "list"], {}),
        (["delayed", "list", "--config", config], {}),
        (["delayed", "list"], {"LONC_CONFIG": config}),
    )
    for arguments, env in places:
        result = subprocess.run(
            program + arguments, env=os.environ | env, capture_output=True, check=False
        )
        assert (result.returncode, result.stdout.count(b"\n")) == (0, 5), arguments
