# SPDX-License-Identifier: GPL-2.0-or-later
"""Delayed requests: the directory on disk, and sending what waits there once its host is back.

files.py       a single file or folder: open or make it, whatever stands under its name
directory.py   the directory: open without following links, write whole files, put files away
look.py        one look at one file: whether it can be trusted, and what it holds
spool.py       one request's way through it: seal, claim, done, quarantine
scan.py        the look through the whole directory, in slices
listing.py     what a person sees of it (`lonc-gevent delayed`)
hostreplay.py  the greenlet that sends one host's files, in order
replayer.py    the greenlet that looks, and gives each host its own
keyfile.py     the key that seals requests at rest
"""
