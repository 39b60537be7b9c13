# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import bounds, instructions, machine, solo, tables
from bench.processes import BenchError, Workshop
from bench.quiet import Quiet
from bench.rounds import Rounds, all_right, progress
from bench.scenarios import CHECKS, QUICK, QUICK_CHECKS, SCENARIOS, Plan, describe

if TYPE_CHECKING:
    from types import FrameType


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="The daemon beside HAProxy and a bare gevent relay."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios and checks; none: all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument(
        "--patience",
        type=float,
        default=600.0,
        help="seconds to wait, in all, for others to leave the machine alone",
    )
    parser.add_argument("--quick", action="store_true", help="a look of a minute")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    parser.add_argument("--markdown", action="store_true", help="tables as BENCH.md has them")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions a request, nothing else"
    )
    return parser.parse_args()


def plan_of(chosen: argparse.Namespace) -> Plan:
    """Return what is to be done. Raises BenchError for a name that there is not."""
    unknown = [name for name in chosen.names if name not in SCENARIOS and name not in CHECKS]
    if unknown:
        raise BenchError(f"there is no {unknown[0]}: scripts/bench --list says what there is")
    names = chosen.names or [*SCENARIOS, *CHECKS]
    plan = Plan([], rounds=chosen.rounds, seconds=chosen.seconds)
    plan.idle_seconds, plan.patience = chosen.idle_seconds, chosen.patience
    if chosen.quick:
        names = chosen.names or [*QUICK, *QUICK_CHECKS]
        plan.rounds, plan.seconds, plan.idle_seconds, plan.patience = 3, 0.7, 20.0, 0.0
    plan.scenarios = [SCENARIOS[name] for name in SCENARIOS if name in names]
    plan.checks = [CHECKS[name] for name in CHECKS if name in names]
    return plan


def report(chosen: argparse.Namespace, plan: Plan, workshop: Workshop) -> bool:
    """Measure and print; return whether all bounds are kept."""
    began = time.monotonic()
    about = machine.describe()
    others = workshop.others_seconds()
    quiet = Quiet(workshop.others_seconds, plan.patience)
    rounds = Rounds(workshop, plan, quiet)
    rounds.run()
    alone = {check.name: solo.run(check.name, workshop, plan, quiet) for check in plan.checks}
    verdicts = bounds.judge(rounds.samples, alone)
    wrong = all_right(rounds.samples)
    took = time.monotonic() - began
    others = workshop.others_seconds() - others
    about["run"] = (
        f"{plan.rounds} rounds of {plan.seconds:g} s, {took:.0f} s in all,"
        f" {time.strftime('%Y-%m-%d')}"
    )
    about["others"] = f"used {100 * max(others, 0.0) / took:.0f} % of a core meanwhile"
    if quiet.measured:
        again = quiet.tries / quiet.measured
        about["disturbed"] = (
            f"{again:.2f} tries for each comparison (1: none was),"
            f" {quiet.waited:.0f} s spent on waiting for quiet"
        )
    parts = [tables.machine_table(about)]
    parts += [tables.rounds_table(rounds.samples)] * bool(rounds.samples)
    parts += [tables.solo_table(alone)] * bool(alone)
    parts += [tables.verdict_table(verdicts)] * bool(verdicts)
    layout = tables.markdown if chosen.markdown else tables.plain
    print("\n\n".join(layout(part) for part in parts))
    for line in wrong:
        print(f"WRONG: {line}")
    if chosen.json:
        everything = {
            "machine": about,
            "samples": rounds.samples,
            "checks": alone,
            "bounds": [vars(verdict) for verdict in verdicts],
            "wrong": wrong,
        }
        Path(chosen.json).write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    missed = sum(not verdict.good for verdict in verdicts)
    print(f"\n{len(verdicts)} bounds, {len(verdicts) - missed} kept, {missed} not yet")
    return not missed and not wrong


def main() -> int:
    """Run it; return the exit code: 0 all bounds kept, 1 not, 2 it could not be measured."""
    chosen = options()
    if chosen.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:22}{describe(scenario)}")
        for name, check in CHECKS.items():
            print(f"{name:22}{check.meaning}")
        return 0
    try:
        plan = plan_of(chosen)
        with Workshop() as workshop:
            if chosen.instructions:
                instructions.print_all(workshop)
                return 0
            return 0 if report(chosen, plan, workshop) else 1
    except BenchError as error:
        progress("")
        print(f"bench: {error}", file=sys.stderr)
        return 2


def interrupted(number: int, _frame: FrameType | None) -> None:
    """End, and let nothing that was started outlive us."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, interrupted)
    sys.exit(main())
