# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests: the directory on disk, and the replay of its files once their host is up.

requests.py      names and contents of files, and lond's answers, without I/O
seal.py          encryption of requests at rest, without I/O
key_file.py      the key for it
files.py         a single file or folder: open or create it without following links
directory.py     the open directory: write whole files, quarantine files, keep notes
inspection.py    one file: whether it can be trusted, and what it holds
spool.py         the steps of one request: claim, done, note an attempt, quarantine, seal
context.py       what scans and replay share: the spool, threads, log events
scan.py          a scan of the whole directory, in slices
listing.py       the rows of `lonc-gevent delayed list`
host_replay.py   the greenlet that sends one host's files, in order
replayer.py      starts the scans, and a greenlet for each host that has files
"""
