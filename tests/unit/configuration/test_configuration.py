# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration read from real files."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import damage
import pytest

from lonc_gevent.configuration import files as configuration_files
from lonc_gevent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config"
BASE = '[network]\nhost_id = "msul1"\nhosts_tab = "hosts.tab"\n'


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """Write a configuration that passes, to be damaged."""
    (tmp_path / "hosts.tab").write_text("msul1:msu:library:localhost\n")
    path = tmp_path / "lonc.toml"
    path.write_text(BASE)
    return path


@pytest.fixture
def open_toml() -> Iterator[Path]:
    """Write the same in a folder that everybody may write to (unlike tmp_path's)."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        (Path(name) / "hosts.tab").write_text("msul1:msu:library:localhost\n")
        path = Path(name) / "lonc.toml"
        path.write_text(BASE)
        yield path


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Do something without root's privileges, if we have them."""
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def problems_of(path: Path, *, to_run: bool = False) -> list[str]:
    """Examine what has problems; return them with the folder's name cut out."""
    examined = configuration_files.examine(path, to_run=to_run)
    assert examined.problems
    return [str(problem).replace(f"{path.parent}/", "") for problem in examined.problems]


# -- files ------------------------------------------------------------------------------------


def test_relative_paths_count_from_the_file(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory does not matter, but for finding the TOML file itself."""
    monkeypatch.chdir(toml.parent.parent)
    loaded = configuration_files.load(toml.relative_to(toml.parent.parent))
    assert loaded.settings.network.hosts_tab == str(toml.parent / "hosts.tab")
    assert loaded.settings.sockets.directory == str(toml.parent / "sockets")


def test_removed_working_directory_is_a_problem(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative name in a directory that was removed is no traceback."""
    gone = toml.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError):
        configuration_files.load(Path("lonc.toml"))
    assert configuration_files.load(toml).hosts


@pytest.mark.parametrize("name", ["lonc.toml", "hosts.tab", "loncapa.conf"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("directory", "is a directory"),
        ("fifo", "is a FIFO"),
        ("socket", "is a socket"),
        ("device", "is a device"),
        ("loop", "is a loop of symbolic links"),
    ],
)
def test_what_is_no_file(toml: Path, name: str, kind: str, words: str) -> None:
    """Whatever is there in place of a file is named, and never waited for."""
    toml.write_text(BASE + 'loncapa_conf = "loncapa.conf"\n')
    (toml.parent / "loncapa.conf").write_text("")
    path = toml.parent / name
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
    lines = problems_of(toml)
    assert len(lines) == 1, lines
    key = {"hosts.tab": "network.hosts_tab", "loncapa.conf": "network.loncapa_conf"}.get(name)
    start = f"lonc.toml: {key}: " if key else "lonc.toml: "
    assert lines[0].startswith(start)
    assert words in lines[0]
    assert "expected a " in lines[0]


def test_unreadable_file_is_a_problem(open_toml: Path) -> None:
    """A file that this user may not read is reported with its key."""
    (open_toml.parent / "hosts.tab").chmod(0)
    with as_nobody():
        assert "may not be read by this user" in problems_of(open_toml)[0]


