# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules for all files of the repository: licence, size, scripts, example configurations."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
NOTICE = "SPDX-License-Identifier: GPL-2.0-or-later"
WITHOUT_NOTICE = {".json", ".md", ".png", ".snapshots", ".txt", ".typed"}
"""Files of these names are text for people, or data whose form has no comments: see LICENSE."""
FOLDERS = (".ci", "config", "docs", "lonc_gevent", "scripts", "tests")
FILES = [path for path in ROOT.iterdir() if path.is_file()]
FILES += [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
]
"""All files of the repository, found without git, which the machine may not have."""


def first_lines(path: Path) -> list[str]:
    """Return the first three lines: the notice is in the first, or below a `#!`."""
    return path.read_text(encoding="utf-8").splitlines()[:3]


def states_the_licence(path: Path) -> bool:
    """Return whether a file has the licence notice in its first lines."""
    return any(NOTICE in line for line in first_lines(path))


def scripts() -> list[Path]:
    """Return the scripts that people run: scripts/* and .ci/*, without folders and Markdown."""
    return [
        path
        for path in FILES
        if path.parent in {ROOT / "scripts", ROOT / ".ci"} and path.suffix != ".md"
    ]


def test_files_state_the_licence() -> None:
    """Every file that can have a comment has the SPDX line at its top."""
    generated = {"COPYING", "PKG-INFO", "setup.cfg"}  # of a build; the last two are in an sdist
    files = [
        path for path in FILES if path.suffix not in WITHOUT_NOTICE and path.name not in generated
    ]

    assert [path for path in files if not states_the_licence(path)] == []
    assert len(files) > len(scripts())


def test_licence_names_the_copyright_holder() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert re.search(r"^Copyright 20\d\d the lonc-gevent authors$", text, re.MULTILINE)


def test_scripts_can_be_run() -> None:
    """Every script is executable and names its interpreter, found on PATH."""
    for path in scripts():
        assert os.access(path, os.X_OK), path
        assert first_lines(path)[0].startswith("#!/usr/bin/env "), path


def test_both_commands_are_there() -> None:
    """The two commands of the README exist, and the check that calls one of them."""
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert names >= {"scripts/quickstart", "scripts/test", ".ci/run"}


def test_modules_are_small() -> None:
    """No module is longer than 350 lines."""
    modules = [path for path in FILES if path.suffix == ".py" and TESTS not in path.parents]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}

    assert {path: length for path, length in lengths.items() if length > 350} == {}


def test_shell_scripts_parse() -> None:
    """Bash finds no syntax error in any script."""
    shell = [path for path in FILES if path.suffix == ".sh"]
    shell += [path for path in scripts() if "bash" in first_lines(path)[0]]
    for path in shell:
        done = subprocess.run(["bash", "-n", path], capture_output=True, check=False, text=True)
        assert (done.returncode, done.stderr) == (0, ""), path


def test_supervisord_conf_explains_its_variables() -> None:
    """The comment at the top of supervisord.conf lists every environment variable that it uses."""
    text = (ROOT / "config" / "supervisord.conf").read_text(encoding="utf-8")
    top, _, _ = text.partition("\n[")
    used = set(re.findall(r"%\(ENV_(\w+)\)s", text))

    assert used == {name for name in used if re.search(rf"^;\s+{name}  ", top, re.MULTILINE)}
    assert used


@pytest.mark.parametrize("name", ["supervisord.conf", "demo-londs.conf", "demo-web.conf"])
def test_supervisord_waits_longer_than_a_stop_takes(name: str) -> None:
    """The programs are stopped by TERM, and by KILL only well after `admin.stop_timeout`."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(ROOT / "config" / name, encoding="utf-8")
    programs = [parser[section] for section in parser.sections() if section.startswith("program:")]

    assert programs
    for program in programs:
        assert program["stopsignal"] == "TERM", program.name
        least = 10 if program.name == "program:lonc-gevent" else 5
        assert int(program["stopwaitsecs"]) >= least, program.name


def test_demo_has_a_stand_in_for_each_host() -> None:
    """The demo's supervisord programs and its hosts.tab name the same hosts."""
    text = (ROOT / "config" / "demo-londs.conf").read_text(encoding="utf-8")
    programs = re.findall(r"^\[program:lond-(\w+)\]$", text, re.MULTILINE)
    named = re.findall(r"--id (\w+)", text)
    lines = (ROOT / "config" / "hosts.tab").read_text(encoding="utf-8").splitlines()
    hosts = [line.split(":")[0] for line in lines if line.strip() and line[0] not in "#^"]

    assert programs == named
    assert sorted(hosts) == sorted(programs)
