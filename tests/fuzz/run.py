# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one fuzz target under atheris, for `scripts/fuzz`.

    run.py search TARGET FOLDER [libFuzzer options]
    run.py keep TARGET FOLDER

`search` adds inputs that reach new code to FOLDER, and exits with 0 if none breaks the target.
`keep` makes the target's corpus anew: the fewest inputs of FOLDER and of the corpus that reach,
with the seeds, all that these reach. It is to follow a `search` that found nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import atheris
import corpus

with atheris.instrument_imports(include=["lonc_gevent"]):
    from targets import SEEDS, TARGETS


def fill(folder: Path, inputs: list[bytes]) -> None:
    """Write the inputs into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (folder / f"known-{number}").write_bytes(data)


def search(name: str, folder: Path, options: list[str]) -> None:
    """Fill the folder with what is known, and search until libFuzzer's options say to stop."""
    if not any("merge" in option for option in options):
        fill(folder, [*SEEDS[name], *corpus.load(name)])
    # libFuzzer starts itself again, by this command, to merge.
    command = f"{sys.executable} {__file__} search {name}"
    atheris.Setup([command, str(folder), *options], TARGETS[name])
    atheris.Fuzz()


def keep(name: str, folder: Path) -> None:
    """Let libFuzzer choose which inputs to keep besides the seeds, and pack them."""
    before = corpus.load(name)
    fill(folder, before)
    chosen = folder.with_name(f"{name}.chosen")
    shutil.rmtree(chosen, ignore_errors=True)
    fill(chosen, SEEDS[name])
    merge = [str(chosen), "-set_cover_merge=1", str(folder)]
    subprocess.run(
        [sys.executable, __file__, "search", name, *merge], check=True, capture_output=True
    )
    kept = {path.read_bytes() for path in chosen.iterdir()} - set(SEEDS[name])
    corpus.save(name, kept)
    print(f"{name}: {len(before)} inputs before, {len(kept)} now")  # noqa: T201 - for people


def main() -> None:
    """Do what the first argument names."""
    action, name, folder, *options = sys.argv[1:]
    if action == "keep":
        keep(name, Path(folder))
    else:
        search(name, Path(folder), options)


if __name__ == "__main__":
    main()