def test_file_over_its_limit_is_a_problem(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond all reason is refused; a sparse one costs nothing to make."""
    with (toml.parent / "hosts.tab").open("wb") as stream:
        stream.truncate(configuration_files.OTHER_MAX + 1)
    assert "is larger than 64 MB" in problems_of(toml)[0]
    with toml.open("wb") as stream:
        stream.truncate(configuration_files.TOML_MAX + 1)
    assert problems_of(toml) == [
        "lonc.toml: is larger than 1 MB; expected a TOML file that can be read"
    ]


def test_binary_files_are_problems(toml: Path) -> None:
    """Any bytes at all give problems, none of them long or unprintable."""
    (toml.parent / "hosts.tab").write_bytes(os.urandom(100_000))
    assert all(line.isprintable() for line in problems_of(toml))
    toml.write_bytes(b"\xff" + os.urandom(100_000))
    assert problems_of(toml) == ["lonc.toml: line 1: byte 0xff is not UTF-8; expected a TOML file"]


# -- what `run` needs of the machine ----------------------------------------------------------


def test_surroundings_are_asked_for_only_to_run(toml: Path) -> None:
    """A command that only talks to the daemon does not need what the daemon needs."""
    toml.write_text(BASE + '[sockets]\ngroup = "no-such-group-here"\n')
    assert configuration_files.load(toml).settings.sockets.group == "no-such-group-here"
    assert 'sockets.group: no group "no-such-group-here"' in problems_of(toml, to_run=True)[0]


def test_surroundings_come_with_the_other_problems(toml: Path) -> None:
    """One go tells all; but nothing of a default that stands in for a bad value."""
    (toml.parent / "sockets").write_text("a file where the default directory would be")
    toml.write_text(BASE + '[sockets]\ngroup = "no-such-group-here"\ndirectory = 3\n')
    (toml.parent / "hosts.tab").write_text("bad line\n")
    keys = [line.split(": ")[:2] for line in problems_of(toml, to_run=True)]
    assert ["lonc.toml", "sockets.directory"] in keys
    assert ["hosts.tab", "line 1"] in keys
    assert ["lonc.toml", "sockets.group"] in keys
    assert keys.count(["lonc.toml", "sockets.directory"]) == 1


def test_good_surroundings(toml: Path) -> None:
    """Directories that the daemon makes need not be there yet; a group of ours is fine."""
    group = grp.getgrgid(os.getegid()).gr_name
    toml.write_text(f'{BASE}[sockets]\ngroup = "{group}"\ndirectory = "run/x/s"\n')
    assert configuration_files.examine(toml, to_run=True).problems == ()


@pytest.mark.parametrize("key", ["pid_file", "report_file"])
def test_missing_directory_that_the_daemon_does_not_make_is_a_problem(toml: Path, key: str) -> None:
    toml.write_text(f'{BASE}[daemon]\n{key} = "run/x"\n')

    (problem,) = problems_of(toml, to_run=True)
    assert problem.startswith(f"lonc.toml: daemon.{key}: ")
    assert problem.endswith('/run" does not exist; expected a directory to write to')


@pytest.mark.parametrize(
    ("table", "line", "key"),
    [
        ("sockets", 'directory = "file/x"', "sockets.directory"),
        ("sockets", 'directory = "file"', "sockets.directory"),
        ("delayed", 'directory = "file"', "delayed.directory"),
        ("admin", 'socket = "file/admin"', "admin.socket"),
        ("daemon", 'pid_file = "file/pid"', "daemon.pid_file"),
        ("daemon", 'report_file = "file/report"', "daemon.report_file"),
        ("delayed", 'perm_log = "file/log"', "delayed.perm_log"),
        ("delayed", 'key_file = "none"', "delayed.key_file"),
    ],
)
def test_bad_surroundings(toml: Path, table: str, line: str, key: str) -> None:
    """A file in place of a directory, and a missing file, are reported by key."""
    (toml.parent / "file").write_text("")
    toml.write_text(f"{BASE}[{table}]\n{line}\n")
    assert f"lonc.toml: {key}" in {
        ": ".join(x.split(": ")[:2]) for x in problems_of(toml, to_run=True)
    }


def test_unwritable_directory_is_a_problem(open_toml: Path) -> None:
    """The nearest directory that exists must be one that we can write to and look into."""
    (open_toml.parent / "closed").mkdir(mode=0o555)
    (open_toml.parent / "shut").mkdir(mode=0)
    open_toml.write_text(
        BASE + '[daemon]\npid_file = "closed/pid"\nreport_file = "shut/more/report"\n'
    )
    with as_nobody():
        lines = problems_of(open_toml, to_run=True)
    expected = "expected a directory to write to"
    assert lines == [
        f'lonc.toml: daemon.pid_file: "closed" may not be written to by this user; {expected}',
        f'lonc.toml: daemon.report_file: "shut/more" may not be read by this user; {expected}',
    ]


def test_the_group_must_be_one_of_ours(open_toml: Path) -> None:
    """Only root can give a socket to a group that it is not in."""
    other = grp.getgrgid(0).gr_name
    open_toml.write_text(f'{BASE}[sockets]\ngroup = "{other}"\n')
    with as_nobody():
        lines = problems_of(open_toml, to_run=True)
    assert f'lonc.toml: sockets.group: this user is not in group "{other}"' in lines[0]


def test_certificates_must_be_readable(toml: Path) -> None:
    """Where ssl is asked for, its three files are looked at."""
    names = ("certificate", "private_key", "ca_certificate")
    files = "".join(f'{name} = "{name}"\n' for name in names)
    toml.write_text(f"{BASE}{files}")
    assert configuration_files.load(toml, to_run=True).hosts, "no ssl, no need"
    toml.write_text(f'{BASE}{files}security = "ssl"\n')
    (toml.parent / "private_key").write_text("")
    lines = problems_of(toml, to_run=True)
    assert [line.split(": ")[1] for line in lines] == [
        "network.certificate",
        "network.ca_certificate",
    ]


# -- damage -----------------------------------------------------------------------------------


def test_damaged_files_never_give_a_traceback(tmp_path: Path) -> None:
    """Of some thousand random damages each ends in a Configuration or in problems."""
    summary = damage.run(2000, 20261124, CONFIG, tmp_path)
    assert summary.failures == []
    assert summary.good > 20, "some damage does no harm"
    assert summary.refused > 1000, "most does"
    assert summary.slowest < 5
