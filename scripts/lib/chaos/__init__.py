# SPDX-License-Identifier: GPL-2.0-or-later
"""The chaos run: random faults, and checkers that compare what clients got with what londs did.

scene.py     the daemon, the londs, their disks and clocks
record.py    requests, shortened, and what the londs have recorded of them
clients.py   clients that note the reply to each request, and clients that are killed
faults.py    the faults, one function each
verdict.py   what must hold, checked after each fault and at the end
run.py       the run: a seed, minutes, a timeline, a verdict
"""
