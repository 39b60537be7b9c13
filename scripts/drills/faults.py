# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault suite as one table: each fault, what clients saw, what was logged, the recovery.

It runs tests/system/test_faults.py and prints what the tests wrote. Options go to pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree.ElementTree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "tests" / "system" / "test_faults.py"
COLUMNS = ("fault", "clients saw", "logged", "recovery")


def rows(report: Path) -> list[tuple[str, ...]]:
    """Return the rows that the tests wrote into pytest's report."""
    found = []
    for case in ElementTree(file=str(report)).iter("testcase"):
        properties = {p.get("name"): p.get("value") or "" for p in case.iter("property")}
        if "fault" in properties:
            found.append(tuple(properties[column] for column in COLUMNS))
    return found


def main() -> int:
    """Run the drill."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", str(SUITE)]
        command += ["-o", "junit_family=xunit1", f"--junit-xml={report}", *sys.argv[1:]]
        done = subprocess.run(command, cwd=ROOT, check=False)
        table = [COLUMNS, *rows(report)]
    print()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in table[1:]:
        print(f"| {' | '.join(row)} |")
    print("good" if done.returncode == 0 else "NOT GOOD")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
