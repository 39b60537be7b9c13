# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests: the directory on disk, and the replay of its files once their host is up.

requests.py      names, contents and answers of delayed requests, without I/O
seal.py          encryption of requests at rest, without I/O
key_file.py      the key for it
files.py         a single file or folder: open or create it without following links
directory.py     the directory: write whole files, quarantine files
inspection.py    one file: whether it can be trusted, and what it holds
spool.py         the steps of one request: seal, claim, done, quarantine
scan.py          a pass through the whole directory, in slices
listing.py       what `lonc-gevent delayed` shows
host_replay.py   the greenlet that sends one host's files, in order
replayer.py      starts the passes, and a greenlet for each host that has files
"""
