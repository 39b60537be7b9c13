# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lib/setup.sh: what it prints if it cannot make .venv."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bash(tree: Path, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the functions of a tree's setup.sh."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; source scripts/lib/setup.sh; {command}"],
        cwd=tree,
        env={**os.environ, **env},
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder that has nothing of the repository but setup.sh."""
    (tmp_path / "scripts" / "lib").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "lib" / "setup.sh", tmp_path / "scripts" / "lib")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            "WARNING: broken: Temporary failure in name resolution\nERROR: No match for setuptools",
            "no access to the package index: Temporary failure",
        ),
        (
            "one\nERROR: Invalid requirement: 'x y'\nhint: see above",
            "ERROR: Invalid requirement: 'x y'",
        ),
        (
            "OSError: [Errno 28] No space left on device",
            "OSError: [Errno 28] No space left on device",
        ),
        ("one\ntwo", "two"),
    ],
    ids=["network", "error", "full disk", "no error"],
)
def test_failed_command_prints_its_cause_in_one_line(tree: Path, output: str, cause: str) -> None:
    done = bash(tree, 'quietly sh -c \'printf "%s\\n" "$OUTPUT"; exit 3\'', OUTPUT=output)

    log = tree / "var" / "set-up.log"
    expected = f"set-up: {cause} (sh failed with exit code 3; its output is in {log})\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
    assert log.read_text(encoding="utf-8") == f"{output}\n"


def test_python_too_old_is_named_in_one_line(tree: Path) -> None:
    old = tree / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)

    done = bash(tree, "set_up dev", PYTHON=str(old))

    assert done.returncode == 1
    assert done.stderr == f"set-up: PYTHON={old} is not a Python 3.11 or newer that starts\n"
