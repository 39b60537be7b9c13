# SPDX-License-Identifier: GPL-2.0-or-later
"""The chaos run: random faults, and checkers that compare what clients got with what londs did.

scene.py     the daemon, the londs, their disks and clocks
record.py    requests in brief, and what the londs have recorded of them
people.py    clients that ask and write down what they got, and clients that are there to be killed
trouble.py   the faults, one function each
verdict.py   what must hold, looked at after each fault and at the end
run.py       the run: a seed, minutes, a timeline, a verdict
"""
