# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP API on the admin socket: status, metrics, health and a few commands.

server.py       which path is answered by what
http_server.py  limits on HTTP clients: connections, bytes, work, time
documents.py    large documents, made once for clients that ask at the same time
status.py       the structure of the status document, without I/O
reporter.py     the status document of the moment
history.py      the last 15 minutes, for charts and recent quantiles, without I/O
recorder.py     the greenlet that reads all counters for it
metrics.py      the same counters for Prometheus
report.py       the text report that USR1 writes
page/           the status page, one file
"""
