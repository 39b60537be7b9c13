# SPDX-License-Identifier: GPL-2.0-or-later
"""The sdist and the wheel, built offline; scripts/build tries more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lonc_gevent import __version__

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).resolve().parents[2]
NAME = f"lonc_gevent-{__version__}"
FOLDERS = (".ci", "config", "docs", "lonc_gevent", "scripts", "tests")
GENERATED = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
LICENCE = Path("/usr/share/common-licenses/GPL-2")


def copy_repository(target: Path) -> Path:
    """Copy the repository without what tools and builds left in it."""
    target.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and path.name != "COPYING" and not path.name.startswith(".cov"):
            shutil.copyfile(path, target / path.name)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=GENERATED)
    return target


def build(tree: Path, command: str, umask: int = 0o022) -> Path:
    """Build an sdist or a wheel from a tree; return it."""
    env = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", command],
        cwd=tree,
        env=env,
        umask=umask,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (built,) = (tree / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(copy_repository(folder / "tree"), "sdist")) as archive:
        archive.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Return the wheel that the sdist gives, built as a user with a strict umask."""
    return build(sdist, "bdist_wheel", umask=0o077)


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))


def test_sdist_has_all_files_of_the_repository(sdist: Path) -> None:
    files = {
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {Path(name) for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")}

    assert {path for path in files if not (sdist / path).is_file()} == set()


def test_wheel_is_the_same_from_repository_and_sdist(wheel: Path, tmp_path: Path) -> None:
    again = build(copy_repository(tmp_path / "tree"), "bdist_wheel")

    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_wheel_has_the_examples(wheel: Path) -> None:
    """All files of config/ except those of the demonstration."""
    config = ROOT / "config"
    expected = {
        f"lonc_gevent/examples/{path.relative_to(config)}": path.read_bytes()
        for path in config.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "demo-" not in path.name
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if "/examples/" in name}

    assert found == expected


@pytest.mark.skipif(not LICENCE.exists(), reason="no copy of the GPL's text on this system")
def test_wheel_has_the_text_of_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{NAME}.dist-info/licenses/COPYING") == LICENCE.read_bytes()
    assert metadata(wheel).get_all("License-File") == ["LICENSE", "COPYING"]


def test_links_of_the_long_description_are_absolute(wheel: Path) -> None:
    """README.md as an index shows it, where no file is beside it."""
    text = metadata(wheel).get_payload()

    assert isinstance(text, str)
    assert f"/blob/v{__version__}/docs/guide/operation.md)" in text
    assert f"/raw/v{__version__}/docs/status-page.png)" in text
    assert "](docs/" not in text


def test_installed_wheel_prints_its_examples(wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(wheel, tmp_path, "zip")
    command = [sys.executable, "-m", "lonc_gevent", "example"]

    def example(*name: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, *name], cwd=tmp_path, capture_output=True, check=False)

    assert b"lonc.toml\n" in example().stdout
    assert example("lonc.toml").stdout == (ROOT / "config" / "lonc.toml").read_bytes()
    refused = example("lonc.tom")
    assert (refused.returncode, b"'lonc.tom' is not one of" in refused.stderr) == (2, True)
