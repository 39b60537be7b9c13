# SPDX-License-Identifier: GPL-2.0-or-later
"""The window into the daemon: status, metrics, health and a few commands, over HTTP.

server.py    the admin socket: which path is answered by what
httpd.py     HTTP on it: bounded connections, deadlines
controls.py  what may be done to a host: pause, resume, reconnect
status.py    the status document
history.py   the last 15 minutes, for charts and recent quantiles
metrics.py   the same counts for Prometheus
slices.py    long answers made in slices, so that nobody waits for them
page/        the status page, one file
"""
