# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/debian-root."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from debian.root import ROOTS, SUITES, USER, Options, RootError, fresh, make
from debian.scenarios import SCENARIOS


def main() -> int:
    """Run the command; return the exit code."""
    options = arguments()
    given = Options(options.mirror, tuple(options.copy), tuple(options.env))
    try:
        if options.command == "make":
            for name in options.systems:
                print(make(SUITES[name], given))
            return 0
        if options.command == "shell":
            with fresh(SUITES[options.system], given) as root:
                if options.boot:
                    root.boot()
                root.run("bash", check=False, interactive=True)
            return 0
        return try_scenarios(options, given)
    except RootError as error:
        print(f"debian-root: {error}", file=sys.stderr)
        return 1


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--mirror", default="http://deb.debian.org/debian", help="address of Debian's archive")
    add("--copy", metavar="FILE", action="append", default=[], type=Path)
    add("--env", metavar="NAME", action="append", default=[])
    parser = argparse.ArgumentParser(
        prog="scripts/debian-root",
        epilog="Each command takes --mirror URL, --copy FILE (a file that the system gets from this"
        " machine) and --env NAME (a variable that its commands get).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("make", parents=[common], help="make bare systems")
    sub.add_argument("systems", nargs="+", choices=SUITES)
    sub = commands.add_parser("try", parents=[common], help="run scenarios in fresh copies")
    sub.add_argument("system", choices=SUITES)
    sub.add_argument("scenarios", nargs="+", choices=SCENARIOS)
    sub.add_argument("--user", action="store_true", help="as a user; otherwise as root")
    sub = commands.add_parser("shell", parents=[common], help="open a shell in a fresh copy")
    sub.add_argument("system", choices=SUITES)
    sub.add_argument("--boot", action="store_true", help="under its own systemd")
    return parser.parse_args()


def try_scenarios(options: argparse.Namespace, given: Options) -> int:
    """Run each scenario in a fresh copy, its output into a file; print a row of a table each."""
    user = USER if options.user else "root"
    failed = False
    for name in options.scenarios:
        log = ROOTS / "logs" / f"{options.system}-{user}-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with fresh(SUITES[options.system], given) as root:
            try:
                output, result = SCENARIOS[name](root, user), "passed"
            except RootError as error:
                output, result = str(error), f"FAILED, see {log}"
        failed |= result != "passed"
        log.write_text(output, encoding="utf-8")
        seconds = time.monotonic() - began
        print(f"Debian {options.system:<8} {user:<7} {name:<20} {seconds:6.0f} s  {result}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
