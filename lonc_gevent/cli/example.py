# SPDX-License-Identifier: GPL-2.0-or-later
"""`lonc-gevent example`: print the configuration examples of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

import lonc_gevent

_PACKAGE: Final = Path(lonc_gevent.__file__).parent
_FOLDERS: Final = (_PACKAGE / "examples", _PACKAGE.parent / "config")
"""Where the examples are: in an installed package, and in the repository."""


@click.command("example")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Print an example of a configuration file; without NAME, list the examples."""
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    files = {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if name is None:
        click.echo("\n".join(files))
    elif name in files:
        click.echo(files[name].read_text(encoding="utf-8"), nl=False)
    else:
        raise click.BadParameter(f"{name!r} is not one of: {', '.join(files)}", param_hint="NAME")
